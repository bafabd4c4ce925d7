"""Retargeting: bones get the other person's lengths and keep their directions, place and size are aligned."""

from __future__ import annotations

import numpy as np
import pytest

from flowpose import samples
from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, FORMATS, Pose
from flowpose.pose_motion import measure, retarget

JOINTS = FORMATS[CANONICAL].joints
SIZE = (256, 176)
BONES = {
    "hips": 20.0, "torso": 60.0, "shoulders": 40.0, "upper arm": 30.0, "forearm": 26.0, "thigh": 42.0, "shin": 40.0,
    "neck": 24.0, "hand": 12.0,
}  # fmt: skip


def figure(
    arms: float = 0.2, legs: float = 0.1, root: tuple[float, float] = (88, 130), **lengths: float
) -> Pose:
    """A person in the plane of the picture, arms and legs that many radians from hanging, bones of these lengths."""
    bone, rows = BONES | lengths, np.zeros((133, 3))

    def put(name: str, x: float, y: float) -> np.ndarray:
        rows[JOINTS.index(name)] = x, y, 1
        return np.array([x, y])

    neck = np.array(root) - [0, bone["torso"]]
    for side, sign in (("left", 1), ("right", -1)):
        arm, leg = (np.array([sign * np.sin(a), np.cos(a)]) for a in (arms, legs))
        shoulder = put(f"{side}_shoulder", *(neck + np.array([sign * bone["shoulders"] / 2, 0])))
        elbow = put(f"{side}_elbow", *(shoulder + bone["upper arm"] * arm))
        wrist = put(f"{side}_wrist", *(elbow + bone["forearm"] * arm))
        put(f"{side}_hand_9", *(wrist + bone["hand"] * arm))
        hip = put(f"{side}_hip", *(np.array(root) + np.array([sign * bone["hips"] / 2, 0])))
        knee = put(f"{side}_knee", *(hip + bone["thigh"] * leg))
        put(f"{side}_ankle", *(knee + bone["shin"] * leg))
        put(f"{side}_ear", *(neck + np.array([sign / 3, -1]) * bone["neck"]))
    put("nose", *(neck - [0, bone["neck"]]))
    return Pose.of(rows, size=SIZE)


def length(pose: Pose, a: str, b: str) -> float:
    return float(np.linalg.norm(pose.xy[JOINTS.index(a)] - pose.xy[JOINTS.index(b)]))


def angle(pose: Pose, a: str, b: str) -> float:
    x, y = pose.xy[JOINTS.index(b)] - pose.xy[JOINTS.index(a)]
    return float(np.arctan2(y, x))


LONG = {"upper arm": 36.0, "forearm": 22.0, "thigh": 50.0, "shoulders": 34.0, "torso": 66.0, "hand": 10.0}
PARTS = {
    "upper arm": ("left_shoulder", "left_elbow"), "forearm": ("right_elbow", "right_wrist"),
    "thigh": ("left_hip", "left_knee"), "shin": ("right_knee", "right_ankle"), "hips": ("left_hip", "right_hip"),
    "shoulders": ("left_shoulder", "right_shoulder"), "hand": ("left_wrist", "left_hand_9"),
}  # fmt: skip


def test_retargeting_to_oneself_changes_nothing() -> None:
    poses = [figure(arms) for arms in (0.2, 0.8, 1.5)]
    for before, after in zip(poses, retarget(poses, figure(0.2), calibration=figure(0.2)), strict=True):
        assert np.allclose(after.array(), before.array(), atol=1e-3)


def test_every_bone_gets_the_other_s_length_and_keeps_its_direction() -> None:
    other = figure(0.3, root=(60, 120), **LONG)
    poses = [figure(arms) for arms in (0.2, 0.8, 1.5)]
    for before, after in zip(poses, retarget(poses, other), strict=True):
        assert after.format == CANONICAL and after.size == other.size
        for part, (a, b) in PARTS.items():
            assert length(after, a, b) == pytest.approx((BONES | LONG)[part], rel=1e-3), part
            assert angle(after, a, b) == pytest.approx(angle(before, a, b), abs=1e-3), part


