"""A hook of MkDocs: pages made of the code. Commands from their help, spec fields from the records that read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import typer
from griffe import Docstring, DocstringSectionKind
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from flowpose.cli import app
from flowpose.spec.base import Spec
from flowpose.spec.calibration import Calibration
from flowpose.spec.recipe import Recipe
from flowpose.spec.target import Target

RECORDS: dict[str, tuple[type[Spec], str]] = {
    "recipe": (Recipe, "A recipe says what is made. What ships: [recipes](../../recipes/README.md)."),
    "target": (Target, "A target says where a model runs. What ships: [targets](../../targets/README.md)."),
    "calibration": (
        Calibration,
        "A calibration set says which pairs fix the ranges of INT8. What ships: [sets](../../calib/README.md).",
    ),
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "minItems": "at least {} of them",
    "pattern": "pattern `{}`",
}
"""A keyword of JSON Schema -> how a range is said."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds reference/cli.md and a page for each kind of spec."""
    files.append(File.generated(config, "reference/cli.md", content=commands()))
    for name, (record, about) in RECORDS.items():
        files.append(File.generated(config, f"reference/{name}.md", content=fields(record, about)))
    return files


def commands() -> str:
    """A page of every command, its arguments and options, as `--help` says them."""
    command = get_command(app)
    context = typer.Context(command, info_name="flowpose")
    text = get_docs_for_click(obj=command, ctx=context, name="flowpose", title="Commands")
    return text.replace("```console\n$ ", "```text\n")


def fields(record: type[Spec], about: str) -> str:
    """A page with a table for a record and for each record below it.

    Raises:
        PluginError: a record has no docstring.
    """
    texts = [f"# {record.__name__} fields", about, UNKNOWN]
    for each in records(record):
        words, attributes = described(each)
        rows = [row(name, field, attributes, each) for name, field in schema(each).items()]
        texts += [
            f"## {each.__name__}",
            words,
            "\n".join(["| key | takes | default | |", "|---|---|---|---|", *rows]),
        ]
    return "\n\n".join(texts) + "\n"


UNKNOWN = (
    "An unknown key, a wrong type and a value out of range are errors; all of a file are listed at once."
)


def records(record: type[Spec]) -> list[type[Spec]]:
    """The record, then all that its fields may hold, each once, in the order in which they are met."""
    found = [record]
    for each in found:
        for field in each.model_fields.values():
            found += [below for below in spec_types(field.annotation) if below not in found]
    return found


def spec_types(hint: object) -> Iterator[type[Spec]]:
    """Spec records in a type, such as the members of a union."""
    if isinstance(hint, type) and issubclass(hint, Spec):
        yield hint
    for part in get_args(hint) if get_origin(hint) is not None else ():
        yield from spec_types(part)


def described(record: type[Spec]) -> tuple[str, Mapping[str, str]]:
    """What a record's docstring says of it, and of each of its attributes and its bases'."""
    if not vars(record).get("__doc__"):
        raise PluginError(f"a spec record without a docstring: {record.__name__}")
    attributes: dict[str, str] = {}
    texts: list[str] = []
    for each in reversed([base for base in record.__mro__ if issubclass(base, Spec) and base is not Spec]):
        texts = []
        for section in Docstring(each.__doc__ or "", parser="google").parse(warnings=False):
            if section.kind is DocstringSectionKind.attributes:
                attributes |= {part.name: part.description for part in section.value}
            elif section.kind is DocstringSectionKind.text:
                texts.append(section.value)
    return "\n\n".join(texts), attributes


def schema(record: type[Spec]) -> Mapping[str, Any]:
    """Field -> what JSON Schema says of it; records below are referred to by name."""
    found: Mapping[str, Any] = record.model_json_schema()["properties"]
    return found


def row(name: str, field: Mapping[str, Any], attributes: Mapping[str, str], record: type[Spec]) -> str:
    """A line of the table."""
    required = record.model_fields[name].is_required()
    default = "required" if required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
    return " | ".join([f"| `{name}`", takes(field), default, cell(attributes.get(name, "")) + " |"])


def takes(field: Mapping[str, Any]) -> str:
    """A field's type and range in words."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    members = field.get("anyOf") or field.get("oneOf")
    if members:
        return " or ".join(dict.fromkeys(takes(member) for member in members))
    limits = [text.format(field[key]) for key, text in LIMITS.items() if key in field]
    return ", ".join([kind(field), *limits])


def kind(field: Mapping[str, Any]) -> str:
    """The name of a plain type, with what a list or a table holds."""
    name = str(field.get("type", "anything"))
    if name == "array":
        inner = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {takes(inner)}"
    if name == "object":
        inner = field.get("additionalProperties")
        return f"table of {takes(inner)}" if isinstance(inner, dict) else "table"
    return {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}.get(
        name, name
    )


def cell(text: str) -> str:
    """A text as a table's cell holds it."""
    return " ".join(text.split()).replace("|", "\\|")
