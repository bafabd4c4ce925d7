"""The judge on photographs with joints placed by hand: what its pose accuracy is worth on real people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose import image
from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import DataError
from flowpose.metrics import Judge, calibrate
from flowpose.pose_files import read_poses

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
Known = tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def photographs(height: int, width: int) -> Known:
    file = REAL / "keypoints.json"
    if not file.is_file():
        pytest.skip("needs ../shared/data/real, which is not in the repository")
    coco = json.loads(file.read_text("utf-8"))
    names = {entry["id"]: entry["file_name"] for entry in coco["images"]}
    pictures = [image.read(REAL / names[row["image_id"]]) for row in coco["annotations"]]
    keypoints = [pose.fit(height, width).array() for pose in read_poses(file)]
    return [image.fit(picture, height, width) for picture in pictures], keypoints


@pytest.mark.parametrize(("height", "width"), [(128, 88), (256, 176)])
def test_the_judge_finds_joints_in_real_photographs(height: int, width: int, judge: Judge) -> None:
    found = calibrate(*photographs(height, width), judge)
    assert found.joints == 4 * 17
    assert found.pck > 0.85
    assert found.error < 0.06


def test_another_photographs_joints_are_not_found(judge: Judge) -> None:
    pictures, keypoints = photographs(128, 88)
    right, wrong = (calibrate(pictures, k, judge) for k in (keypoints, keypoints[1:] + keypoints[:1]))
    assert wrong.pck < right.pck - 0.25
    assert wrong.error > 2 * right.error


def test_every_joint_weighs_the_same(judge: Judge) -> None:
    """One picture whole and one of which two joints are given: the mean is over joints, not pictures."""
    picture, keypoints = draw(figure_identity(9000), figure_pose(np.random.default_rng(0)), 128, 88)
    few = keypoints.copy()
    few[2:, 2] = 0
    few[:2] = [(0, 0, 1), (1, 1, 1)]  # in a corner, where no joint is
    whole = calibrate([picture], [keypoints], judge)
    both = calibrate([picture, picture], [keypoints, few], judge)
    assert both.joints == whole.joints + 2
    assert both.pck == pytest.approx(whole.pck * whole.joints / both.joints)


def test_no_pictures_are_an_error(judge: Judge) -> None:
    with pytest.raises(DataError, match="no known joints"):
        calibrate([], [], judge)
    with pytest.raises(DataError, match="no known joints"):
        calibrate([np.zeros((128, 88, 3), np.uint8)], [], judge)
