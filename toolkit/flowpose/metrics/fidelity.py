"""Fidelity to a true picture: PSNR and SSIM of u8[H,W,3] pictures (RGB, 0..255), whole or in a mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.metrics.pictures import check

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

Means = Callable[[Floats], Floats]
"""Picture f64[H,W,3] -> local means f64[H,W,3]."""

WINDOW, SIGMA = 11, 1.5
WIDE, NARROW = 51, 7  # of ssim_uniform
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's five scales, Wang et al. 2003
HIGHEST = 100.0  # dB, given for equal pictures, so that means stay finite


def _decibels(picture: Bytes, truth: Bytes) -> float:
    error = float(np.mean((picture.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return HIGHEST if error == 0 else min(HIGHEST, 10.0 * math.log10(255.0**2 / error))


def psnr(picture: Bytes, truth: Bytes) -> float:
    """Returns the peak signal-to-noise ratio in dB over all pixels and colours; 100 for equal pictures.

    Raises:
        ImageError: not u8[H,W,3], or the sizes differ.
    """
    check("psnr", picture, truth)
    return _decibels(picture, truth)


def _gaussian(values: Floats) -> Floats:
    """Returns Gaussian-weighted local means, the picture mirrored at its borders."""
    return np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA), np.float64)


def _square(window: int) -> Means:
    """Returns the function that gives equally weighted means over squares of `window` pixels a side."""
    return lambda values: np.asarray(cv2.blur(values, (window, window)), np.float64)


def _maps(a: Floats, b: Floats, means: Means = _gaussian, unbiased: float = 1.0) -> tuple[Floats, Floats]:
    """Returns the maps f64[H,W,3] of SSIM and of its contrast-structure part.

    `unbiased` is the factor of variances and covariance: n / (n - 1) for sample ones of n pixels.
    """
    mean_a, mean_b = means(a), means(b)
    var_a = unbiased * (means(a * a) - mean_a**2)
    var_b = unbiased * (means(b * b) - mean_b**2)
    both = unbiased * (means(a * b) - mean_a * mean_b)
    structure = (2 * both + C2) / (var_a + var_b + C2)
    light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return light * structure, structure


def _inside(values: Floats, window: int = WINDOW) -> float:
    """Returns the mean of a map where the whole window lies inside the picture."""
    edge = window // 2
    rows, columns = values.shape[0] - edge, values.shape[1] - edge
    return float(values[edge:rows, edge:columns].mean())


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
    return _inside(_maps(picture.astype(np.float64), truth.astype(np.float64))[0])


def uniform_window(height: int, width: int) -> int:
    """Returns the window of `ssim_uniform` for a picture's size: 51, or 7 where a side has under 51 pixels."""
    return WIDE if min(height, width) >= WIDE else NARROW


def ssim_uniform(picture: Bytes, truth: Bytes, *, window: int = WIDE) -> float:
    """Returns the structural similarity, at most 1, with equal weights in a square window, mean over RGB.

    Papers on pose-guided pictures give this one (GFLA, NTED, PIDM, CFLD: window 51, sample covariances, range
    of the pixel type; notes of their code) beside or in place of `ssim`; the two must not be mixed. A window
    of 7 is the usual default of SSIM programs. Windows that leave the picture are not counted.

    Raises:
        ImageError: not u8[H,W,3], the sizes differ, a side is under the window, or the window is not odd.
    """
    check("ssim_uniform", picture, truth)
    if window < 3 or window % 2 == 0:
        raise ImageError("ssim_uniform", "wrong window", got=window, expected="an odd number from 3 on")
    _large_enough("ssim_uniform", picture, window)
    pixels = window * window
    maps = _maps(picture.astype(np.float64), truth.astype(np.float64), _square(window), pixels / (pixels - 1))
    return _inside(maps[0], window)


def _masked(where: str, picture: Bytes, mask: NDArray[np.bool_]) -> None:
    if mask.shape != picture.shape[:2] or mask.dtype != np.bool_:
        got = f"{mask.dtype}{list(mask.shape)}"
        raise ImageError(where, "wrong mask", got=got, expected=f"bool{list(picture.shape[:2])}")
    if not mask.any():
        raise ImageError(where, "empty mask", expected="one pixel or more")


def masked_psnr(picture: Bytes, truth: Bytes, mask: NDArray[np.bool_]) -> float:
    """Returns `psnr` in dB over the pixels of a mask bool[H,W] only.

    Raises:
        ImageError: as `psnr`, or a mask of another size, or an empty one.
    """
    check("masked_psnr", picture, truth)
    _masked("masked_psnr", picture, mask)
    return _decibels(picture[mask], truth[mask])


def masked_ssim(picture: Bytes, truth: Bytes, mask: NDArray[np.bool_]) -> float:
    """Returns the mean over a mask bool[H,W] of the map of `ssim`, at most 1.

    Unlike `ssim` it counts windows that leave the picture, which is mirrored there: people touch its edges.

    Raises:
        ImageError: as `ssim`, or a mask of another size, or an empty one.
    """
    check("masked_ssim", picture, truth)
    _large_enough("masked_ssim", picture, WINDOW)
    _masked("masked_ssim", picture, mask)
    return float(_maps(picture.astype(np.float64), truth.astype(np.float64))[0][mask].mean())


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
        whole, structure = (_inside(found) for found in _maps(a, b))
        result *= max(whole if scale == scales - 1 else structure, 0.0) ** float(weight)
        size = (a.shape[1] // 2, a.shape[0] // 2)
        a, b = (np.asarray(cv2.resize(x, size, interpolation=cv2.INTER_AREA), np.float64) for x in (a, b))
    return result
