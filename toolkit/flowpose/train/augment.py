"""What is varied in training: mirrored pairs, moved joints, hidden limbs, hands, feet and faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpose.pose import FORMATS
from flowpose.spec.recipe import PoseAugmentSpec

BODY = slice(0, 17)
PARTS = (slice(17, 23), slice(23, 91), slice(91, 133))  # feet, face, hands
LIMBS = (
    [7, 9, *range(91, 112)],  # left forearm and hand
    [8, 10, *range(112, 133)],
    [13, 15, 17, 18, 19],  # left leg
    [14, 16, 20, 21, 22],
)
LEGS = [*range(13, 23)]
PAIRS = ((5, 6), (11, 12))  # shoulders, hips
Floats = NDArray[np.float32]
MIRROR = np.array(FORMATS["coco-wholebody-133"].mirror)


def mirror_keypoints(keypoints: Floats, width: int) -> Floats:
    """f32[..., 133, 3] of the mirrored picture: x turned and left and right joints exchanged."""
    turned: Floats = keypoints[..., MIRROR, :].copy()
    turned[..., 0] = np.where(turned[..., 2] > 0, width - turned[..., 0], 0)
    return turned


def vary_poses(keypoints: Floats, rng: np.random.Generator, spec: PoseAugmentSpec, height: int) -> Floats:
    """Poses f32[B, 133, 3] in pictures of `height` pixels as detectors and other formats would give them."""
    shown = _hidden(_moved(keypoints, rng, spec, height), LEGS, rng.random(len(keypoints)) < spec.half_body)
    for pose, lost, limb in zip(
        shown, rng.random(len(shown)) < spec.limbs, rng.integers(len(LIMBS), size=len(shown)), strict=True
    ):
        if lost:
            pose[LIMBS[limb]] = 0
    return hide_parts(shown, rng, spec.parts)


def _hidden(keypoints: Floats, joints: list[int], chosen: NDArray[np.bool_]) -> Floats:
    shown: Floats = keypoints.copy()
    shown[np.ix_(np.flatnonzero(chosen), np.array(joints))] = 0
    return shown


def _moved(keypoints: Floats, rng: np.random.Generator, spec: PoseAugmentSpec, height: int) -> Floats:
    """Joints moved at random, shoulders and hips apart; missing joints stay missing."""
    moved: Floats = keypoints.copy()
    chosen = rng.random(len(moved)) < spec.jitter
    steps = rng.normal(0, spec.spread * height, size=(*moved.shape[:2], 2))
    apart = rng.random((len(moved), len(PAIRS))) * spec.widen
    for (left, right), share in zip(PAIRS, apart.T, strict=True):
        step = 0.5 * share[:, None] * (moved[:, left, :2] - moved[:, right, :2])
        both = ((moved[:, left, 2] > 0) & (moved[:, right, 2] > 0))[:, None]
        steps[:, left] += np.where(both, step, 0)
        steps[:, right] -= np.where(both, step, 0)
    given = (moved[..., 2:] > 0) & chosen[:, None, None]
    moved[..., :2] += np.where(given, steps, 0).astype(np.float32)
    return moved


def hide_parts(keypoints: Floats, rng: np.random.Generator, share: float) -> Floats:
    """Hides, in a share of the poses [B, 133, 3] each, all points beyond COCO-17, one part of them, or one joint.

    Users' poses often have 17 joints, and detectors lose some.
    """
    shown: Floats = keypoints.copy()
    for pose, kind in zip(shown, rng.random(len(shown)), strict=True):
        if kind < 0.5 * share:
            pose[17:] = 0
        elif kind < 0.75 * share:
            pose[PARTS[rng.integers(3)]] = 0
        elif kind < share:
            pose[rng.integers(17)] = 0
    return shown
