"""Poses in CSV and text files: DeepFashion's annotations, and motions with a column a coordinate.

DeepFashion's CSV has cells between ':' and a row a picture: name, 18 y, 18 x; -1 in either is missing. Its whole
numbers count pixels from 0, so half a pixel is added. `fasion-resize-annotation-*.csv` belongs to pictures of 256 x 176
(height x width), `fasion-annotation-*.csv` to the same with 40 white columns on either side, 256 x 256. An x of 176 or
more tells the padded one; format="deepfashion-18-padded" says so where no row has one. Pose texts are always padded.

Other CSV files have a row a frame and columns `left_wrist_x`, `left_wrist_y`, `left_wrist_score` (or _confidence,
_visibility) with joints of any format, in any order and case; an empty cell, NaN or x = y = -1 is a missing joint.
Columns `time` or `time_ms` are the times, rows of one `frame` number are people of one frame, further columns are left
alone.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import DEEPFASHION, FORMATS, Floats, Pose, format_of
from flowpose.pose_files.frames import (
    Asked,
    Frame,
    Recording,
    holding,
    named,
    placed,
    read_text,
    time_in,
)

HEADER = ("name", "keypoints_y", "keypoints_x")
PADDED = "deepfashion-18-padded"
PICTURE = (256, 176)  # height and width of a DeepFashion picture
PADDING = 40  # white columns on either side of a padded one
JOINTS = 18
SCORES = ("score", "confidence", "visibility")


def read_csv(file: Path, asked: Asked) -> Recording:
    """Returns one frame a picture of DeepFashion's, or one a row or frame number.

    Raises:
        PoseError: a header that names no joints, or what is wrong with which row.
    """
    text = read_text(file)
    first, _, rest = text.partition("\n")
    if tuple(cell.strip() for cell in first.split(":")) == HEADER:
        return _deepfashion(file, rest.split("\n"), asked)
    return _columns(file, text, asked)


def read_txt(file: Path, asked: Asked) -> Frame:
    """Returns the frame of one DeepFashion pose text: 18 lines x y in the padded picture.

    Raises:
        PoseError: another number of lines or numbers, or another format asked for.
    """
    _check_asked(file, asked)
    rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
    where, expected = str(file), f"{JOINTS} lines x y"
    if len(rows) != JOINTS or any(len(row) != 2 for row in rows):
        raise PoseError(where, "not a DeepFashion pose", got=f"{len(rows)} lines", expected=expected)
    return Frame(where, (_body(where, _floats(where, rows, expected), padded=True),), name=file.stem)


def _check_asked(file: Path, asked: Asked) -> None:
    choices = (DEEPFASHION, PADDED, "openpose-18")
    if asked.format is not None and asked.format not in choices:
        got, expected = f"format '{asked.format}'", " or ".join(choices)
        raise PoseError(file, "holds DeepFashion rows", got=got, expected=expected)
    if asked.units == "normalised":
        raise PoseError(file, "holds DeepFashion rows", got="units 'normalised'", expected="pixels")


def _deepfashion(file: Path, lines: Sequence[str], asked: Asked) -> Recording:
    _check_asked(file, asked)
    found = [(f"{file} line {i}", line) for i, line in enumerate(lines, 2) if line.strip()]
    rows = [_row(where, line) for where, line in found]
    padded = asked.format == PADDED
    if asked.format is None:
        padded = any((xy[:, 0] >= PICTURE[1]).any() for _, xy in rows)
    return Recording(
        tuple(
            Frame(where, (_body(where, xy, padded),), name=name)
            for (where, _), (name, xy) in zip(found, rows, strict=True)
        )
    )


def _row(where: str, line: str) -> tuple[str, Floats]:
    """Returns the picture's name and f32[18,2] (x, y) as the file has them."""
    cells = [cell.strip() for cell in line.split(":")]
    if len(cells) != len(HEADER):
        got = f"{len(cells)} cells"
        raise PoseError(where, "a row of another length", got=got, expected=":".join(HEADER))
    expected = f"two lists of {JOINTS} numbers"
    try:
        y, x = (json.loads(cell) for cell in cells[1:])
    except (ValueError, RecursionError) as error:
        raise PoseError(where, f"not lists ({error})", got=repr(line[:40]), expected=expected) from error
    if not all(isinstance(axis, list) and len(axis) == JOINTS for axis in (x, y)):
        raise PoseError(where, "not joints", got=repr(line[:40]), expected=expected)
    return cells[0], _floats(where, list(zip(x, y, strict=True)), expected)


