"""How sure a mean over pictures is: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds between which it would lie, were other pictures of the same kind drawn.

    Attributes:
        value: the figure on all pictures.
        low, high: bounds of the interval, low <= high.
        n: pictures.
    """

    value: float
    low: float
    high: float
    n: int


def tails(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Returns the bounds that leave out the share 1 - level of the values, half of it on either side.

    Raises:
        DataError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError("interval", "wrong level", got=level, expected="between 0 and 1, such as 0.95")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Returns the mean of one value a picture and its percentile bootstrap interval (Efron 1979).

    The pictures are drawn anew `resamples` times, with repeats; the same seed and number of pictures draw the
    same ones. One picture gives low = value = high: it says nothing of others.

    Raises:
        DataError: no values, one that is not finite, no resamples, or a level outside 0..1.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise DataError(
            "interval", "wrong values", got=f"{list(found.shape)}", expected="one or more finite numbers"
        )
    if resamples < 1:
        raise DataError("interval", "no resamples", got=resamples, expected="1 or more")
    rows = np.random.default_rng(seed).integers(0, len(found), (resamples, len(found)))
    low, high = tails(found[rows].mean(1), level)
    return Interval(float(found.mean()), low, high, len(found))
