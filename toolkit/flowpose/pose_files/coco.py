"""COCO's JSON: annotation files (`images`, `annotations`), and lists of results, as detectors write them.

An annotation's third number is v: 0 missing, 1 covered, 2 visible. A result's is the joint's confidence; some write v
there too, told by a 2. COCO-WholeBody keeps feet, face and hands in lists of their own (`foot_kpts` ...), which give
coco-wholebody-133; their third number is a confidence, or v.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, Pose
from flowpose.pose_files.frames import Asked, Frame, Recording, canvas, named, placed, shown, time_in, triples

IMAGE = "a table with id, height and width"
PARTS = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))


def is_result(data: Any) -> bool:
    """Whether this is one result: a person's keypoints."""
    return isinstance(data, dict) and "keypoints" in data


def pictures(file: Path, data: dict[str, Any], asked: Asked) -> Recording:
    """Returns one frame a picture, in the order of `images`, then of pictures that are not listed there.

    Raises:
        PoseError: what is wrong with which entry.
    """
    images = _images(file, data.get("images", []))
    found: dict[Any, list[Pose]] = {key: [] for key in images}
    for i, entry in enumerate(data["annotations"]):
        where = f"{file}: annotations[{i}]"
        key = _picture(where, entry)
        size = images[key][0] if key in images else asked.size
        found.setdefault(key, []).append(_pose(where, entry, size, asked, flags=True))
    return Recording(
        tuple(
            Frame(f"{file}: picture {key!r}", tuple(people), name=images[key][1] if key in images else None)
            for key, people in found.items()
        ),
        pictures=True,
    )


def each_annotation(file: Path, data: dict[str, Any], asked: Asked) -> Recording:
    """Returns one frame an annotation, in the order of the file."""
    images = _images(file, data.get("images", []))
    frames = []
    for i, entry in enumerate(data["annotations"]):
        where = f"{file}: annotations[{i}]"
        size, name = images.get(_picture(where, entry), (asked.size, None))
        frames.append(Frame(where, (_pose(where, entry, size, asked, flags=True),), name=name))
    return Recording(tuple(frames))


def results(file: Path, data: list[Any], asked: Asked, *, every: bool) -> Recording:
    """Returns one frame a picture of a list of results, in the order in which pictures come up; or one a result.

    Raises:
        PoseError: what is wrong with which entry.
    """
    found: dict[Any, list[Pose]] = {}
    times: dict[Any, float | None] = {}
    for i, entry in enumerate(data):
        where = f"{file}: [{i}]"
        key = _picture(where, entry)
        alone = (i,) if every or key is None else key  # a result that names no picture is a frame of its own
        found.setdefault(alone, []).append(_pose(where, entry, asked.size, asked, flags=False))
        times.setdefault(alone, time_in(where, entry, asked))
    return Recording(
        tuple(Frame(f"{file}: {_shown(key)}", tuple(found[key]), times[key]) for key in found), pictures=True
    )


def _shown(key: Any) -> str:
    return f"[{key[0]}]" if isinstance(key, tuple) else f"picture {key!r}"


def _images(file: Path, images: Any) -> dict[Any, tuple[tuple[int, int], str | None]]:
    """Returns (height, width) and file name of each picture that a COCO file lists, by its id."""
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
            raise PoseError(f"{where}.id", "no name", got=shown(picture["id"]), expected="a number or text")
        size = canvas(where, [picture["height"], picture["width"]])
        name = picture.get("file_name")
        found[picture["id"]] = size, name if isinstance(name, str) else None
    return found


def _picture(where: str, entry: Any) -> Any:
    """Returns the id of the picture that an entry belongs to."""
    if not isinstance(entry, dict) or "keypoints" not in entry:
        raise PoseError(where, "has no keypoints", expected="a COCO keypoint annotation")
    picture = entry.get("image_id")
    if not isinstance(picture, int | str | None):
        got = f"image_id {shown(picture)}"
        raise PoseError(where, "no picture's name", got=got, expected="a number or text")
    return picture


def _pose(
    where: str, entry: dict[str, Any], size: tuple[int, int] | None, asked: Asked, *, flags: bool
) -> Pose:
    pose = _keypoints(where, entry["keypoints"], asked.format, flags)
    parts = [(key, count) for key, count in PARTS if entry.get(key)]
    if parts:
        rows, at = pose.to(CANONICAL).array(), 17
        for key, count in PARTS:
            if entry.get(key):
                part = triples(f"{where}.{key}", entry[key], (count,)).copy()
                part[part[:, 2] == 2, 2] = 1
                rows[at : at + count] = part
            at += count
        pose = named(where, Pose.of, rows, CANONICAL)
    return placed(where, pose, size, asked.units == "normalised")


def _keypoints(where: str, keypoints: Any, format: str | None, flags: bool) -> Pose:
    if flags:
        return named(where, Pose.coco, keypoints, None, format)
    try:
        third = np.asarray(keypoints, np.float64).reshape(-1, 3)[:, 2]
    except (TypeError, ValueError, OverflowError):
        third = np.zeros(0)  # Pose.of says what is wrong
    if np.isin(third, (0, 1, 2)).all() and (third == 2).any():
        return named(where, Pose.coco, keypoints, None, format)
    return named(where, Pose.of, keypoints, format)
