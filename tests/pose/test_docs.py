"""docs/poses.md: its table of formats is flowpose's. Its code and links are tests/docs's."""

from __future__ import annotations

import re
from pathlib import Path

from flowpose.pose import FORMATS

PAGE = Path(__file__).parents[2] / "docs/poses.md"
TEXT = PAGE.read_text("utf-8")

STARTS = {  # as the page has them
    "openpose-18": {14: "right_eye", 15: "left_eye", 16: "right_ear", 17: "left_ear", 2: "right_shoulder"},
    "body-25": {8: "mid_hip", 9: "right_hip", 12: "left_hip", 15: "right_eye", 19: "left_big_toe", 22: "right_big_toe"},
    "openpose-137": {25: "face_0", 93: "right_pupil", 94: "left_pupil", 95: "left_hand_0", 116: "right_hand_0"},
    "coco-wholebody-133": {17: "left_big_toe", 20: "right_big_toe", 23: "face_0", 91: "left_hand_0"},
    "mediapipe-33": {1: "left_eye_inner", 4: "right_eye_inner", 7: "left_ear", 9: "mouth_left", 11: "left_shoulder"},
    "mediapipe-holistic-543": {33: "mesh_0", 500: "mesh_467", 501: "left_hand_0", 522: "right_hand_0"},
    "mediapipe-holistic-553": {33 + 468: "right_pupil", 33 + 473: "left_pupil", 511: "left_hand_0"},
}  # fmt: skip


def test_every_format_stands_in_the_table_with_its_number_of_joints() -> None:
    table = TEXT.partition("## Formats")[2].partition("## Files")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", table, re.MULTILINE))
    assert rows == {name: str(len(form.joints)) for name, form in FORMATS.items()} | {"deepfashion-18": "18"}


def test_the_parts_start_where_the_table_says() -> None:
    for name, starts in STARTS.items():
        for index, joint in starts.items():
            assert FORMATS[name].joints[index] == joint
