"""What is varied in training: mirrored pairs, hidden hands, feet and faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpose.pose import FORMATS

BODY = slice(0, 17)
PARTS = (slice(17, 23), slice(23, 91), slice(91, 133))  # feet, face, hands
Floats = NDArray[np.float32]
MIRROR = np.array(FORMATS["coco-wholebody-133"].mirror)


def mirror_keypoints(keypoints: Floats, width: int) -> Floats:
    """f32[..., 133, 3] of the mirrored picture: x turned and left and right joints exchanged."""
    turned: Floats = keypoints[..., MIRROR, :].copy()
    turned[..., 0] = np.where(turned[..., 2] > 0, width - turned[..., 0], 0)
    return turned


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
