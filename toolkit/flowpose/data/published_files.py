"""The files of published person sets, row by row: annotations, pose texts, pairs and lists, in all their forms.

Every reader here takes `tell`, which gets each fault as an error: `stop` raises the first one, a check collects them
and goes on behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError, FlowposeError

JOINTS = 18
ANNOTATION_COLUMNS = ("name", "keypoints_y", "keypoints_x")
PAIR_COLUMNS = ("from", "to")
SEPARATORS = (",", ";", ":", "\t", "|")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
PAIR_KEYS = ("source_image", "target_image")

Floats = NDArray[np.float32]
Tell = Callable[[FlowposeError], None]


def stop(error: FlowposeError) -> None:
    """Raises the fault: what readers do."""
    raise error


def _lines(path: Path, tell: Tell) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what, fix = f"cannot be read ({error})", "copy the file again"
        tell(DataError(path, what, got=type(error).__name__, expected="a text in UTF-8", fix=fix))
        return []


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in line.split(separator)]


def _head(
    path: Path, lines: list[str], columns: tuple[str, ...], separator: str, tell: Tell
) -> tuple[int, str]:
    """The number of the first row's line, from 0, and the separator that the file has."""
    header, where = separator.join(columns), f"{path} line 1"
    if not lines:
        tell(DataError(where, "another header", got="an empty file", expected=repr(header), fix=_again(path)))
        return 0, separator
    if _cells(lines[0], separator) == list(columns):
        return 1, separator
    got = repr(lines[0][:80])
    for other in SEPARATORS:
        if _cells(lines[0], other) == list(columns):
            fix = f"write {separator!r} for {other!r} between the columns of {path}"
            tell(DataError(where, "another separator", got=repr(other), expected=repr(separator), fix=fix))
            return 1, other
    if _cells(lines[0], separator)[0].lower().endswith(PICTURE_SUFFIXES):
        fix = f"sed -i '1i {header}' {path}"
        tell(DataError(where, "the header is missing", got=got, expected=repr(header), fix=fix))
        return 0, separator
    fix = f"sed -i '1c {header}' {path}, if the columns are in that order"
    tell(DataError(where, "another header", got=got, expected=repr(header), fix=fix))
    return 1, separator


def delete_row(where: str) -> str:
    """The command that deletes the line that `FILE line N` names."""
    path, _, number = where.rpartition(" line ")
    return f"sed -i '{number}d' {path}" if path else f"delete {where}"


def _again(path: Path) -> str:
    return f"put the published {path.name} there again"


def _table(
    path: Path, columns: tuple[str, ...], separator: str, tell: Tell
) -> Iterator[tuple[str, list[str]]]:
    """(where, cells) of each row, as many as there are columns."""
    lines = _lines(path, tell)
    first, found = _head(path, lines, columns, separator, tell)
    for number, line in enumerate(lines[first:], first + 1):
        cells, where = _cells(line, found), f"{path} line {number}"
        if len(cells) == len(columns):
            yield where, cells
            continue
        expected, fix = repr(separator.join(columns)), f"mend the line, or {delete_row(where)}"
        tell(
            DataError(where, "a row of another length", got=f"{len(cells)} cells", expected=expected, fix=fix)
        )


def annotation_rows(path: Path, tell: Tell) -> Iterator[tuple[str, str, Floats | None]]:
    """(where, name, xy f32[18, 2] in the numbers of the file) of each row; None where they are no joints."""
    for where, (name, y, x) in _table(path, ANNOTATION_COLUMNS, ":", tell):
        columns = [_numbers(where, cell, tell) for cell in (x, y)]
        whole = [column for column in columns if column is not None]
        yield where, name, np.stack(whole, 1) if len(whole) == 2 else None


def _numbers(where: str, cell: str, tell: Tell) -> Floats | None:
    """f32[18] in a cell such as `[12, -1, ...]`."""
    expected = f"a list of {JOINTS} numbers"
    fix = "annotate the picture again, or delete the row and the pairs of its picture"
    try:
        with np.errstate(over="ignore"):  # infinite, which is told below
            found = np.array(json.loads(cell), np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError, RecursionError):
        tell(DataError(where, "not joints", got=repr(cell[:40]), expected=expected, fix=fix))
        return None
    if found.shape == (JOINTS,) and np.isfinite(found).all():
        return found
    tell(DataError(where, "not joints", got=f"{found.size} numbers", expected=expected, fix=fix))
    return None


def pose_text(path: Path, tell: Tell) -> Floats | None:
    """f32[18, 2], x and y in the numbers of a file of 18 lines `x y`; None where it has others."""
    lines = [line.split() for line in _lines(path, tell) if line.strip()]
    try:
        with np.errstate(over="ignore"):
            found = np.array(lines, np.float64).astype(np.float32)
    except ValueError:
        found = np.empty(0, np.float32)
    if found.shape == (JOINTS, 2) and np.isfinite(found).all():
        return found
    got, expected = f"{len(lines)} lines", f"{JOINTS} lines of two numbers, x y"
    tell(DataError(path, "not joints", got=got, expected=expected, fix="write the pose text again"))
    return None


def csv_pairs(path: Path, tell: Tell) -> Iterator[tuple[str, str, str]]:
    """(where, source, target) of each row below the header `from,to`."""
    for where, (source, target) in _table(path, PAIR_COLUMNS, ",", tell):
        yield where, source, target


def text_pairs(path: Path, tell: Tell) -> Iterator[tuple[str, str, str]]:
    """(where, source, target) of lines `target,source[,source...]` without a header, as PIDM's loader takes them."""
    for number, line in enumerate(_lines(path, tell), 1):
        names, where = _cells(line, ","), f"{path} line {number}"
        if len(names) < 2 or not all(names):
            fix = f"mend the line, or {delete_row(where)}"
            tell(DataError(where, "not a pair", got=repr(line[:80]), expected="target,source", fix=fix))
            continue
        for source in names[1:]:
            yield where, source, names[0]


def json_pairs(path: Path, tell: Tell) -> Iterator[tuple[str, str, str]]:
    """(where, source, target) of a JSON list of `{source_image, target_image}`, as PCDMs and FPDM have them."""
    expected = f"a list of {{{', '.join(PAIR_KEYS)}}}"
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        got = type(error).__name__
        tell(DataError(path, f"not JSON ({error})", got=got, expected=expected, fix=_again(path)))
        return
    if not isinstance(rows, list):
        tell(
            DataError(
                path, "not a list of pairs", got=type(rows).__name__, expected=expected, fix=_again(path)
            )
        )
        return
    for number, row in enumerate(rows):
        names = [row.get(key) for key in PAIR_KEYS] if isinstance(row, dict) else [None]
        if all(isinstance(name, str) for name in names):
            yield f"{path} [{number}]", *names
        else:
            got = repr(row)[:80]
            tell(DataError(f"{path} [{number}]", "not a pair", got=got, expected=expected, fix="delete it"))


def listed_names(path: Path, tell: Tell) -> Iterator[tuple[str, str]]:
    """(where, name) of each line of a list that is not blank."""
    for number, line in enumerate(_lines(path, tell), 1):
        if line.strip():
            yield f"{path} line {number}", line.strip()
