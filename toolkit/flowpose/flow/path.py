"""The conditional optimal-transport path (arXiv 2210.02747, eq. 22; the path of RPFM).

x_t = (1 - (1 - sigma_min) t) x_0 + t x_1          v = x_1 - (1 - sigma_min) x_0
"""

from __future__ import annotations

from torch import Tensor


def _spread(t: Tensor, like: Tensor) -> Tensor:
    """t of shape [B], reshaped to broadcast over `like` of shape [B, ...]."""
    return t.reshape(-1, *[1] * (like.dim() - 1))


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor, sigma_min: float = 0.0) -> Tensor:
    """x_t, shape of x_0; x_0 noise and x_1 data [B, ...], t [B] in 0..1."""
    t = _spread(t, x_0)
    return (1 - (1 - sigma_min) * t) * x_0 + t * x_1


def velocity(x_0: Tensor, x_1: Tensor, sigma_min: float = 0.0) -> Tensor:
    """v = dx_t/dt along the path, shape of x_0; it does not depend on t."""
    return x_1 - (1 - sigma_min) * x_0


def data_from_velocity(x_t: Tensor, v: Tensor, t: Tensor, sigma_min: float = 0.0) -> Tensor:
    """x_1 where the straight path through x_t with velocity v ends; shapes [B, ...], t [B].

    Solves the two equations above for x_1: x_1 = (1 - sigma_min) x_t + (1 - (1 - sigma_min) t) v.
    """
    return (1 - sigma_min) * x_t + (1 - (1 - sigma_min) * _spread(t, x_t)) * v
