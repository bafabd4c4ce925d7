"""What /openapi.json says beyond the endpoints' own signatures: every status that an endpoint may answer with."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from flowpose.serve.problems import MEDIA_TYPE, PROBLEM

__all__ = ["MOTION", "PICTURES", "answers", "described"]

PICTURES = "Picture"
MOTION = "Motion"
ALWAYS = (403, 408, 413, 421)  # the gate's, on whatever path
TEXT, NUMBER = {"type": "string"}, {"type": "number"}
NUMBERS = {"type": "array", "items": NUMBER}


def _table(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(fields), "properties": fields}


SCHEMAS: Mapping[str, dict[str, Any]] = {
    "Problem": PROBLEM,
    "Health": _table(status={"const": "ok"}, model=TEXT, version=TEXT),
    "Model": _table(
        name=TEXT, size=NUMBERS, precision=TEXT, backend=TEXT, threads=NUMBER, target={"type": ["string", "null"]},
        protocol=TEXT, format=TEXT, joints={"type": "array", "items": TEXT},
        limbs={"type": "array", "items": NUMBERS}, people={"type": "array", "items": TEXT},
        encodings={"type": "array", "items": TEXT}, limits={"type": "object", "additionalProperties": NUMBER},
    ),
    MOTION: _table(
        format=TEXT, size=NUMBERS, times=NUMBERS,
        poses={"type": "array", "items": {"type": ["array", "null"], "items": NUMBER}},
    ),
}  # fmt: skip
"""Schemas of what is answered in JSON."""

GOOD: Mapping[str, dict[str, Any]] = {
    **{name: {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}} for name in SCHEMAS},
    "Metrics": {"text/plain": {"schema": TEXT}},
    PICTURES: {
        f"image/{kind}": {"schema": {"type": "string", "format": "binary"}}
        for kind in ("png", "jpeg", "webp")
    },
}
"""Name -> content of a 200."""


def answers(good: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of an endpoint: what it gives, and the errors that it may answer with."""
    wrong = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        200: {"description": good, "content": GOOD[good]},
        **{status: {"description": HTTPStatus(status).phrase, "content": wrong}
           for status in sorted({*ALWAYS, *statuses})},
    }  # fmt: skip


def described(app: FastAPI, *, secured: bool) -> None:
    """Adds the schemas, and the token where one is needed, to the application's description."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        found = made()
        parts = found.setdefault("components", {})
        parts["schemas"] = {**_without_null(parts.get("schemas", {})), **SCHEMAS}
        for path, methods in found["paths"].items():
            for operation in methods.values():
                if path in NOT_JSON:
                    operation["responses"]["200"]["content"].pop("application/json", None)
                if secured and "401" in operation["responses"]:
                    operation["security"] = [{"token": []}]
        if secured:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return found

    app.openapi = openapi  # type: ignore[method-assign]


def _without_null(schemas: dict[str, Any]) -> dict[str, Any]:
    """The schemas of forms as forms are: a field that may be left out, and never null, which no form can say."""
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
            if len(kinds) == 1:
                rest = {key: value for key, value in field.items() if key != "anyOf"}
                schema["properties"][name] = {**kinds[0], **rest}
    return schemas


NOT_JSON = ("/infer", "/metrics")  # FastAPI adds its own default to what these answer
