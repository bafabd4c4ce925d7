"""Mirrored keypoints and hidden joints."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowpose.data.figures_set import figures
from flowpose.pose import FORMATS, Pose
from flowpose.spec.recipe import FiguresData
from flowpose.train.augment import BODY, MIRROR, PARTS, hide_parts, mirror_keypoints


@pytest.fixture(scope="module")
def keypoints() -> np.ndarray:
    return figures(FiguresData(identities=2, pictures=4), "train", 48, 32).keypoints


def test_mirroring_twice_is_nothing(keypoints: np.ndarray) -> None:
    twice = mirror_keypoints(mirror_keypoints(keypoints, 32), 32)
    np.testing.assert_allclose(twice, keypoints, atol=1e-5)
    assert (MIRROR[MIRROR] == np.arange(133)).all()


def test_mirroring_is_that_of_a_pose(keypoints: np.ndarray) -> None:
    for rows in keypoints:
        pose = Pose.of(rows, "coco-wholebody-133", (48, 32)).mirror()
        np.testing.assert_allclose(mirror_keypoints(rows, 32), pose.array(), atol=1e-5)


def test_left_becomes_right() -> None:
    joints = FORMATS["coco-wholebody-133"].joints
    rows = np.zeros((1, 133, 3), np.float32)
    rows[0, joints.index("left_wrist")] = (10.0, 5.0, 0.7)
    found = mirror_keypoints(rows, 32)
    assert found[0, joints.index("right_wrist")].tolist() == pytest.approx([22.0, 5.0, 0.7])
    assert np.count_nonzero(found) == 3, "missing joints stay at 0"


def test_mirrored_keypoints_lie_on_the_mirrored_picture() -> None:
    canvas, rows = np.zeros((48, 32), np.uint8), np.zeros((133, 3), np.float32)
    cv2.circle(canvas, (8, 20), 1, 255, -1)
    rows[9] = (8.5, 20.5, 1)
    x, y, _ = mirror_keypoints(rows, 32)[10]
    assert canvas[:, ::-1][int(y), int(x)] == 255


def test_shares_of_hidden_parts() -> None:
    count, share = 4000, 0.4
    whole = np.ones((count, 133, 3), np.float32)
    score = hide_parts(whole, np.random.default_rng(0), share)[..., 2]
    assert (whole == 1).all(), "its argument is left alone"
    body = score[:, BODY].sum(1)
    bare = (score[:, 17:].sum(1) == 0) & (body == 17)
    part = [(score[:, each].sum(1) == 0) & ~bare for each in PARTS]
    joint = body == 16
    assert bare.mean() == pytest.approx(share / 2, abs=0.03)
    assert [p.mean() for p in part] == pytest.approx([share / 12] * 3, abs=0.02)
    assert joint.mean() == pytest.approx(share / 4, abs=0.03)
    assert (bare | part[0] | part[1] | part[2] | joint).mean() == pytest.approx(share, abs=0.03)
    assert body.min() == 16


def test_no_share_hides_nothing(keypoints: np.ndarray) -> None:
    assert (hide_parts(keypoints, np.random.default_rng(0), 0.0) == keypoints).all()


def test_the_same_seed_hides_the_same(keypoints: np.ndarray) -> None:
    first, same = (hide_parts(keypoints, np.random.default_rng(3), 1.0) for _ in range(2))
    assert (first == same).all() and (first != keypoints).any()
