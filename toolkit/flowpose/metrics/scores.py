"""All scores of one picture, and their means over a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError
from flowpose.metrics.fidelity import (
    masked_psnr,
    masked_ssim,
    ms_ssim,
    psnr,
    ssim,
    ssim_uniform,
    uniform_window,
)
from flowpose.metrics.grid import grid_excess
from flowpose.metrics.intervals import Interval, mean_interval
from flowpose.metrics.judge import Judge, View, identity_similarity, own_lpips
from flowpose.metrics.masks import person_mask
from flowpose.metrics.pictures import check
from flowpose.metrics.pose import pose_accuracy
from flowpose.metrics.sharpness import laplacian_ratio, spectrum_ratio


@dataclass(frozen=True)
class Scores:
    """How good a picture is against the true one.

    Pictures of different sizes are compared with care: the windows and scales of SSIM stay in pixels.

    Attributes:
        psnr: dB, higher is better.
        ssim: at most 1, higher is better; Gaussian window of 11, sigma 1.5 (Wang et al. 2004).
        ssim_uniform: the same with the other setting of the field's papers: a square window of 51 with equal
            weights, or of 7 where a side has under 51 pixels.
        ms_ssim: 0..1, higher is better.
        own_lpips: 0 or more, lower is better.
        spectrum_top: amplitude ratio in the finest octave; 1 is as sharp as the truth.
        spectrum_2: the same in the octave below it.
        laplacian: ratio of the Laplacians' variances; 1 is as sharp as the truth.
        grid: how far fine detail repeats with blocks of 8 pixels, lower is better; of the picture alone, and about 1
            for any picture that no autoencoder made (see `grid_excess`).
        pck: share of the asked joints that the judge finds within 0.1 of the box diagonal, higher is better;
            of all of the 17 body joints that have a score above 0.
        pose_error: mean distance of the joints as a share of that diagonal, lower is better.
        identity: cosine of the judge's identity vectors, higher is better.
        masked_psnr: psnr over the person only (see `person_mask`): a plain backdrop lifts the whole picture's.
        masked_ssim: mean of the map of `ssim` over the person only.
    """

    psnr: float
    ssim: float
    ssim_uniform: float
    ms_ssim: float
    own_lpips: float
    spectrum_top: float
    spectrum_2: float
    laplacian: float
    grid: float
    pck: float
    pose_error: float
    identity: float
    masked_psnr: float
    masked_ssim: float


def score(
    picture: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    truth_keypoints: NDArray[np.floating],
    judge: Judge,
    *,
    view: View | None = None,
    truth_view: View | None = None,
) -> Scores:
    """Returns the scores of a picture against its truth, both u8[H,W,3], and the keypoints f32[17|133,3].

    `view` and `truth_view` are `judge.view` of the picture and of the truth, where they are known already.

    Raises:
        ImageError: not u8[H,W,3], or the sizes differ.
        PoseError: wrong keypoints, see `pose_accuracy`.
    """
    check("score", picture, truth)
    seen = judge.view(picture) if view is None else view
    wanted = judge.view(truth) if truth_view is None else truth_view
    height, width = truth.shape[:2]
    mask = person_mask(truth_keypoints, height, width)
    pose = pose_accuracy(seen.keypoints, truth_keypoints)
    second, top = spectrum_ratio(picture, truth, octaves=2)
    return Scores(
        psnr=psnr(picture, truth),
        ssim=ssim(picture, truth),
        ssim_uniform=ssim_uniform(picture, truth, window=uniform_window(height, width)),
        ms_ssim=ms_ssim(picture, truth),
        own_lpips=own_lpips(seen, wanted),
        spectrum_top=top,
        spectrum_2=second,
        laplacian=laplacian_ratio(picture, truth),
        grid=grid_excess(picture),
        pck=pose.pck,
        pose_error=pose.error,
        identity=identity_similarity(seen, wanted),
        masked_psnr=masked_psnr(picture, truth, mask),
        masked_ssim=masked_ssim(picture, truth, mask),
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


def intervals(scores: Sequence[Scores]) -> dict[str, Interval]:
    """Returns the mean of every score with its bootstrap interval (see `mean_interval`), by the score's name.

    Every score is resampled with the same pictures, so intervals of one set belong together.

    Raises:
        DataError: no scores, or one that is not finite.
    """
    return {field.name: mean_interval([getattr(s, field.name) for s in scores]) for field in fields(Scores)}
