"""Steadiness in time: does a still pose give a still picture, and a smooth motion a smooth one?

All figures fall with blur, too: read them beside sharpness, and against a teacher or the truth. `motion` says how much
of the truth's own change a picture follows; jitter divided by it is how much of what moves should not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError, ImageError, PoseError

Frames = NDArray[np.uint8]
"""u8[n,H,W,3], RGB."""

Render = Callable[[NDArray[np.float32]], Frames]
"""Keypoints f32[n,133,3] -> pictures u8[n,H,W,3]: row i always of the same source, which the callable holds."""

ROWS = 128  # the picture height at which pixels of joint movement are counted
SMALLEST = 1e-3  # 8-bit levels; a truth that changes less stands still


def _rendered(render: Render, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = render(keypoints)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) != len(keypoints):
        got = f"{frames.dtype}{list(frames.shape)}"
        raise ImageError("render", "wrong pictures", got=got, expected=f"uint8[{len(keypoints)}, H, W, 3]")
    return frames.astype(np.float32)


def _given(keypoints: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Returns bool[n,133]: joints with a score above 0."""
    if keypoints.ndim != 3 or keypoints.shape[1:] != (133, 3) or not len(keypoints):
        raise PoseError("keypoints", "wrong shape", got=list(keypoints.shape), expected="[1 or more, 133, 3]")
    if not np.isfinite(keypoints).all():
        raise PoseError("keypoints", "not finite", got="NaN or infinity", expected="pixels and scores")
    given = np.asarray(keypoints[..., 2] > 0)
    if not given.any(1).all():
        raise PoseError("keypoints", "all joints are missing", expected="a joint with a score above 0")
    return given


def static_jitter(
    render: Render,
    keypoints: NDArray[np.floating],
    *,
    pixels: float = 0.5,
    perturbations: int = 8,
    seed: int = 0,
) -> float:
    """Returns the mean absolute change of the picture, in 8-bit levels, per pixel that a still pose's joints move.

    Every given joint of keypoints f32[n,133,3] is moved by N(0, `pixels`) in x and y, `perturbations` times
    over: the noise of a pose detector on a person who stands still. Pixels are those of a picture of 128
    rows, both for the movement made and for the one divided by, so models of different sizes compare.

    Raises:
        PoseError: keypoints of another shape, not finite, or a row without joints.
        ImageError: the renderer gives no u8[n,H,W,3].
        DataError: no movement or no perturbations asked for.
    """
    if not pixels > 0 or perturbations < 1:
        raise DataError("static_jitter", "nothing moves", got=[pixels, perturbations], expected="more than 0")
    given, points = _given(keypoints), np.asarray(keypoints, np.float32)
    still = _rendered(render, points)
    scale, rng = still.shape[1] / ROWS, np.random.default_rng(seed)
    change = movement = 0.0
    for _ in range(perturbations):
        shift = rng.normal(0.0, pixels, (*given.shape, 2)) * given[..., None]
        moved = points.copy()
        moved[..., :2] += (shift * scale).astype(np.float32)
        change += float(np.abs(_rendered(render, moved) - still).mean())
        lengths = np.hypot(shift[..., 0], shift[..., 1])
        movement += float((lengths.sum(1) / given.sum(1)).mean())
    return change / movement


def _acceleration(frames: Frames) -> float:
    """Returns the mean absolute second difference in time, 8-bit levels."""
    values = frames.astype(np.float32)
    return float(np.abs(values[2:] - 2 * values[1:-1] + values[:-2]).mean())


def _compared(frames: Frames, truth: Frames) -> None:
    for where, found in (("frames", frames), ("truth", truth)):
        if found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] != 3:
            got = f"{found.dtype}{list(found.shape)}"
            raise ImageError(where, "wrong pictures", got=got, expected="uint8[t, H, W, 3]")
    if frames.shape != truth.shape:
        raise ImageError("sequence", "sizes differ", got=[frames.shape, truth.shape], expected="one size")
    if len(frames) < 3:
        raise DataError("sequence", "too few frames", got=len(frames), expected="3 or more")


def _ratio(measure: Callable[[Frames], float], frames: Frames, truth: Frames) -> float:
    _compared(frames, truth)
    true = measure(truth)
    if true < SMALLEST:
        raise DataError(
            "sequence", "the truth stands still", got=true, expected="a motion; see static_jitter"
        )
    return measure(frames) / true


def _velocity(frames: Frames) -> float:
    """Returns the mean absolute first difference in time, 8-bit levels."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def flicker(frames: Frames, truth: Frames) -> float:
    """Returns how unsteady a sequence is against the true one, both u8[t,H,W,3]: 1 as steady, above 1 flickers.

    Ratio of the mean absolute second differences in time. Motion that is even cancels out of them; what
    comes and goes from frame to frame does not.

    Raises:
        ImageError: another shape or dtype, or the sequences differ in size.
        DataError: fewer than three frames, or a truth that stands still.
    """
    return _ratio(_acceleration, frames, truth)


def motion(frames: Frames, truth: Frames) -> float:
    """Returns how much a sequence changes from frame to frame against the true one, both u8[t,H,W,3]: 1 as much.

    Ratio of the mean absolute first differences in time. A blurred person changes less where it moves, and so it
    does when its joints are moved by noise: `static_jitter` of two models compares at equal motion only.

    Raises:
        ImageError, DataError: as `flicker`.
    """
    return _ratio(_velocity, frames, truth)
