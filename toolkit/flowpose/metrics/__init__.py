"""How good a picture is: fidelity, sharpness, pose and identity, on numpy arrays and without PyTorch."""

from __future__ import annotations

from flowpose.metrics.fidelity import ms_ssim, psnr, ssim
from flowpose.metrics.judge import Judge, View, identity_similarity, own_lpips
from flowpose.metrics.pose import PoseAccuracy, pose_accuracy
from flowpose.metrics.scores import Scores, score, summary
from flowpose.metrics.sharpness import laplacian_ratio, spectrum_ratio

__all__ = [
    "Judge",
    "PoseAccuracy",
    "Scores",
    "View",
    "identity_similarity",
    "laplacian_ratio",
    "ms_ssim",
    "own_lpips",
    "pose_accuracy",
    "psnr",
    "score",
    "spectrum_ratio",
    "ssim",
    "summary",
]
