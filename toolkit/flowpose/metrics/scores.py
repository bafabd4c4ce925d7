"""All scores of one picture, and their means over a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError
from flowpose.metrics.fidelity import psnr, ssim
from flowpose.metrics.judge import Judge, View, identity_similarity, own_lpips
from flowpose.metrics.pose import pose_accuracy
from flowpose.metrics.sharpness import laplacian_ratio, spectrum_ratio


@dataclass(frozen=True)
class Scores:
    """How good a picture is against the true one.

    Attributes:
        psnr: dB, higher is better.
        ssim: at most 1, higher is better.
        own_lpips: 0 or more, lower is better.
        sharpness: amplitude ratio in the finest octave; 1 is as sharp as the truth.
        laplacian: ratio of the Laplacians' variances; 1 is as sharp as the truth.
        pose: share of the asked joints that the judge finds within 0.1 of the box diagonal, higher is better.
        pose_error: mean distance of the joints as a share of that diagonal, lower is better.
        identity: cosine of the judge's identity vectors, higher is better.
    """

    psnr: float
    ssim: float
    own_lpips: float
    sharpness: float
    laplacian: float
    pose: float
    pose_error: float
    identity: float


def score(
    picture: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    truth_keypoints: NDArray[np.floating],
    judge: Judge,
    *,
    truth_view: View | None = None,
) -> Scores:
    """Returns the scores of a picture against its truth, both u8[H,W,3], and the keypoints f32[17|133,3].

    `truth_view` is `judge.view(truth)`, when the same truth is scored against often.

    Raises:
        ImageError: not u8[H,W,3], or the sizes differ.
        PoseError: wrong keypoints, see `pose_accuracy`.
    """
    fidelity, likeness = psnr(picture, truth), ssim(picture, truth)
    seen = judge.view(picture)
    wanted = judge.view(truth) if truth_view is None else truth_view
    pose = pose_accuracy(seen.keypoints, truth_keypoints)
    return Scores(
        psnr=fidelity,
        ssim=likeness,
        own_lpips=own_lpips(seen, wanted),
        sharpness=spectrum_ratio(picture, truth, octaves=1)[-1],
        laplacian=laplacian_ratio(picture, truth),
        pose=pose.pck,
        pose_error=pose.error,
        identity=identity_similarity(seen, wanted),
    )


def summary(scores: Sequence[Scores]) -> Scores:
    """Returns the mean of every score.

    Raises:
        DataError: no scores.
    """
    if not scores:
        raise DataError("summary", "no scores", expected="one or more")
    means = np.array([astuple(s) for s in scores], np.float64).mean(0)
    return Scores(**{field.name: float(mean) for field, mean in zip(fields(Scores), means, strict=True)})
