"""Fidelity to a true picture: PSNR and SSIM of u8[H,W,3] pictures (RGB, 0..255)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.metrics.pictures import check

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's five scales, Wang et al. 2003
HIGHEST = 100.0  # dB, given for equal pictures, so that means stay finite


def psnr(picture: Bytes, truth: Bytes) -> float:
    """Returns the peak signal-to-noise ratio in dB over all pixels and colours; 100 for equal pictures.

    Raises:
        ImageError: not u8[H,W,3], or the sizes differ.
    """
    check("psnr", picture, truth)
    error = float(np.mean((picture.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return HIGHEST if error == 0 else min(HIGHEST, 10.0 * math.log10(255.0**2 / error))


def _means(values: Floats) -> Floats:
    """Returns Gaussian-weighted local means where the whole window lies inside the picture."""
    edge = WINDOW // 2
    return np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA), np.float64)[edge:-edge, edge:-edge]


def _terms(a: Floats, b: Floats) -> tuple[float, float]:
    """Returns the means of SSIM and of its contrast-structure part."""
    mean_a, mean_b = _means(a), _means(b)
    var_a = _means(a * a) - mean_a**2
    var_b = _means(b * b) - mean_b**2
    both = _means(a * b) - mean_a * mean_b
    structure = (2 * both + C2) / (var_a + var_b + C2)
    light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return float((light * structure).mean()), float(structure.mean())


def _large_enough(where: str, picture: Bytes, least: int) -> None:
    if min(picture.shape[:2]) < least:
        raise ImageError(
            where, "picture too small", got=list(picture.shape), expected=f"{least} pixels a side or more"
        )


def ssim(picture: Bytes, truth: Bytes) -> float:
    """Returns the structural similarity, at most 1: Gaussian window 11, sigma 1.5, range 255, mean over RGB.

    As Wang et al. 2004 (doi 10.1109/TIP.2003.819861); windows that leave the picture are not counted.

    Raises:
        ImageError: not u8[H,W,3], the sizes differ, or a side is under 11 pixels.
    """
    check("ssim", picture, truth)
    _large_enough("ssim", picture, WINDOW)
    return _terms(picture.astype(np.float64), truth.astype(np.float64))[0]


def ms_ssim(picture: Bytes, truth: Bytes) -> float:
    """Returns the multi-scale SSIM, 0..1, over as many of the five scales as the picture's size allows.

    Pictures under 176 pixels a side use fewer scales, whose weights then sum to 1: compare like sizes only.

    Raises:
        ImageError: as `ssim`.
    """
    check("ms_ssim", picture, truth)
    _large_enough("ms_ssim", picture, WINDOW)
    scales = min(len(WEIGHTS), 1 + int(math.log2(min(picture.shape[:2]) / WINDOW)))
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    a, b = picture.astype(np.float64), truth.astype(np.float64)
    result = 1.0
    for scale, weight in enumerate(weights):
        whole, structure = _terms(a, b)
        result *= max(whole if scale == scales - 1 else structure, 0.0) ** float(weight)
        size = (a.shape[1] // 2, a.shape[0] // 2)
        a, b = (np.asarray(cv2.resize(x, size, interpolation=cv2.INTER_AREA), np.float64) for x in (a, b))
    return result
