"""Sharpness: how much fine detail a picture has against the true one, whether or not in the right place.

Blur is the usual fault of one-step students and of small decoders, and PSNR rewards it; these figures do not.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.metrics.pictures import check, grey

Bytes = NDArray[np.uint8]


def _power(picture: Bytes) -> NDArray[np.float64]:
    """Returns the power spectrum of the windowed luma; the window keeps the picture's borders out of it."""
    luma = grey(picture).astype(np.float64)
    window = np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
    return np.asarray(np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2, np.float64)


def spectrum_ratio(picture: Bytes, truth: Bytes, *, octaves: int = 4) -> tuple[float, ...]:
    """Returns the ratio of the amplitudes of picture and truth in each octave of frequency, coarse to fine.

    The last value is the finest octave: 1/4 to 1/2 cycles a pixel. 1 is as sharp as the truth, below 1
    blurred, above 1 noisy or too crisp. Each is sqrt(power / true power) over a ring of the luma's spectrum.

    Raises:
        ImageError: not u8[H,W,3], the sizes differ, or the picture has no `octaves` octaves.
    """
    check("spectrum_ratio", picture, truth)
    if octaves < 1 or min(picture.shape[:2]) < 2 ** (octaves + 1):
        least = f"{2 ** (octaves + 1)} pixels a side or more for {octaves} octaves"
        raise ImageError("spectrum_ratio", "picture too small", got=list(picture.shape), expected=least)
    rows = np.fft.fftfreq(picture.shape[0])[:, None]
    columns = np.fft.fftfreq(picture.shape[1])[None]
    radius = np.hypot(rows, columns)
    own, true = _power(picture), _power(truth)
    out: list[float] = []
    for octave in range(octaves, 0, -1):
        ring = (radius > 0.5 ** (octave + 1)) & (radius <= 0.5**octave)
        out.append(math.sqrt((float(own[ring].sum()) + 1.0) / (float(true[ring].sum()) + 1.0)))
    return tuple(out)


def laplacian_ratio(picture: Bytes, truth: Bytes) -> float:
    """Returns the ratio of the variances of both lumas' Laplacians: 1 as sharp as the truth, below 1 blurred.

    Raises:
        ImageError: not u8[H,W,3], or the sizes differ.
    """
    check("laplacian_ratio", picture, truth)
    own, true = (float(cv2.Laplacian(grey(p), cv2.CV_32F).var()) for p in (picture, truth))
    return (own + 1e-3) / (true + 1e-3)
