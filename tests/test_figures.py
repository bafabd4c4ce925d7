"""Procedural figures: same seed same picture, exact keypoints, smooth motion."""

from __future__ import annotations

import numpy as np
import pytest

from flowpose.data.figure_motion import ANGLES, FigurePose, skeleton
from flowpose.data.figures import draw, figure_identity, figure_pose, motion
from flowpose.errors import DataError


def standing(**angles: float) -> FigurePose:
    return FigurePose(tuple(angles.get(name, 0.0) for name in ANGLES))


def poses(count: int) -> list[FigurePose]:
    rng = np.random.default_rng(7)
    return [figure_pose(rng) for _ in range(count)]


@pytest.mark.parametrize(("height", "width"), [(64, 48), (128, 88), (256, 176), (65, 37)])
def test_picture_and_keypoints_have_the_asked_size(height: int, width: int) -> None:
    for number, pose in enumerate(poses(5)):
        picture, keypoints = draw(figure_identity(number), pose, height, width)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert keypoints.shape == (133, 3)
        assert keypoints.dtype == np.float32
        given = keypoints[:, 2] > 0
        assert given[:17].sum() >= 3
        assert (keypoints[~given] == 0).all()
        assert (keypoints[given, :2] >= 0).all()
        assert (keypoints[given, 0] < width).all()
        assert (keypoints[given, 1] < height).all()


def test_same_seed_gives_the_same_picture_and_another_seed_another() -> None:
    pose = poses(1)[0]
    first, same, other = (draw(figure_identity(seed), pose, 64, 48)[0] for seed in (3, 3, 4))
    assert (first == same).all()
    assert (first != other).mean() > 0.1
    assert figure_identity(3) == figure_identity(3)
    assert poses(3) == poses(3)


def test_keypoints_scale_with_the_picture() -> None:
    pose, who = standing(left_abduction=1.2), figure_identity(1)
    small, large = (draw(who, pose, 64 * k, 44 * k)[1] for k in (1, 4))
    given = small[:, 2] > 0
    np.testing.assert_allclose(small[given, :2] * 4, large[given, :2], atol=1e-3)


def test_left_is_the_persons_own() -> None:
    who = figure_identity(0)
    front, back = (draw(who, standing(yaw=yaw), 128, 88)[1] for yaw in (0.0, np.pi))
    assert front[5, 0] > front[6, 0], "from the front the left shoulder is on the viewer's right"
    assert back[5, 0] < back[6, 0]
    assert front[17, 0] < front[18, 0], "the left big toe lies inside of the little toe"


def test_covered_faces_are_missing_from_behind() -> None:
    who = figure_identity(0)
    front, back = (draw(who, standing(yaw=yaw), 128, 88)[1] for yaw in (0.0, np.pi))
    assert (front[:3, 2] == 1).all()
    assert (back[:3, 2] == 0).all()
    assert (back[23:91, 2] == 0).all()
    assert (back[5:17, 2] == 1).all()


def test_positive_yaw_turns_the_left_side_to_the_viewer() -> None:
    joints = skeleton(standing(yaw=np.pi / 2), figure_identity(0).body)
    assert joints["left_shoulder"][2] > joints["right_shoulder"][2]
    nose = draw(figure_identity(0), standing(yaw=0.8), 128, 88)[1]
    assert nose[0, 0] < nose[3, 0], "the nose points to the viewer's left of the left ear"


def test_limbs_keep_their_lengths() -> None:
    who = figure_identity(5)
    for pose in poses(30):
        joints = skeleton(pose, who.body)
        for side in ("left", "right"):
            for a, b, length in (
                ("shoulder", "elbow", who.body.upper_arm),
                ("elbow", "wrist", who.body.forearm),
                ("hip", "knee", who.body.thigh),
                ("knee", "ankle", who.body.shin),
            ):
                span = np.linalg.norm(joints[f"{side}_{a}"] - joints[f"{side}_{b}"])
                assert span == pytest.approx(length, rel=1e-6)


def test_joints_lie_on_the_drawn_person() -> None:
    """The picture differs from its backdrop at every body joint."""
    missed = 0
    for number, pose in enumerate(poses(12)):
        who = figure_identity(number)
        picture, keypoints = draw(who, pose, 128, 88)
        given = keypoints[5:17][keypoints[5:17, 2] > 0]
        for x, y, _ in given:
            backdrop = np.array(who.sky) + (np.array(who.floor) - np.array(who.sky)) * (y / 128)
            missed += int(np.abs(picture[int(y), int(x)] - backdrop).max() < 8)
    assert missed <= 3, (
        "clothes may have the backdrop's colour now and then, joints beside the person may not"
    )


def test_motion_is_smooth_and_deterministic() -> None:
    frames = motion(2, 48, 15)
    assert frames == motion(2, 48, 15)
    assert len(frames) == 48
    who = figure_identity(2)
    points = np.stack([draw(who, pose, 64, 48)[1][5:17, :2] for pose in frames])
    step = np.linalg.norm(np.diff(points, axis=0), axis=2)
    assert step.max() < 8.0, "pixels a frame, in a picture 64 pixels high"
    assert points.std(0).max() > 1.0, "it moves"


@pytest.mark.parametrize(("frames", "fps"), [(0, 15), (10, 0), (-3, 15)])
def test_no_motion_is_an_error(frames: int, fps: float) -> None:
    with pytest.raises(DataError, match="motion"):
        motion(0, frames, fps)


def test_tiny_pictures_are_an_error() -> None:
    with pytest.raises(DataError, match="too small"):
        draw(figure_identity(0), standing(), 8, 48)
