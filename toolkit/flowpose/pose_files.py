"""Reading poses from files: COCO keypoint JSON, OpenPose JSON, NumPy arrays."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import Pose

KINDS = "COCO keypoint .json, OpenPose .json or a folder of them, .npy [n, J, 3], .npz with 'keypoints'"

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
        PoseError: no such file, another kind of file, or what `Pose.of` refuses; names the file and the
        entry.
    """
    file = Path(path)
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
    sizes = {image["id"]: (image["height"], image["width"]) for image in data.get("images", ())}
    poses = []
    for i, annotation in enumerate(data["annotations"]):
        where = f"{file}: annotations[{i}]"
        if not isinstance(annotation, dict) or "keypoints" not in annotation:
            raise PoseError(where, "has no keypoints", expected="a COCO keypoint annotation")
        canvas = sizes.get(annotation.get("image_id"), size)
        poses.append(_named(where, Pose.coco, annotation["keypoints"], canvas, format))
    return tuple(poses)


def _openpose(file: Path, data: Any, format: str | None, size: tuple[int, int] | None, person: int) -> Pose:
    people = data.get("people", ()) if isinstance(data, dict) else ()
    if not 0 <= person < len(people):
        raise PoseError(
            file, f"no person {person}", got=f"{len(people)} people", expected="an OpenPose frame"
        )
    found = people[person]
    body: Pose = _named(
        f"{file}: people[{person}]", Pose.of, found.get("pose_keypoints_2d", ()), format, size
    )
    parts = [(first, count, found.get(key) or ()) for key, first, count in OPENPOSE_PARTS]
    if not any(part for _, _, part in parts):
        return body
    rows = body.to("coco-wholebody-133").array()
    for first, count, part in parts:
        if part:
            rows[first : first + count] = np.reshape(np.asarray(part, np.float32), (-1, 3))[:count]
    whole: Pose = _named(f"{file}: people[{person}]", Pose.of, rows, "coco-wholebody-133", size)
    return whole


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
        named = str(data["format"]) if "format" in data else format
        canvas = (int(data["size"][0]), int(data["size"][1])) if "size" in data else size
        return _stack(file, data["keypoints"], named, canvas)


def _stack(file: Path, array: Any, format: str | None, size: tuple[int, int] | None) -> tuple[Pose, ...]:
    if array.ndim == 2:
        return (_named(str(file), Pose.of, array, format, size),)
    return tuple(_named(f"{file}: [{i}]", Pose.of, rows, format, size) for i, rows in enumerate(array))


def _named(where: str, make: Any, *values: Any) -> Any:
    """Calls `make` and puts the file's name before the error's place."""
    try:
        return make(*values)
    except PoseError as error:
        place = f"{where}: {error.where}"
        raise PoseError(place, error.what, got=error.got, expected=error.expected, fix=error.fix) from error
