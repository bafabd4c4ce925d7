"""Reading poses from files: COCO keypoint JSON, OpenPose JSON, NumPy arrays."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.pose import Pose

KINDS = "COCO keypoint .json, OpenPose .json or a folder of them, .npy [n, J, 3], .npz with 'keypoints'"

IMAGE = "a table with id, height and width"

# Where an OpenPose file's further lists go in coco-wholebody-133: key, first joint, number of joints (of
# OpenPose's 70 face points the last two, the pupils, are not among the 68).
OPENPOSE_PARTS = (
    ("face_keypoints_2d", 23, 68),
    ("hand_left_keypoints_2d", 91, 21),
    ("hand_right_keypoints_2d", 112, 21),
)


def read_poses(
    path: str | Path, *, format: str | None = None, size: tuple[int, int] | None = None, person: int = 0
) -> tuple[Pose, ...]:
    """Returns the poses in a file or folder, in the order of the file or of the names.

    Args:
        path: a COCO keypoint JSON (one pose an annotation), an OpenPose JSON (one frame) or a folder of them
        (one frame a
            file), a .npy array [n,J,3], [n,J,2] or [J,3], or a .npz with `keypoints` and optionally `format`
            and `size` (height, width).
        format: name of the format where the shape alone does not tell it.
        size: (height, width) of the canvas where the file does not give it.
        person: which of the people in an OpenPose frame.

    Raises:
        PoseError: no such file, another kind of file, no pose in it, or what `Pose.of` refuses; names the
        file and the entry.
    """
    file = Path(path)
    poses = _read(file, format, size, person)
    if not poses:
        raise PoseError(file, "holds no pose", expected="at least one")
    return poses


def _read(file: Path, format: str | None, size: tuple[int, int] | None, person: int) -> tuple[Pose, ...]:
    if not file.exists():
        raise PoseError(file, "no such file", expected=KINDS)
    if file.is_dir():
        frames = sorted(file.glob("*.json"))
        if not frames:
            raise PoseError(file, "no .json files in this folder", expected=KINDS)
        return tuple(_openpose(frame, _json(frame), format, size, person) for frame in frames)
    if file.suffix == ".json":
        return _from_json(file, format, size, person)
    if file.suffix in (".npy", ".npz"):
        return _from_numpy(file, format, size)
    raise PoseError(file, "unknown kind of pose file", got=f"'{file.suffix}'", expected=KINDS)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise PoseError(file, f"not JSON ({error})", expected=KINDS) from error


def _from_json(file: Path, format: str | None, size: tuple[int, int] | None, person: int) -> tuple[Pose, ...]:
    data = _json(file)
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        return _coco(file, data, format, size)
    if isinstance(data, dict) and "people" in data:
        return (_openpose(file, data, format, size, person),)
    raise PoseError(file, "neither a COCO nor an OpenPose file", expected="keys 'annotations' or 'people'")


def _coco(
    file: Path, data: dict[str, Any], format: str | None, size: tuple[int, int] | None
) -> tuple[Pose, ...]:
    sizes = _sizes(file, data.get("images", []))
    poses = []
    for i, annotation in enumerate(data["annotations"]):
        where = f"{file}: annotations[{i}]"
        if not isinstance(annotation, dict) or "keypoints" not in annotation:
            raise PoseError(where, "has no keypoints", expected="a COCO keypoint annotation")
        picture = annotation.get("image_id")
        if not isinstance(picture, int | str | None):
            raise PoseError(
                where, "no picture's name", got=f"image_id {picture!r}", expected="a number or text"
            )
        poses.append(_named(where, Pose.coco, annotation["keypoints"], sizes.get(picture, size), format))
    return tuple(poses)


def _sizes(file: Path, images: Any) -> dict[Any, tuple[int, int]]:
    """Returns (height, width) of each picture that a COCO file lists, by its id."""
    if not isinstance(images, list):
        raise PoseError(f"{file}: images", "not a list", got=type(images).__name__, expected=IMAGE)
    found = {}
    for i, picture in enumerate(images):
        where = f"{file}: images[{i}]"
        if not isinstance(picture, dict):
            raise PoseError(where, "not a table", got=type(picture).__name__, expected=IMAGE)
        missing = [key for key in ("id", "height", "width") if key not in picture]
        if missing:
            raise PoseError(where, f"has no {' and no '.join(missing)}", expected=IMAGE)
        if not isinstance(picture["id"], int | str):
            raise PoseError(f"{where}.id", "no name", got=repr(picture["id"]), expected="a number or text")
        found[picture["id"]] = _canvas(where, [picture["height"], picture["width"]])
    return found


def _canvas(where: str, size: Any) -> tuple[int, int]:
    """Returns a file's (height, width)."""
    sides = size.tolist() if isinstance(size, np.ndarray) else size
    if not isinstance(sides, list) or len(sides) != 2 or not all(_is_length(side) for side in sides):
        raise PoseError(
            where, "no size of a canvas", got=sides, expected="height and width, pixels, at least 1"
        )
    return int(sides[0]), int(sides[1])