def _floats(where: str, rows: Any, expected: str) -> Floats:
    try:
        with np.errstate(over="ignore"):
            return np.array(rows, np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise PoseError(where, "not numbers", expected=expected) from error


def _body(where: str, xy: Floats, padded: bool) -> Pose:
    seen = (xy != -1).all(1)
    rows = np.column_stack([xy + 0.5 - [PADDING if padded else 0, 0], seen])
    return named(where, Pose.of, np.where(seen[:, None], rows, 0), "openpose-18", PICTURE)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Where a CSV file's columns are.

    Attributes:
        format: the smallest that has all the joints, or the one asked for.
        spots: joint's number -> columns of x, y and score (-1: none).
    """

    format: str
    spots: dict[int, tuple[int, int, int]]


def _columns(file: Path, text: str, asked: Asked) -> Recording:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True) if row]
    except csv.Error as error:
        raise PoseError(file, f"not CSV ({error})", expected="a header and a row a frame") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    columns = _told(file, header, asked.format)
    people: dict[Any, list[Pose]] = {}
    tables: dict[Any, tuple[str, dict[str, str]]] = {}
    for i, row in enumerate(rows[1:], 2):
        where = f"{file} row {i}"
        if len(row) != len(header):
            got = f"{len(row)} cells"
            raise PoseError(where, "a row of another length", got=got, expected=f"{len(header)} cells")
        table = {key: cell for key, cell in zip(header, row, strict=True) if cell.strip()}
        key = table.get("frame", (i,))
        people.setdefault(key, []).append(_joints(where, row, columns, asked))
        tables.setdefault(key, (where, table))
    return Recording(
        tuple(
            Frame(where, tuple(people[key]), time_in(where, table, asked))
            for key, (where, table) in tables.items()
        )
    )


def _told(file: Path, header: Sequence[str], format: str | None) -> _Columns:
    places = {name.lower(): i for i, name in enumerate(header)}
    joints = [name[:-2] for name in places if name.endswith("_x")]
    alone = next((joint for joint in joints if joint + "_y" not in places), None)
    if alone is not None:
        raise PoseError(file, "has an x without its y", got=f"{alone}_x", expected=f"{alone}_y beside it")
    if not joints:
        expected = "columns such as left_wrist_x, left_wrist_y, left_wrist_score"
        raise PoseError(file, "names no joints", got=", ".join(header)[:80], expected=expected)
    found = holding(joints) if format is None else format_of(format).name
    every = {joint for name in ([found] if found else FORMATS) for joint in FORMATS[name].joints}
    if found is None or not set(joints) <= every:
        strange = next((joint for joint in joints if joint not in every), joints[0])
        near = difflib.get_close_matches(strange, sorted(every), 1)
        fix = f"did you mean '{near[0]}_x'?" if near and near[0] != strange else None
        what = "no such joint" if strange not in every else "no format has all these joints"
        raise PoseError(file, what, got=strange, expected=found or "joints of one format", fix=fix)
    spots = {
        FORMATS[found].index(joint): (
            places[joint + "_x"], places[joint + "_y"],
            next((places[f"{joint}_{kind}"] for kind in SCORES if f"{joint}_{kind}" in places), -1),
        )
        for joint in joints
    }  # fmt: skip
    return _Columns(found, spots)


def _joints(where: str, row: Sequence[str], columns: _Columns, asked: Asked) -> Pose:
    rows = np.zeros((len(FORMATS[columns.format].joints), 3))
    for joint, (x, y, score) in columns.spots.items():
        cells = [row[x], row[y], row[score] if score >= 0 else "1"]
        try:
            rows[joint] = [float(cell) if cell.strip() else float("nan") for cell in cells]
        except ValueError as error:
            name = FORMATS[columns.format].joints[joint]
            raise PoseError(f"{where}.{name}", "not numbers", got=", ".join(cells)[:40]) from error
    rows[np.isnan(rows).any(1) | (rows[:, :2] == -1).all(1)] = 0
    pose = named(where, Pose.of, rows, columns.format)
    return placed(where, pose, asked.size, asked.units == "normalised")
