"""What every kind of pose file is read into, and what the readers share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import FORMATS, Floats, Pose

UNITS = ("pixels", "normalised")
KINDS = (
    "OpenPose, COCO or MediaPipe .json or .jsonl, a folder of such .json or of DeepFashion .txt, .csv, .pose, "
    ".npy [n, J, 3], .npz with 'keypoints'"
)

SIDES = (
    ("height", "width"), ("canvas_height", "canvas_width"), ("image_height", "image_width"),
    ("imageHeight", "imageWidth"),
)  # fmt: skip
SECONDS = {"time": 1.0, "seconds": 1.0, "time_ms": 1e-3, "timestamp_ms": 1e-3, "timestampMs": 1e-3}
"""Key or column of a frame's time -> seconds that it counts in."""

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Asked:
    """What the caller says of a file.

    Attributes:
        format: name of the format where the shape alone does not tell it.
        size: (height, width) of the canvas where the file does not give it.
        units: one of UNITS, None where the kind of file tells it.
        timed: whether times are wanted.

    Raises:
        PoseError: other units.
    """

    format: str | None = None
    size: tuple[int, int] | None = None
    units: str | None = None
    timed: bool = False

    def __post_init__(self) -> None:
        if self.units is not None and self.units not in UNITS:
            raise PoseError("units", "unknown units", got=repr(self.units), expected=" or ".join(UNITS))


@dataclass(frozen=True, eq=False)
class Frame:
    """The people of one frame or picture.

    Attributes:
        where: the file and the entry.
        people: their poses, in the order of the file.
        time: seconds, from any start; None where the file gives none.
        name: of the picture, where the file gives it.
    """

    where: str
    people: tuple[Pose, ...]
    time: float | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """All frames of a file.

    Attributes:
        frames: in order.
        rate: frames a second, where the file gives them.
        pictures: the frames are pictures of a set; in one without people nobody is annotated.
    """

    frames: tuple[Frame, ...]
    rate: float | None = None
    pictures: bool = False


def read_text(file: Path) -> str:
    """Returns what a text file holds, without a byte order mark."""
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PoseError(file, f"cannot be read ({error})", expected=KINDS) from error


def read_json(where: str, text: str) -> Any:
    """Returns what a JSON text holds."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PoseError(where, f"not JSON ({error})", expected=KINDS) from error


def named(where: str, make: Callable[..., Made], *values: Any) -> Made:
    """Returns what `make` returns, and puts the file's name before the place of an error."""
    try:
        return make(*values)
    except PoseError as error:
        raise error.at(f"{where}: {error.where}") from error


def placed(where: str, pose: Pose, size: tuple[int, int] | None, normalised: bool) -> Pose:
    """Returns the pose on its canvas, in pixels.

    Raises:
        PoseError: normalised coordinates and no canvas.
    """
    sized = named(where, Pose, pose.format, pose.xy, pose.score, size)
    if not normalised:
        return sized
    if sized.size is None:
        fix = "read with size=(height, width) of the picture that the poses were found in"
        raise PoseError(where, "normalised coordinates need the size of the canvas", got="none", fix=fix)
    xy = sized.xy * np.array([sized.size[1], sized.size[0]], np.float32)
    return named(where, Pose, pose.format, xy, pose.score, sized.size)


def canvas(where: str, size: Any) -> tuple[int, int]:
    """Returns a file's (height, width)."""
    sides = size.tolist() if isinstance(size, np.ndarray) else size
    if not isinstance(sides, list) or len(sides) != 2 or not all(_is_length(side) for side in sides):
        got = [shown(side) for side in sides] if isinstance(sides, list) else shown(sides)
        raise PoseError(
            where, "no size of a canvas", got=got, expected="height and width, pixels, at least 1"
        )
    return int(sides[0]), int(sides[1])


def _is_length(side: Any) -> bool:
    return isinstance(side, int | float) and 1 <= side < 1e6


def size_in(where: str, table: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns the (height, width) that a frame's table gives, None where it gives none."""
    for height, width in SIDES:
        if height in table and width in table:
            return canvas(where, [table[height], table[width]])
    return None


def time_in(where: str, table: Mapping[str, Any], asked: Asked) -> float | None:
    """Returns the seconds that a frame's table gives, None where it gives none or none are wanted.

    Raises:
        PoseError: a time that is no number, or a key that does not say what it counts in.
    """
    if not asked.timed:
        return None
    for key, unit in SECONDS.items():
        if key in table:
            return unit * number(f"{where}.{key}", table[key])
    if "timestamp" in table:
        fix = "name it time (seconds) or timestamp_ms (milliseconds)"
        raise PoseError(
            f"{where}.timestamp", "does not say what it counts in", expected=", ".join(SECONDS), fix=fix
        )
    return None


def number(where: str, value: Any) -> float:
    """Returns a finite number of a file."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not np.isfinite(found):
        raise PoseError(where, "not a number", got=shown(value), expected="a finite number")
    return found


def triples(where: str, part: Any, counts: tuple[int, ...]) -> Floats:
    """Returns f32[n,3] of a flat list; n is one of `counts`."""
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(part, np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise PoseError(where, "not numbers", got=type(part).__name__, expected="x, y, score ...") from error
    if numbers.size not in [3 * count for count in counts]:
        expected = f"{' or '.join(map(str, counts))} triples x, y, score"
        raise PoseError(where, "wrong length", got=f"{numbers.size} numbers", expected=expected)
    return numbers.reshape(-1, 3)


def shown(value: Any) -> str:
    """Returns what an error shows of a file's value: a table or list may be of any size and depth."""
    return repr(value)[:40] if isinstance(value, str | int | float | None) else type(value).__name__


def holding(joints: Iterable[str]) -> str | None:
    """Returns the format with the fewest joints that has all of these; None if none has."""
    names = set(joints)
    able = [name for name, form in FORMATS.items() if names <= set(form.joints)]
    return min(able, key=lambda name: len(FORMATS[name].joints), default=None)


def one_format(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Returns the frames with all poses in that of their formats which has the most joints."""
    formats = {pose.format for frame in frames for pose in frame.people}
    if len(formats) < 2:
        return frames
    most = max(formats, key=lambda name: len(FORMATS[name].joints))
    return tuple(
        Frame(frame.where, tuple(pose.to(most) for pose in frame.people), frame.time, frame.name)
        for frame in frames
    )
