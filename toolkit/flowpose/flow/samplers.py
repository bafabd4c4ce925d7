"""ODE solvers for dx/dt = v(x, t), from t = 0 (noise) to t = 1 (data)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""v(x, t): x of shape [B, ...], t a number in 0..1 -> shape of x."""


def euler(v: Velocity, x: Tensor, t: float, s: float) -> Tensor:
    """x at time s from x at time t, one evaluation, first order."""
    return x + (s - t) * v(x, t)


def midpoint(v: Velocity, x: Tensor, t: float, s: float) -> Tensor:
    """x at time s from x at time t, two evaluations, second order."""
    middle = t + (s - t) / 2
    return x + (s - t) * v(x + (middle - t) * v(x, t), middle)


def heun(v: Velocity, x: Tensor, t: float, s: float) -> Tensor:
    """x at time s from x at time t, two evaluations, second order; Euler on the interval that ends at 1.

    At t = 1 the path's noise is gone and a learned velocity is least reliable (as in arXiv 2206.00364, alg. 1).
    """
    first = v(x, t)
    if s >= 1.0:
        return x + (s - t) * first
    return x + (s - t) * 0.5 * (first + v(x + (s - t) * first, s))


SOLVERS: Mapping[str, Callable[[Velocity, Tensor, float, float], Tensor]] = MappingProxyType(
    {"euler": euler, "midpoint": midpoint, "heun": heun}
)


def solve(v: Velocity, x_0: Tensor, times: Sequence[float], solver: str = "euler") -> Tensor:
    """x at times[-1], shape of x_0, following v from x_0 at times[0] through the grid `times`."""
    step = SOLVERS[solver]
    x = x_0
    for t, s in pairwise(times):
        x = step(v, x, t, s)
    return x