def test_the_person_comes_to_stand_where_the_other_stands() -> None:
    other = figure(root=(40, 100))
    large = [figure(root=(300 + 10 * i, 400), **{part: 2 * n for part, n in BONES.items()}) for i in range(3)]
    found = retarget(large, other)
    roots = [pose.xy[[11, 12]].mean(0) for pose in found]
    assert np.allclose(roots, [[40, 100], [45, 100], [50, 100]], atol=1e-3), "movements in the other's size"
    assert np.allclose(found[0].array(), other.array(), atol=1e-2)


def test_a_bone_that_points_at_the_camera_does_not_set_its_length() -> None:
    """Projected bones are shorter than they are, so a high percentile over the motion is taken."""
    short = {"upper arm": 8.0, "forearm": 5.0}
    poses = [figure(arms) for arms in np.linspace(0.1, 1.2, 10)] + [figure(0.4, **short)] * 5
    found = retarget(poses, figure(0.2, **LONG))
    assert length(found[0], "left_shoulder", "left_elbow") == pytest.approx(36, rel=1e-3)
    assert length(found[-1], "left_shoulder", "left_elbow") == pytest.approx(36 * 8 / 30, rel=1e-3), (
        "and stays short"
    )


def test_a_limb_that_the_reference_hides_in_depth_is_kept_within_reason() -> None:
    """What cannot be seen: a reference with an arm at the camera looks as if the arm were short."""
    other = figure(0.2, **{"upper arm": 3.0, "forearm": 3.0})
    ratios = measure([figure(0.2)], other).ratios
    assert ratios["upper arm"] == pytest.approx(ratios["body"] / 1.5)


def test_missing_joints_stay_missing_and_their_children_hang_on_what_is_there() -> None:
    pose = figure(0.9)
    rows = pose.array()
    rows[JOINTS.index("left_elbow")] = 0
    (found,) = retarget([Pose.of(rows, size=SIZE)], figure(0.2, **LONG), calibration=figure(0.2))
    assert found.score[JOINTS.index("left_elbow")] == 0
    wrist = found.xy[JOINTS.index("left_wrist")] - found.xy[JOINTS.index("left_shoulder")]
    forearm = 22 / 26
    assert np.allclose(wrist, forearm * 56 * np.array([np.sin(0.9), np.cos(0.9)]), atol=1e-2)


def upper(pose: Pose) -> Pose:
    rows = pose.array()
    rows[11:17] = 0
    return Pose.of(rows, size=SIZE)


def test_a_reference_cut_above_the_hips_is_matched_at_the_neck() -> None:
    other = upper(figure(0.3, root=(60, 120), **LONG))
    found = retarget([figure(arms) for arms in (0.2, 1.0)], other)
    for pose in found:
        assert np.allclose(pose.xy[[5, 6]].mean(0), other.xy[[5, 6]].mean(0), atol=1e-2)
        assert length(pose, "left_shoulder", "left_elbow") == pytest.approx(36, rel=1e-3)


def test_the_samples_motion_gets_another_sample_s_body() -> None:
    motion, other = samples.motion(), samples.pairs()[0].pose
    found = retarget(motion.poses, other)
    assert len(found) == len(motion.poses)
    for before, after in zip(motion.poses, found, strict=True):
        assert np.array_equal(before.score, after.score)
        assert np.isfinite(after.xy).all() and after.size == other.size
    start = found[0].xy[[11, 12]].mean(0)
    assert np.allclose(start, other.xy[[11, 12]].mean(0), atol=1e-2)


def test_any_format_can_be_retargeted() -> None:
    for name in ("coco-17", "openpose-18", "body-25", "mediapipe-33", "openpose-137"):
        (found,) = retarget([figure(0.5).to(name)], figure(0.2, **LONG).to(name))
        assert found.format == CANONICAL and length(found, "left_hip", "left_knee") == pytest.approx(
            50, rel=1e-3
        )


def test_what_cannot_be_compared_is_refused() -> None:
    rows = np.zeros((133, 3))
    rows[0] = 5, 6, 1
    head = Pose.of(rows, size=SIZE)
    with pytest.raises(PoseError, match="to: nothing to compare"):
        retarget([figure()], head)
    rows[[5, 7]] = [[10, 20, 1], [10, 40, 1]]
    with pytest.raises(PoseError, match="to: no root") as caught:
        retarget([figure()], Pose.of(rows, size=SIZE))
    assert "both hips or both shoulders" in str(caught.value.expected)
