"""Distances between two sets of pictures, on the judge's features: does the set look like the real one?

They see what no comparison with one truth sees: a set that is too plain, too alike or of too few people. Their
figures hold for this judge only and cannot be compared with published FID or KID. Both have a floor that is
not zero in practice: show real against other real pictures of the same number beside them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError
from flowpose.metrics.intervals import Interval, tails
from flowpose.metrics.judge import View

Features = NDArray[np.floating]
"""f[n,d]: one row a picture."""

Distance = Callable[[Features, Features], float]


def _evened(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns f32[d] scaled to a mean square of 1."""
    size = float(np.sqrt((values * values).mean())) + 1e-8
    return np.asarray(values / size, np.float32)


def view_features(view: View) -> NDArray[np.float32]:
    """Returns f32[224]: means over places of the judge's 160 deepest feature maps, then the 64 of the identity.

    Either part is scaled to a mean square of 1, or the larger maps would drown the identity. 224 are few
    against Inception's 2048, so hundreds of pictures tell sets apart: `kernel_distance` serves from 64 on,
    `frechet_distance` needs 225 at least.
    """
    return np.concatenate([_evened(view.features[-1].mean((1, 2))), _evened(view.identity)])


def _checked(where: str, a: Features, b: Features, least: int) -> tuple[NDArray[np.float64], ...]:
    for name, found in (("a", a), ("b", b)):
        if found.ndim != 2 or len(found) < least or not found.shape[1]:
            raise DataError(
                f"{where} {name}", "too few rows", got=list(found.shape), expected=f"[{least} or more, d]"
            )
        if not np.isfinite(found).all():
            raise DataError(f"{where} {name}", "not finite", got="NaN or infinity", expected="features")
    if a.shape[1] != b.shape[1]:
        raise DataError(where, "features of two kinds", got=[a.shape[1], b.shape[1]], expected="one width")
    return np.asarray(a, np.float64), np.asarray(b, np.float64)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the symmetric square root of a covariance matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def frechet_distance(a: Features, b: Features) -> float:
    """Returns the squared Frechet distance of the normal distributions fitted to two sets, 0 or more.

    |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)), as FID does (Heusel et al. 2017, arXiv
    1706.08500). It is biased upwards, more so the fewer the pictures: compare sets of one size only.

    Raises:
        DataError: no more rows than features (the covariance would be singular), features of two widths, or
            a value that is not finite.
    """
    own, true = _checked("frechet_distance", a, b, a.shape[-1] + 1)
    cov_own, cov_true = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (own, true))
    root = _root(cov_own)
    # (C_a C_b)^(1/2) and (C_a^(1/2) C_b C_a^(1/2))^(1/2) have one trace; only the latter is symmetric.
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_true @ root), 0, None)).sum()
    apart = float(((own.mean(0) - true.mean(0)) ** 2).sum())
    return max(0.0, apart + float(np.trace(cov_own) + np.trace(cov_true) - 2 * shared))


def kernel_distance(a: Features, b: Features) -> float:
    """Returns the unbiased squared maximum mean discrepancy of two sets (KID), about 0 for sets alike.

    Kernel (x y / d + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401, section 4). Unbiased at any number of
    pictures, so it may fall below 0.

    Raises:
        DataError: fewer than two rows, features of two widths, or a value that is not finite.
    """
    own, true = _checked("kernel_distance", a, b, 2)

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1.0) ** 3
        return values

    def among(x: NDArray[np.float64]) -> float:
        """Returns the mean kernel of different rows: that of a row with itself is what would bias it."""
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return among(own) + among(true) - 2 * float(kernel(own, true).mean())


def with_interval(
    distance: Distance, a: Features, b: Features, *, seed: int = 0, resamples: int = 200, level: float = 0.95
) -> Interval:
    """Returns a distance of two sets with its bootstrap interval; `n` is the smaller set's number of pictures.

    Either set's rows are drawn anew with repeats. Repeats alone push both distances up, so the resampled
    distances' spread is laid about the value: bounds are value + quantile - mean of the resampled.

    Raises:
        DataError: what the distance refuses, no resamples, or a level outside 0..1.
    """
    if resamples < 1:
        raise DataError("interval", "no resamples", got=resamples, expected="1 or more")
    value, rng = distance(a, b), np.random.default_rng(seed)
    drawn = [
        distance(a[rng.integers(0, len(a), len(a))], b[rng.integers(0, len(b), len(b))])
        for _ in range(resamples)
    ]
    low, high = tails(np.array(drawn), level)
    shift = value - float(np.mean(drawn))
    return Interval(value, min(value, low + shift), max(value, high + shift), min(len(a), len(b)))
