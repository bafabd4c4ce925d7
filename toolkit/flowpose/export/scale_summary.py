"""Many quantization scales in a few numbers and a histogram whose bins are the same for every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ArtifactError

BINS = 10
"""Bins a decade."""


@dataclass(frozen=True)
class Scales:
    """The scales of one layer's weights: what one step of its 8-bit codes is worth.

    Attributes:
        n: how many there are; one, or one an output channel.
        low, median, high: the least, the middle and the largest of them.
        first: log10 of the lower edge of the first bin, a multiple of 1 / BINS.
        bins: how many scales lie in each bin, a bin 1 / BINS of a decade wide; the first and last are not 0.
    """

    n: int
    low: float
    median: float
    high: float
    first: float
    bins: tuple[int, ...]


def summarized(scales: NDArray[np.floating], where: str) -> Scales:
    """The summary of scales of any shape.

    Args:
        scales: numbers above 0.
        where: what an error calls them.

    Raises:
        ArtifactError: there are none, or one is not finite or not above 0.
    """
    flat = np.asarray(scales, np.float64).reshape(-1)
    if not flat.size or not np.isfinite(flat).all() or flat.min() <= 0:
        got = f"{flat.size} numbers from {flat.min():g}" if flat.size else "none"
        raise ArtifactError(where, "no scales", got=got, expected="finite numbers above 0")
    # 1e-9 of a bin: a scale that is a power of ten lies in the bin that it begins.
    places = np.floor(np.log10(flat) * BINS + 1e-9).astype(int)
    counts = np.bincount(places - places.min())
    return Scales(
        n=flat.size,
        low=float(flat.min()),
        median=float(np.median(flat)),
        high=float(flat.max()),
        first=int(places.min()) / BINS,
        bins=tuple(counts.tolist()),
    )
