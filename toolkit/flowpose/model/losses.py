"""Losses between pictures f32[B, 3, H, W] in -1..1; each returns a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def charbonnier(a: Tensor, b: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt((a - b)^2 + epsilon^2): L1 with a smooth bottom."""
    return torch.sqrt((a - b).square() + epsilon * epsilon).mean()


def gradient(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical neighbour differences: punishes blur, which L1 allows."""
    across = (a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])
    down = (a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])
    return across.abs().mean() + down.abs().mean()


def feature(features: Callable[[Tensor], list[Tensor]], a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of unit-length feature vectors over all layers (the form of LPIPS, arXiv 1801.03924).

    `features` is the autoencoder's own encoder; the judge that measures quality is another network.
    """
    with torch.no_grad():
        truth = [torch.nn.functional.normalize(f, dim=1) for f in features(b)]
    found = [torch.nn.functional.normalize(f, dim=1) for f in features(a)]
    return torch.stack([(x - y).square().sum(1).mean() for x, y in zip(found, truth, strict=True)]).mean()
