"""OpenPose's JSON: one file a frame, `people` with lists of x, y, confidence for body, face and hands.

A body of 25 or 18 joints stays as it is; with a face or hands 25 become openpose-137, 18 coco-wholebody-133.
ControlNet's editors write the same, in a list, with `canvas_height` and `canvas_width`, and null for a missing part.
"""

from __future__ import annotations

from typing import Any

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, FORMATS, Pose
from flowpose.pose_files.frames import Asked, Frame, named, placed, size_in, time_in, triples

PARTS = (
    ("face_keypoints_2d", "face_0", (70, 68)),
    ("hand_left_keypoints_2d", "left_hand_0", (21,)),
    ("hand_right_keypoints_2d", "right_hand_0", (21,)),
)
"""Key of a further list, its first joint, how many it may have; of 70 face points the last two are the pupils."""


def is_frame(data: Any) -> bool:
    """Whether this is a frame of OpenPose."""
    return isinstance(data, dict) and "people" in data


def frame(where: str, data: dict[str, Any], asked: Asked) -> Frame:
    """Returns the people of a frame.

    Raises:
        PoseError: what is wrong with which person.
    """
    people = data["people"] if data["people"] is not None else []
    if not isinstance(people, list):
        got = type(people).__name__
        raise PoseError(f"{where}: people", "not a list", got=got, expected="an OpenPose frame")
    size = size_in(where, data) or asked.size
    poses = [_person(f"{where}: people[{i}]", person, size, asked) for i, person in enumerate(people)]
    return Frame(where, tuple(poses), time_in(where, data, asked))


def _person(where: str, found: Any, size: tuple[int, int] | None, asked: Asked) -> Pose:
    if not isinstance(found, dict):
        raise PoseError(where, "not a table", got=type(found).__name__, expected="pose_keypoints_2d")
    body = named(where, Pose.of, found.get("pose_keypoints_2d", ()), asked.format)
    normalised = asked.units == "normalised"
    parts = [entry for entry in PARTS if found.get(entry[0])]
    if not parts:
        return placed(where, body, size, normalised)
    whole = "openpose-137" if body.format == "body-25" else CANONICAL
    rows = body.to(whole).array()
    for key, joint, counts in parts:
        part, first = triples(f"{where}.{key}", found[key], counts), FORMATS[whole].index(joint)
        count = len(part) if whole == "openpose-137" else min(len(part), 68)
        rows[first : first + count] = part[:count]
    return placed(where, named(where, Pose.of, rows, whole), size, normalised)
