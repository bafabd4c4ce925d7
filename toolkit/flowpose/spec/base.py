"""The base of every record that is read from a file, and the texts of its mistakes.

Reading is strict: an unknown key, a number in quotes or a fraction for a whole number is an error. A file's
mistakes are reported together, each with its path and, where there is a near name, a "did you mean".
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic_core import ErrorDetails
from typing_extensions import Self

from ..errors import SpecError

Precision = Literal["fp32", "fp16", "int8", "fp8"]
"""What a frame graph computes in, where it can: the layers that its recipe names."""

_GOT_LENGTH = 80  # characters of a wrong value that are shown


class Spec(pydantic.BaseModel):
    """A frozen record without room for unknown keys."""

    # pydantic would write NaN as null; kept as it is, `canonical` refuses it.
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @classmethod
    def parse(cls, data: object, where: str, *, source: object = None) -> Self:
        """Returns the record that `data` describes.

        Args:
            data: what a YAML or JSON file holds: dicts, lists, strings, numbers (records are taken too).
            where: what the paths of the problems start with, such as `recipe` in `recipe.distill.steps`.
            source: the file, named at the head of the error; `where` unless given.

        Raises:
            SpecError: with every problem of `data`.
        """
        head = where if source is None else source
        try:
            text = json.dumps(data, default=_plain)
        except (
            TypeError,
            ValueError,
            RecursionError,
        ) as error:  # a set, bytes, a table as a key, a list in itself
            raise SpecError(head, [f"{where}: holds what no file of this kind can ({error})"]) from error
        try:
            # Strict JSON: no "3" for 3, but a list for a tuple and 3 for 3.0, which is what a file can say.
            return cls.model_validate_json(text, strict=True)
        except pydantic.ValidationError as error:
            problems = _problems(cls, error.errors(include_url=False), data, where)
        raise SpecError(head, problems)


def canonical(data: object) -> bytes:
    """Returns the one JSON text of a record or of plain data, for digests: sorted keys, no blanks, UTF-8.

    Raises:
        SpecError: the data holds NaN or infinity, which JSON has no number for.
    """
    try:
        text = json.dumps(
            data, default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except ValueError as error:
        raise SpecError("canonical JSON", [f"a number is not finite ({error})"]) from error
    return text.encode()


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` with the choice nearest to `word`, or nothing when none is near."""
    lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f" (did you mean '{lower[found[0]]}'?)" if found else ""


def one_of(choices: Iterable[object]) -> str:
    """Returns `one of 'a', 'b'`, or `'a'` for a single choice."""
    texts = [repr(choice) for choice in choices]
    return texts[0] if len(texts) == 1 else "one of " + ", ".join(texts)


def records(union: object, key: str) -> Mapping[str, type[Any]]:
    """Returns tag -> record of a union whose members are told apart by their literal field `key`."""
    found = [record for member in _members(union) if (record := _record(member))]
    return types.MappingProxyType({tag: record for record in found for tag in _tags(record, key)})


def _plain(value: object) -> object:
    """Turns a record, a path or a date into what JSON can hold."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (PurePath, date)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a file")


def _problems(model: type[Spec], details: Iterable[ErrorDetails], data: object, where: str) -> list[str]:
    """Returns the texts of pydantic's errors, without those of union members that are plainly not meant."""
    places = [(_walk(model, detail["loc"], data), detail) for detail in details]
    return list(dict.fromkeys(_problem(place, detail, where) for place, detail in places if place.meant))


def _problem(place: _Place, detail: ErrorDetails, where: str) -> str:
    """Returns the text of one pydantic error: path, fault, value found, value expected."""
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    path = ".".join([where, *place.names])
    if kind == "extra_forbidden":
        keys = list(place.owner.model_fields)
        return f"{path}: unknown key, expected {one_of(keys)}{nearest(place.names[-1], keys)}"
    if kind == "missing":
        return f"{path}: missing key, expected {_describe(place.hint)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _tag_problem(path, context, got, place.hint)
    if kind == "literal_error":
        choices = get_args(_bare(place.hint)) if get_origin(_bare(place.hint)) is Literal else ()
        expected = one_of(choices) if choices else context["expected"]
        hint = nearest(str(got), map(str, choices))
        return f"{path}: unknown value, got {_show(got)}, expected {expected}{hint}"
    return f"{path}: {_fault(kind, context, detail['msg'], got)}"


def _tag_problem(path: str, context: Mapping[str, Any], got: object, union: object) -> str:
    """Returns the text for a record whose kind is absent or unknown."""
    key = str(context["discriminator"]).strip("'")
    tags = [tag for member in _members(union) for tag in _tags(member, key)]
    found = got.get(key) if isinstance(got, Mapping) else None
    if found is None:
        return f"{path}.{key}: missing key, expected {one_of(tags)}"
    hint = nearest(str(found), tags)
    return f"{path}.{key}: unknown value, got {_show(found)}, expected {one_of(tags)}{hint}"


