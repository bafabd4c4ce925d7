"""Errors as clients see them: a status, and where, got, expected and fix as JSON (RFC 9457); never a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from flowpose.errors import (
    BackendError,
    DataError,
    FlowposeError,
    ImageError,
    MissingDependency,
    PoseError,
)

__all__ = ["PROBLEM", "Refused", "invalid", "problem", "respond", "status_of", "unexpected"]

MEDIA_TYPE = "application/problem+json"
SHOWN = 200  # characters of a value that an error shows


class Refused(FlowposeError):
    """A request or message that the server does not take, whatever it would compute.

    Attributes:
        status: HTTP status that says so.
    """

    def __init__(
        self,
        status: int,
        where: object,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.status = status
        super().__init__(where, what, got=got, expected=expected, fix=fix)


STATUS: Mapping[type[FlowposeError], int] = {
    PoseError: 422, ImageError: 422, DataError: 404, MissingDependency: 501, BackendError: 503,
}  # fmt: skip
"""Error -> HTTP status; every other one that the server raises is its own fault."""

PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What is wrong, where, what was got, what would have been right, and what mends it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:flowpose:NAME of the error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        **{name: {"type": "string"} for name in ("where", "got", "expected", "fix")},
    },
}
"""Schema of the body of every error."""


def status_of(error: FlowposeError) -> int:
    """Returns the HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def problem(error: FlowposeError) -> dict[str, Any]:
    """Returns the error as a table of JSON."""
    parts = {name: getattr(error, name) for name in ("where", "got", "expected", "fix")}
    return {
        "type": f"urn:flowpose:{type(error).__name__}",
        "title": error.what,
        "status": status_of(error),
        "detail": str(error)[: 4 * SHOWN],
        **{name: str(value)[:SHOWN] for name, value in parts.items() if value is not None},
    }


def respond(error: FlowposeError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the response that tells an error."""
    found = problem(error)
    return JSONResponse(found, found["status"], dict(headers or {}), MEDIA_TYPE)


def invalid(error: RequestValidationError) -> JSONResponse:
    """Returns the response to a request whose fields are not what the API says; names the first one."""
    first = error.errors()[0]
    where = ".".join(map(str, first.get("loc", ("request",))))
    got = first.get("input")
    shown = repr(got)[:SHOWN] if isinstance(got, str | int | float | bool) else None
    return respond(Refused(422, where, str(first["msg"]), got=shown, fix="see /openapi.json"))


def unexpected(error: HTTPException) -> JSONResponse:
    """Returns the response to what the framework refuses: no such page, another method, a body that is none."""
    what = HTTPStatus(error.status_code).phrase
    got = None if error.detail == what else error.detail
    return respond(Refused(error.status_code, "request", what, got=got), error.headers)
