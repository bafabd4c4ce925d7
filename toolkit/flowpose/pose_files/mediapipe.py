"""MediaPipe's landmarks as its JavaScript and Python interfaces dump them: x, y in 0..1 of the picture.

Pose gives mediapipe-33; a frame with a face or hands (Holistic) gives mediapipe-holistic-543, or -553 where the face
has irises. Body landmarks that have a visibility have it as their score; those of faces and hands carry none that means
anything (0 or nothing), so they count as seen. A landmark whose x or y is null or NaN is missing, and so is a part that
is null or empty.

A frame is a table of parts, or the list of the 33 body landmarks by itself. A part is a list of {x, y, z, visibility},
a table with such a list as `landmark` (protobuf's dump), or a list of such lists, one a person (the Tasks interface).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import Floats, Pose
from flowpose.pose_files.frames import Asked, Frame, named, placed, shown, size_in, time_in

PARTS = {
    "body": ("poseLandmarks", "pose_landmarks", "landmarks"),
    "face": ("faceLandmarks", "face_landmarks"),
    "left hand": ("leftHandLandmarks", "left_hand_landmarks"),
    "right hand": ("rightHandLandmarks", "right_hand_landmarks"),
}
COUNTS = {"body": (33,), "face": (468, 478), "left hand": (21,), "right hand": (21,)}
LANDMARK = "landmarks {x, y, z, visibility}"


def is_frame(data: Any) -> bool:
    """Whether this is a frame of MediaPipe: a table of parts, or a list of landmarks or of people."""
    if isinstance(data, list) and data:
        first = data[0][0] if isinstance(data[0], list) and data[0] else data[0]
        return _is_landmark(first)
    return isinstance(data, dict) and any(key in data for keys in PARTS.values() for key in keys)


def _is_landmark(data: Any) -> bool:
    return isinstance(data, dict) and "x" in data and "y" in data


def frame(where: str, data: Any, asked: Asked) -> Frame:
    """Returns the people of a frame.

    Raises:
        PoseError: what is wrong with which landmark; several people and a face or hands, which are nobody's.
    """
    table = data if isinstance(data, dict) else {"landmarks": data}
    size = size_in(where, table) or asked.size
    parts = {part: _people(where, part, table) for part in PARTS}
    people = max(len(found) for found in parts.values())
    if people > 1 and any(parts[part] for part in PARTS if part != "body"):
        raise PoseError(where, "several people, and a face or hands", expected="these of one person")
    poses = []
    for i in range(people):
        own = {part: found[0 if part != "body" else i] for part, found in parts.items() if found}
        pose = named(where, Pose.of, *_rows(own, asked.format))
        poses.append(placed(where, pose, size, asked.units != "pixels"))
    return Frame(where, tuple(poses), time_in(where, table, asked))


def _rows(own: dict[str, Floats], format: str | None) -> tuple[Floats, str]:
    """Returns one person's joints in the order of the format that has all parts, and its name."""
    face = len(own.get("face", ()))
    if face or len(own) > 1 or "body" not in own:
        name, points = f"mediapipe-holistic-{75 + max(face, 468)}", (33, max(face, 468), 21, 21)
    else:
        name, points = "mediapipe-33", (33, 0, 0, 0)
    parts = [own.get(part, np.zeros((n, 3), np.float32)) for part, n in zip(PARTS, points, strict=True)]
    return np.concatenate(parts), format or name


def _people(where: str, part: str, table: dict[str, Any]) -> list[Floats]:
    """Returns the landmarks f32[n,3] (x, y, score) of a part, one array a person."""
    key = next((key for key in PARTS[part] if table.get(key)), None)
    if key is None:
        return []
    found, place = table[key], f"{where}: {key}"
    if isinstance(found, dict):
        found = found.get("landmark")
    if not isinstance(found, list):
        raise PoseError(place, "not a list", got=type(found).__name__, expected=LANDMARK)
    several = found if found and isinstance(found[0], list) else [found]
    return [
        _landmarks(f"{place}[{i}]" if len(several) > 1 else place, each, part)
        for i, each in enumerate(several)
    ]


def _landmarks(where: str, marks: Any, part: str) -> Floats:
    if not isinstance(marks, list) or len(marks) not in COUNTS[part]:
        got = f"{len(marks)} landmarks" if isinstance(marks, list) else type(marks).__name__
        raise PoseError(where, "wrong length", got=got, expected=" or ".join(map(str, COUNTS[part])))
    rows = np.zeros((len(marks), 3), np.float64)
    for i, mark in enumerate(marks):
        if not _is_landmark(mark):
            raise PoseError(f"{where}[{i}]", "not a landmark", got=shown(mark), expected=LANDMARK)
        seen = mark.get("visibility") if part == "body" else None
        try:
            rows[i] = [_or_nan(mark["x"]), _or_nan(mark["y"]), 1 if seen is None else float(seen)]
        except (TypeError, ValueError, OverflowError) as error:
            raise PoseError(
                f"{where}[{i}]", "not numbers", got=shown(mark["x"]), expected=LANDMARK
            ) from error
    rows[np.isnan(rows).any(1)] = 0
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)