def _is_length(side: Any) -> bool:
    return isinstance(side, int | float) and 1 <= side < float("inf")


def _openpose(file: Path, data: Any, format: str | None, size: tuple[int, int] | None, person: int) -> Pose:
    where, found = f"{file}: people[{person}]", _person(file, data, person)
    body: Pose = _named(where, Pose.of, found.get("pose_keypoints_2d", ()), format, size)
    parts = [entry for entry in OPENPOSE_PARTS if found.get(entry[0])]
    if not parts:
        return body
    rows = body.to("coco-wholebody-133").array()
    for key, first, count in parts:
        rows[first : first + count] = _triples(f"{where}.{key}", found[key], count)
    whole: Pose = _named(where, Pose.of, rows, "coco-wholebody-133", size)
    return whole


def _person(file: Path, data: Any, person: int) -> dict[str, Any]:
    people = data.get("people", []) if isinstance(data, dict) else []
    if not isinstance(people, list):
        got = type(people).__name__
        raise PoseError(f"{file}: people", "not a list", got=got, expected="an OpenPose frame")
    if not 0 <= person < len(people):
        raise PoseError(
            file, f"no person {person}", got=f"{len(people)} people", expected="an OpenPose frame"
        )
    found = people[person]
    if not isinstance(found, dict):
        got = type(found).__name__
        raise PoseError(f"{file}: people[{person}]", "not a table", got=got, expected="pose_keypoints_2d")
    return found


def _triples(where: str, part: Any, count: int) -> NDArray[np.float32]:
    """Returns the first joints of an OpenPose list as f32[count,3]."""
    try:
        numbers = np.asarray(part, np.float32)
    except (TypeError, ValueError) as error:
        raise PoseError(where, "not numbers", got=type(part).__name__, expected="x, y, score ...") from error
    if numbers.size % 3 or numbers.size < 3 * count:
        expected = f"{count} triples x, y, score"
        raise PoseError(where, "wrong length", got=f"{numbers.size} numbers", expected=expected)
    return numbers.reshape(-1, 3)[:count]


def _from_numpy(file: Path, format: str | None, size: tuple[int, int] | None) -> tuple[Pose, ...]:
    try:
        data = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PoseError(file, f"not a NumPy file ({error})", expected=KINDS) from error
    if isinstance(data, np.ndarray):
        return _stack(file, data, format, size)
    with data:
        if "keypoints" not in data:
            raise PoseError(
                file, "has no array 'keypoints'", got=", ".join(data.files), expected="keypoints [n, J, 3]"
            )
        named = str(_array(file, data, "format")) if "format" in data else format
        canvas = _canvas(f"{file}: size", _array(file, data, "size")) if "size" in data else size
        return _stack(file, _array(file, data, "keypoints"), named, canvas)


def _array(file: Path, data: Any, name: str) -> Any:
    try:
        return data[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise PoseError(
            f"{file}: {name}", f"cannot be read ({error})", expected="an array of numbers"
        ) from error


def _stack(file: Path, array: Any, format: str | None, size: tuple[int, int] | None) -> tuple[Pose, ...]:
    if array.ndim == 2:
        return (_named(str(file), Pose.of, array, format, size),)
    if array.ndim != 3:
        raise PoseError(file, "wrong shape", got=list(array.shape), expected="keypoints [n, J, 3] or [J, 3]")
    return tuple(_named(f"{file}: [{i}]", Pose.of, rows, format, size) for i, rows in enumerate(array))


def _named(where: str, make: Any, *values: Any) -> Any:
    """Calls `make` and puts the file's name before the error's place."""
    try:
        return make(*values)
    except PoseError as error:
        place = f"{where}: {error.where}"
        raise PoseError(place, error.what, got=error.got, expected=error.expected, fix=error.fix) from error
