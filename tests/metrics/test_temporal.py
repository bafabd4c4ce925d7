"""Jitter and flicker: renderers and sequences whose answer is known, then figures in motion."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figure_motion import motion
from flowpose.data.figures import draw, figure_identity
from flowpose.errors import DataError, ImageError, PoseError
from flowpose.metrics import flicker, static_jitter
from flowpose.metrics import motion as movement

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


def keypoints(count: int = 3, height: int = 128) -> Floats:
    rows = np.zeros((count, 133, 3), np.float32)
    rows[:, :17, :2] = np.random.default_rng(0).uniform(20, 60, (17, 2)) * height / 128
    rows[:, :17, 2] = 1
    return rows


def still(points: Floats) -> Frames:
    return np.full((len(points), 128, 88, 3), 128, np.uint8)


def ramp(points: Floats, height: int = 128, slope: float = 16.0) -> Frames:
    """A whole picture as bright as the first joint is far right: `slope` levels a pixel at 128 rows."""
    level = np.clip(points[:, 0, 0] * slope * 128 / height - 320, 0, 255)
    return np.broadcast_to(level[:, None, None, None], (len(points), height, height // 2, 3)).astype(np.uint8)


def discs(points: Floats, height: int = 128, edge: float = 2.0) -> Frames:
    """A soft disc on every given joint."""
    y, x = np.mgrid[:height, : height * 11 // 16].astype(np.float32) + 0.5
    frames = []
    for row in points:
        joints = row[row[:, 2] > 0]
        far = np.hypot(x - joints[:, 0, None, None], y - joints[:, 1, None, None]).min(0) * 128 / height
        frames.append(np.clip(255 * (6 - far) / edge, 0, 255))
    return np.repeat(np.stack(frames)[..., None], 3, 3).astype(np.uint8)


def test_a_picture_that_ignores_the_pose_has_no_jitter() -> None:
    assert static_jitter(still, keypoints()) == 0


def test_jitter_of_a_ramp_is_its_slope() -> None:
    """One joint moved by N(0, s) in x and y: mean |dx| over mean distance is sqrt(2 / pi) / sqrt(pi / 2)."""
    points = keypoints(64)
    points[:, 1:, 2] = 0
    points[:, 0, 0] = 27.5
    found = static_jitter(ramp, points, perturbations=16)
    assert found == pytest.approx(16 * 2 / np.pi, rel=0.08)


def test_jitter_is_the_same_for_pictures_twice_as_large() -> None:
    """Pixels are those of 128 rows, in what is moved and in what is divided by."""
    small = static_jitter(lambda p: discs(p), keypoints(1))
    large = static_jitter(lambda p: discs(p, 256), keypoints(1, 256))
    assert large == pytest.approx(small, rel=0.05)


def test_a_renderer_that_snaps_jitters_more_and_a_blurred_one_less() -> None:
    """Joints rounded to a grid of 8 pixels stand still or leap: what a quantised or rough model does."""
    points = keypoints(2)
    points[..., :2] = np.where(points[..., 2:] > 0, np.round(points[..., :2] / 8) * 8 + 4, 0)

    def snapped(p: Floats) -> Frames:
        return discs(np.concatenate([np.round(p[..., :2] / 8) * 8, p[..., 2:]], 2).astype(np.float32))

    def soft(p: Floats) -> Frames:
        return np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), 4.0), np.uint8) for f in discs(p)])

    smooth = static_jitter(discs, points)
    assert static_jitter(snapped, points) > 1.5 * smooth
    assert static_jitter(soft, points) < smooth


def test_jitter_is_repeatable_and_leaves_missing_joints_alone() -> None:
    seen: list[Floats] = []

    def watched(p: Floats) -> Frames:
        seen.append(p.copy())
        return discs(p)

    points = keypoints()
    first = static_jitter(watched, points, perturbations=2)
    assert first == static_jitter(discs, points, perturbations=2)
    assert first != static_jitter(discs, points, perturbations=2, seed=1)
    assert len(seen) == 3
    for moved in seen[1:]:
        assert (moved[:, 17:] == points[:, 17:]).all()
        assert (moved[..., 2] == points[..., 2]).all()
        assert (moved[:, :17, :2] != points[:, :17, :2]).all()
        assert np.std(moved[:, :17, :2] - points[:, :17, :2]) == pytest.approx(0.5, rel=0.25)


def test_wrong_renders_and_poses_are_errors() -> None:
    with pytest.raises(PoseError, match="wrong shape"):
        static_jitter(still, keypoints()[:, :17])
    with pytest.raises(PoseError, match="not finite"):
        static_jitter(still, keypoints() * np.float32(np.nan))
    with pytest.raises(PoseError, match="all joints are missing"):
        static_jitter(still, np.zeros((1, 133, 3), np.float32))
    with pytest.raises(ImageError, match="wrong pictures"):
        static_jitter(lambda p: still(p)[:1], keypoints())
    with pytest.raises(DataError, match="nothing moves"):
        static_jitter(still, keypoints(), pixels=0)


def noisy(frames: Frames, deviation: float) -> Frames:
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def test_an_even_fade_has_no_flicker() -> None:
    fade = np.arange(0, 80, 8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    jerky = fade.copy()
    jerky[1::2] += 4
    assert flicker(fade, jerky) == 0
    assert flicker(jerky, jerky) == 1
    with pytest.raises(DataError, match="stands still"):
        flicker(jerky, fade)


def test_twice_the_swing_flickers_twice_as_much() -> None:
    swing = np.array([0, 1, 0, 1, 0], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    assert flicker(100 + 20 * swing, 100 + 10 * swing) == pytest.approx(2)


def test_half_the_contrast_moves_half_as_much() -> None:
    fade = np.arange(0, 80, 8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    assert movement(fade, fade) == 1
    assert movement(fade // 2, fade) == pytest.approx(0.5)
    assert movement(fade[:1].repeat(len(fade), 0), fade) == 0
    with pytest.raises(DataError, match="stands still"):
        movement(fade, fade[:1].repeat(len(fade), 0))


@pytest.fixture(scope="module")
def figures() -> dict[str, Frames]:
    """A figure in motion as it should be, blurred, in another's clothes every other frame, or late now and then."""
    poses, frames = motion(3, 9, 12.0), {}
    own, other = ([draw(figure_identity(i), pose, 64, 44)[0] for pose in poses] for i in (9001, 9002))
    frames["truth"] = np.stack(own)
    frames["blurred"] = np.stack([np.asarray(cv2.GaussianBlur(p, (0, 0), 1.2), np.uint8) for p in own])
    frames["person"] = np.stack([(own, other)[i % 2][i] for i in range(len(own))])
    frames["pose"] = np.stack([own[i - 2 if i % 3 == 2 else i] for i in range(len(own))])
    frames["noise"] = noisy(frames["truth"], 4)
    return frames


def test_figures_that_change_from_frame_to_frame_flicker(figures: dict[str, Frames]) -> None:
    found = {name: flicker(frames, figures["truth"]) for name, frames in figures.items()}
    assert found["truth"] == 1
    assert found["person"] > 1.5
    assert found["pose"] > 1.2
    assert found["noise"] > 1.2
    assert found["blurred"] < 1  # why flicker never stands alone


def test_blurred_figures_move_less_and_noise_and_others_more(figures: dict[str, Frames]) -> None:
    found = {name: movement(frames, figures["truth"]) for name, frames in figures.items()}
    assert found["truth"] == 1 > found["blurred"]
    assert min(found["person"], found["noise"]) > 1.1


@pytest.mark.parametrize("flicker", [flicker, movement])
def test_wrong_sequences_are_errors(flicker: Callable[[Frames, Frames], float]) -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="wrong pictures"):
        flicker(frames[0], frames[0])
    with pytest.raises(ImageError, match="wrong pictures"):
        flicker(frames, frames.astype(np.float32))
    with pytest.raises(ImageError, match="sizes differ"):
        flicker(frames, frames[:3])
    with pytest.raises(DataError, match="too few frames"):
        flicker(frames[:2], frames[:2])
