"""Mirrored keypoints, moved joints and hidden ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowpose.data.figures_set import figures
from flowpose.pose import FORMATS, Pose
from flowpose.spec.recipe import FiguresData, PoseAugmentSpec
from flowpose.train.augment import (
    BODY,
    LEGS,
    LIMBS,
    MIRROR,
    PAIRS,
    PARTS,
    hide_parts,
    mirror_keypoints,
    vary_poses,
)


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


NOTHING = {"parts": 0.0, "limbs": 0.0, "half_body": 0.0, "jitter": 0.0}
HEIGHT = 200


def varied(keypoints: np.ndarray, seed: int = 0, **changes: float) -> np.ndarray:
    spec = PoseAugmentSpec.parse({**NOTHING, **changes}, "recipe.train.poses")
    return vary_poses(keypoints, np.random.default_rng(seed), spec, HEIGHT)


def crowd(count: int = 2000) -> np.ndarray:
    """f32[count, 133, 3]: every joint there, at different places, scores 0.8."""
    places = np.random.default_rng(9).uniform(20, 180, size=(count, 133, 2))
    return np.concatenate([places, np.full((count, 133, 1), 0.8)], axis=2).astype(np.float32)


def test_without_shares_poses_stay_as_they_are(keypoints: np.ndarray) -> None:
    kept = keypoints.copy()
    found = varied(keypoints, spread=0.1, widen=1.0)
    assert (found == keypoints).all() and found is not keypoints
    spoilt = varied(keypoints, parts=1.0, limbs=1.0, half_body=1.0, jitter=1.0)
    assert (spoilt != keypoints).any() and (keypoints == kept).all(), "its argument is left alone"


def test_the_same_seed_varies_the_same(keypoints: np.ndarray) -> None:
    shares = {"parts": 0.5, "limbs": 0.5, "half_body": 0.5, "jitter": 0.5}
    first, same, other = (varied(keypoints, seed, **shares) for seed in (3, 3, 4))
    assert (first == same).all() and (first != other).any()
    assert first.dtype == np.float32


def test_jitter_moves_a_share_of_the_poses_by_its_spread() -> None:
    poses = crowd()
    found = varied(poses, jitter=0.3, spread=0.02, widen=0.0)
    steps = found - poses
    moved = (steps[..., :2] != 0).any((1, 2))
    assert moved.mean() == pytest.approx(0.3, abs=0.03)
    assert (steps[..., 2] == 0).all()
    assert steps[moved][..., :2].std() == pytest.approx(0.02 * HEIGHT, rel=0.02)
    assert abs(steps[moved][..., :2].mean()) < 0.05


def test_missing_joints_stay_missing() -> None:
    poses = crowd(50)
    lost = np.random.default_rng(1).random(poses.shape[:2]) < 0.3
    poses[lost] = 0
    found = varied(poses, jitter=1.0, spread=0.05, widen=1.0)
    assert (found[lost] == 0).all() and (found[~lost][:, :2] != poses[~lost][:, :2]).any(1).all()


def distances(poses: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    return np.linalg.norm(poses[:, pair[0], :2] - poses[:, pair[1], :2], axis=1)


@pytest.mark.parametrize("pair", PAIRS)
def test_shoulders_and_hips_move_apart_about_their_middle(pair: tuple[int, int]) -> None:
    poses = crowd()
    found = varied(poses, jitter=1.0, spread=0.0, widen=0.5)
    wider = distances(found, pair) / distances(poses, pair)
    assert wider.min() >= 0.999 and wider.max() <= 1.501
    assert wider.mean() == pytest.approx(1.25, abs=0.02)
    middles = [each[:, pair, :2].mean(1) for each in (poses, found)]
    np.testing.assert_allclose(*middles, atol=1e-3)
    others = [joint for joint in range(133) if joint not in (5, 6, 11, 12)]
    assert (found[:, others] == poses[:, others]).all()


def test_one_shoulder_alone_is_not_moved_apart() -> None:
    poses = crowd(20)
    poses[:, 5] = 0
    found = varied(poses, jitter=1.0, spread=0.0, widen=1.0)
    assert (found[:, [5, 6]] == poses[:, [5, 6]]).all() and (found[:, 11] != poses[:, 11]).any()


def test_half_bodies_have_no_legs() -> None:
    found = varied(crowd(), half_body=0.2)
    bare = ~found[:, LEGS].any((1, 2))
    assert bare.mean() == pytest.approx(0.2, abs=0.03)
    others = [joint for joint in range(133) if joint not in LEGS]
    assert found[:, others].all() and found[~bare].all()
    joints = FORMATS["coco-wholebody-133"].joints
    legs = {
        joint for joint, name in enumerate(joints) if any(x in name for x in ("knee", "ankle", "toe", "heel"))
    }
    assert set(LEGS) == legs


def test_a_share_of_the_poses_loses_one_limb() -> None:
    poses = crowd()
    found = varied(poses, limbs=0.4)
    lost = [{*np.flatnonzero(~pose.any(1)).tolist()} for pose in found]
    assert sum(map(bool, lost)) / len(lost) == pytest.approx(0.4, abs=0.04)
    for limb in LIMBS:
        assert sum(each == set(limb) for each in lost) / len(lost) == pytest.approx(0.1, abs=0.025)
    assert all(not each or each in [set(limb) for limb in LIMBS] for each in lost)


def test_left_limbs_have_right_twins() -> None:
    twins = [{*MIRROR[limb].tolist()} for limb in LIMBS]
    assert twins == [set(LIMBS[1]), set(LIMBS[0]), set(LIMBS[3]), set(LIMBS[2])]
