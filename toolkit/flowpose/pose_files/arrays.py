"""Poses in NumPy files: .npy [n,J,3], [n,J,2], [J,3], [n,P,J,3] with P people, or .npz with such an array `keypoints`.

Beside it a .npz may have `format`, `size` (height, width), `times` (seconds) and `rate` (frames a second). NaN as x and
y is a missing joint, as trackers write it; so is what `Pose.of` takes for one.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import Pose
from flowpose.pose_files.frames import KINDS, Asked, Frame, Recording, canvas, named, number, placed

BROKEN = (
    ValueError, TypeError, KeyError, EOFError, OSError, RuntimeError, MemoryError, OverflowError, SyntaxError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise on files that are not what their first bytes say."""


def read_arrays(file: Path, asked: Asked) -> Recording:
    """Returns one frame a pose or row of people.

    Raises:
        PoseError: no NumPy file, no array `keypoints`, a wrong shape, or what is wrong with which pose.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise PoseError(file, f"cannot be read ({error})", expected=KINDS) from error
    with stream:  # opened here: NumPy leaves a file that it cannot read open
        try:
            data = np.load(stream, allow_pickle=False)
        except BROKEN as error:
            raise PoseError(file, f"not a NumPy file ({error})", expected=KINDS) from error
        if isinstance(data, np.ndarray):
            return Recording(_frames(file, data, asked, None))
        with data:
            return _archive(file, data, asked)


def _archive(file: Path, data: Any, asked: Asked) -> Recording:
    if "keypoints" not in data:
        raise PoseError(
            file, "has no array 'keypoints'", got=", ".join(data.files), expected="keypoints [n, J, 3]"
        )
    format = str(_array(file, data, "format")) if "format" in data else asked.format
    size = canvas(f"{file}: size", _array(file, data, "size")) if "size" in data else asked.size
    rate = number(f"{file}: rate", _array(file, data, "rate")) if "rate" in data else None
    times = _array(file, data, "times") if "times" in data else None
    own = replace(asked, format=format, size=size)
    return Recording(_frames(file, _array(file, data, "keypoints"), own, times), rate)


def _array(file: Path, data: Any, name: str) -> Any:
    try:
        return data[name]
    except BROKEN as error:
        raise PoseError(
            f"{file}: {name}", f"cannot be read ({error})", expected="an array of numbers"
        ) from error


def _frames(file: Path, array: Any, asked: Asked, times: Any) -> tuple[Frame, ...]:
    stack = array[None] if array.ndim == 2 else array
    if stack.ndim not in (3, 4):
        raise PoseError(file, "wrong shape", got=list(array.shape), expected="keypoints [n, J, 3] or [J, 3]")
    if times is not None and (times.ndim != 1 or len(times) != len(stack)):
        raise PoseError(f"{file}: times", "wrong shape", got=list(times.shape), expected=[len(stack)])
    frames = []
    for i, rows in enumerate(stack):
        where = str(file) if array.ndim == 2 else f"{file}: [{i}]"
        people = tuple(_pose(where, each, asked) for each in (rows if rows.ndim == 3 else rows[None]))
        time = None if times is None else number(f"{file}: times[{i}]", times[i])
        frames.append(Frame(where, people, time))
    return tuple(frames)


def _pose(where: str, rows: Any, asked: Asked) -> Pose:
    if rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows[:, :2]).all(1)[:, None], 0, rows)
    pose = named(where, Pose.of, rows, asked.format)
    return placed(where, pose, asked.size, asked.units == "normalised")