# pydantic's error type: what is wrong, and what would be right (filled in from the error's context).
_FAULTS: dict[str, tuple[str, str]] = {
    "int_type": ("wrong type", "a whole number"),
    "int_from_float": ("wrong type", "a whole number"),
    "float_type": ("wrong type", "a number"),
    "string_type": ("wrong type", "a text"),
    "bool_type": ("wrong type", "true or false"),
    "dict_type": ("wrong type", "a table of keys and values"),
    "model_type": ("wrong type", "a table of keys and values"),
    "model_attributes_type": ("wrong type", "a table of keys and values"),
    "tuple_type": ("wrong type", "a list"),
    "list_type": ("wrong type", "a list"),
    "none_required": ("wrong type", "nothing (null)"),
    "greater_than": ("too small", "more than {gt}"),
    "greater_than_equal": ("too small", "at least {ge}"),
    "less_than": ("too large", "less than {lt}"),
    "less_than_equal": ("too large", "at most {le}"),
    "multiple_of": ("not a multiple", "a multiple of {multiple_of}"),
    "finite_number": ("not finite", "a finite number"),
    "string_pattern_mismatch": ("wrong form", "the pattern {pattern}"),
    "string_too_short": ("too short", "at least {min_length} characters"),
    "string_too_long": ("too long", "at most {max_length} characters"),
    "too_short": ("too few values ({actual_length})", "at least {min_length}"),
    "too_long": ("too many values", "at most {max_length}"),
}


def _fault(kind: str, context: Mapping[str, Any], message: str, got: object) -> str:
    """Returns fault, value found and value expected of an error that is about one value."""
    if kind == "value_error":  # raised by a validator of ours, whose text already says what was got
        return str(context["error"])
    if kind not in _FAULTS:
        return f"{message}, got {_show(got)}"
    what, expected = (text.format_map(context) for text in _FAULTS[kind])
    return f"{what}, got {_show(got)}, expected {expected}"


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the file an error is.

    Attributes:
        names: the keys on the way, as the file has them.
        owner: the innermost record.
        hint: the type expected there.
        meant: False below a member of a union that fits the file's keys less than another member does.
    """

    names: tuple[str, ...]
    owner: type[Spec]
    hint: object
    meant: bool


def _walk(model: type[Spec], loc: Sequence[int | str], data: object) -> _Place:
    """Follows pydantic's location, which has keys, indices and, between them, members of unions."""
    names: list[str] = []
    here: object = model
    owner, meant = model, True
    for part in loc:
        below, named = _step(here, part)
        if named:
            names.append(str(part))
            data = _below(data, part)
        else:
            meant = meant and _fits_best(here, below, part, data)
        here = below
        owner = _record(here) or owner
    return _Place(tuple(names), owner, here, meant)


def _below(data: object, part: int | str) -> object:
    """Returns what the file holds at a key or an index, None where there is nothing."""
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _fits_best(union: object, member: object, part: int | str, data: object) -> bool:
    """Whether no other record of an untagged union has more of the keys that the file gives."""
    record = _record(member)
    if record is None or part != record.__name__ or not isinstance(data, Mapping):
        return True
    records = [found for found in map(_record, _members(union)) if found is not None]
    return record is max(records, key=lambda candidate: len(data.keys() & candidate.model_fields.keys()))


def _step(here: object, part: int | str) -> tuple[object, bool]:
    """Returns the type below `here` at `part`, and whether `part` is a key or an index."""
    members = _members(here)
    if len(members) > 1:
        tagged = [m for m in members if _is_tag(m, part)]
        if tagged:
            return tagged[0], False
    for member in members:
        record = _record(member)
        if record is not None and part in record.model_fields:
            return record.model_fields[str(part)].annotation, True
        origin, args = get_origin(member), get_args(member)
        if origin in (tuple, list) and isinstance(part, int):
            variable = origin is list or (len(args) == 2 and args[1] is Ellipsis)
            return (args[0] if variable else args[part] if part < len(args) else None), True
        if origin in (dict, Mapping):
            return args[1], True
    return None, True


def _is_tag(member: object, part: int | str) -> bool:
    """Whether pydantic means this member of a union by `part`."""
    record = _record(member)
    if record is None:
        return str(part).split("[")[0] == getattr(member, "__name__", None)
    fields = record.model_fields
    return part == record.__name__ or any(part in _tags(record, key) for key in fields)


def _tags(member: object, key: str) -> list[str]:
    """Returns the values that the record's field `key` admits, if it is a literal."""
    record = _record(member)
    field = record.model_fields.get(key) if record else None
    return list(get_args(field.annotation)) if field and get_origin(field.annotation) is Literal else []


def _bare(hint: object) -> object:
    """Returns the type without `Annotated`, and without `None` where one other type is left."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    members = _members(hint)
    return members[0] if len(members) == 1 and members[0] is not hint else hint


def _members(hint: object) -> list[object]:
    """Returns the members of a union other than None, or the type itself."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    return [m for arg in get_args(hint) if arg is not type(None) for m in _members(arg)]


def _record(hint: object) -> type[Spec] | None:
    """Returns the record class that the type is, if it is one."""
    bare = _bare(hint)
    return bare if isinstance(bare, type) and issubclass(bare, Spec) else None


_NAMES: dict[object, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _describe(hint: object) -> str:
    """Returns a type in words."""
    members = _members(hint)
    if len(members) > 1:
        return " or ".join(dict.fromkeys(_describe(member) for member in members))
    bare = _bare(hint)
    record, origin = _record(bare), get_origin(bare)
    if record is not None:
        return "a table with " + ", ".join(record.model_fields)
    if origin is Literal:
        return one_of(get_args(bare))
    if origin in (tuple, list):
        return "a list"
    return _NAMES.get(bare, "a table" if origin in (dict, Mapping) else "a value")


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _GOT_LENGTH else text[: _GOT_LENGTH - 3] + "..."
