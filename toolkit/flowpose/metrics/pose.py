"""Pose accuracy: how near the joints found in a picture are to those it should show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError

JOINTS = 17  # the body joints of coco-17, which also open coco-wholebody-133
FACE = 5  # nose, eyes and ears come first
LEAST = 2  # joints that a pose is told by


@dataclass(frozen=True)
class PoseAccuracy:
    """How near the joints found are.

    Attributes:
        pck: share of the true joints found within the threshold, 0..1.
        error: mean distance as a share of the true joints' box diagonal.
        joints: joints compared.
    """

    pck: float
    error: float
    joints: int


def checked(where: str, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns keypoints f64[17|133,3] as they are.

    Raises:
        PoseError: another shape, or a value that is not finite.
    """
    if points.ndim != 2 or points.shape[0] not in (JOINTS, 133) or points.shape[1] != 3:
        raise PoseError(where, "wrong shape", got=list(points.shape), expected="[17,3] or [133,3]")
    if not np.isfinite(points).all():
        raise PoseError(where, "not finite", got="NaN or infinity", expected="pixels and scores")
    return np.asarray(points, np.float64)


def comparable(true: NDArray[np.floating]) -> bool:
    """Returns whether keypoints f32[17|133,3] have body joints enough to be compared with: two that are given."""
    return int((true[:JOINTS, 2] > 0).sum()) >= LEAST


def pose_accuracy(
    found: NDArray[np.floating],
    true: NDArray[np.floating],
    *,
    threshold: float = 0.1,
    body_only: bool = False,
) -> PoseAccuracy:
    """Returns how well `found` meets `true`, both f32[17|133,3]: x, y in pixels of one picture, score.

    Only true joints with a score above 0 count, whatever the found ones score; `body_only` omits the face.
    PCK@0.1: a joint is right within 0.1 of the diagonal of the true joints' box.

    Raises:
        PoseError: a wrong shape, a value that is not finite, or fewer than two true joints.
    """
    guess, truth = checked("found keypoints", found)[:JOINTS], checked("true keypoints", true)[:JOINTS]
    given = truth[:, 2] > 0
    if body_only:
        given[:FACE] = False
    if given.sum() < LEAST:
        raise PoseError(
            "true keypoints", "too few joints", got=int(given.sum()), expected="2 or more with a score"
        )
    box = truth[given, :2]
    diagonal = float(np.hypot(*(box.max(0) - box.min(0))))
    distance = np.hypot(*(guess[given, :2] - box).T) / max(diagonal, 1e-6)
    return PoseAccuracy(float((distance <= threshold).mean()), float(distance.mean()), int(given.sum()))
