"""How good pictures are, on numpy arrays and without PyTorch: fidelity, sharpness, pose, identity, time, sets.

`flowpose.metrics.published` is apart: the field's own FID and LPIPS, which need PyTorch and weights on disk.
"""

from __future__ import annotations

from flowpose.metrics.distribution import frechet_distance, kernel_distance, view_features, with_interval
from flowpose.metrics.fidelity import masked_psnr, masked_ssim, ms_ssim, psnr, ssim, ssim_uniform
from flowpose.metrics.grid import grid_excess
from flowpose.metrics.intervals import Interval, mean_interval
from flowpose.metrics.judge import Judge, View, calibrate, identity_similarity, own_lpips
from flowpose.metrics.masks import person_mask
from flowpose.metrics.pose import PoseAccuracy, comparable, pose_accuracy
from flowpose.metrics.scores import Scores, intervals, score, summary
from flowpose.metrics.sharpness import laplacian_ratio, spectrum_ratio
from flowpose.metrics.temporal import flicker, motion, static_jitter

__all__ = [
    "Interval",
    "Judge",
    "PoseAccuracy",
    "Scores",
    "View",
    "calibrate",
    "comparable",
    "flicker",
    "frechet_distance",
    "grid_excess",
    "identity_similarity",
    "intervals",
    "kernel_distance",
    "laplacian_ratio",
    "masked_psnr",
    "masked_ssim",
    "mean_interval",
    "motion",
    "ms_ssim",
    "own_lpips",
    "person_mask",
    "pose_accuracy",
    "psnr",
    "score",
    "spectrum_ratio",
    "ssim",
    "ssim_uniform",
    "static_jitter",
    "summary",
    "view_features",
    "with_interval",
]
