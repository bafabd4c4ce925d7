"""Every kind of file gives the same skeleton: real-schema files of the same people, read and converted, within a pixel.

Always on the people of the shipped samples; on the shared people set where it is there.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pose.writers import KINDS, SIZE, Floats, Kind

from flowpose.pose_files import read_motion, read_poses
from flowpose.samples import FOLDER

SHARED = Path(__file__).parents[3] / "shared/data"
PEOPLE, REAL = SHARED / "people/test.tar", SHARED / "real/keypoints.json"
EVERY = 4  # of 960 people


def truth(data: dict) -> list[Floats]:
    """The annotated people as [133,3]: x, y, 1 or 0 for missing; a covered face point is missing."""
    found = []
    for entry in data["annotations"]:
        rows = np.array(entry["keypoints"], float).reshape(-1, 3)
        head = np.isin(np.arange(133), [*range(5), *range(23, 91)])
        seen = np.where(head, rows[:, 2] == 2, rows[:, 2] > 0)
        found.append(np.column_stack([rows[:, :2], np.ones(133)]) * seen[:, None])
    return found


@cache
def samples() -> list[Floats]:
    with np.load(FOLDER / "motion.npz") as data:
        moving = [np.column_stack([p[:, :2], p[:, 2] > 0]) for p in data["keypoints"][::8].astype(float)]
    return [*truth(json.loads((FOLDER / "poses.json").read_text())), *moving]


@cache
def shared() -> list[Floats]:
    with tarfile.open(PEOPLE) as tar:
        file = tar.extractfile("annotations.json")
        assert file is not None
        return truth(json.load(file))[::EVERY]


def compare(kind: Kind, folder: Path, people: Sequence[Floats]) -> None:
    motion = read_motion(kind.write(folder, people), **kind.options)
    assert len(motion) == len(people)
    carried = np.array(kind.joints)
    for pose, rows in zip(motion.poses, people, strict=True):
        assert pose.size == SIZE
        whole, body = pose.to("coco-wholebody-133"), pose.to("coco-17")
        given = rows[carried, 2] > 0
        assert ((whole.score[carried] > 0) == given).all()
        assert np.abs(whole.xy[carried][given] - rows[carried][given, :2]).max() <= kind.off
        there = rows[:17, 2] > 0
        assert ((body.score > 0) == there).all()
        assert np.abs(body.xy[there] - rows[:17][there, :2]).max() <= kind.off


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_skeleton_of_the_samples(name: str, tmp_path: Path) -> None:
    if name.startswith(".pose"):
        pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    compare(KINDS[name], tmp_path, samples())


@pytest.mark.skipif(not PEOPLE.is_file(), reason="no people set at ../shared/data")
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_skeleton_of_the_shared_people(name: str, tmp_path: Path) -> None:
    if name.startswith(".pose"):
        pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    compare(KINDS[name], tmp_path, shared())


@pytest.mark.skipif(not PEOPLE.is_file(), reason="no people set at ../shared/data")
def test_deepfashions_rows_are_the_people_that_they_show() -> None:
    """The set's own DeepFashion files against its COCO file: each row is one of its people, to a pixel."""
    rows = read_poses(PEOPLE.parent / "deepfashion-format/fasion-resize-annotation-test.csv")
    with tarfile.open(PEOPLE) as tar:
        file = tar.extractfile("annotations.json")
        assert file is not None
        people = np.stack(truth(json.load(file)))[:, :17]
    for pose in rows:
        body = pose.to("coco-17")
        there = body.score > 0
        off = np.abs(people[:, there, :2] - body.xy[there]).max((1, 2))
        off[(people[:, there, 2] == 0).any(1)] = np.inf
        assert off.min() <= 1


@pytest.mark.skipif(not REAL.is_file(), reason="no photographs at ../shared/data")
def test_every_kind_of_17_joints_gives_the_photographs_skeletons(tmp_path: Path) -> None:
    data = json.loads(REAL.read_text())
    for pose, entry in zip(read_poses(REAL), data["annotations"], strict=True):
        rows = np.array(entry["keypoints"], float).reshape(17, 3)
        assert np.allclose(pose.xy, rows[:, :2]) and (pose.score == 1).all()
        back = pose.to("mediapipe-33").to("body-25").to("openpose-18").to("coco-wholebody-133").to("coco-17")
        assert np.allclose(back.array(), pose.array())
