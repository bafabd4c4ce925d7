"""Losses between pictures f32[B, 3, H, W] in -1..1; each returns a scalar.

Where a loss is more than a mean over pictures, `mean` makes a number of the whole batch of these pictures' one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def feature(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of unit-length feature vectors over all layers (the form of LPIPS, arXiv 1801.03924).

    Both are maps f32[B, c, h, w] of a network that only losses use; the judge that measures quality is another one.
    """
    normalize = torch.nn.functional.normalize
    far = [
        normalize(x.float(), dim=1) - normalize(y.float(), dim=1) for x, y in zip(found, wanted, strict=True)
    ]
    return torch.stack([each.square().sum(1).mean() for each in far]).mean()


WINDOW, STEP = 16, 4  # pixels


def _as_it_is(own: Tensor) -> Tensor:
    """The mean of a batch whose pictures are all here."""
    return own


Mean = Callable[[Tensor], Tensor]
"""A mean over these pictures -> that over all pictures of the batch, without gradient."""


def texture(maps: Sequence[tuple[Tensor, Tensor]], height: int, mean: Mean = _as_it_is) -> Tensor:
    """How far the local contrast of maps (found, wanted), f32[B, c, h, w] each, is from what is wanted.

    A stripe that is half a period off costs L1 more than no stripe at all, so L1 alone paints clothes in their mean
    colour. The deviation of each channel in windows of WINDOW pixels says that there are stripes, not where. It is the
    idea of a style loss (arXiv 1508.06576) with deviations in windows in place of one Gram matrix of the picture.

    Args:
        maps: of one batch of pictures, at any strides.
        height: of the pictures, in pixels.
    """
    parts = []
    for found, wanted in maps:
        stride = height // found.shape[-2]
        own, true = (_deviation(each.float(), stride) for each in (found, wanted))
        parts.append((own - true).abs().mean() / mean(true.mean()).clamp_min(1e-4))
    return torch.stack(parts).mean()


def _deviation(x: Tensor, stride: int) -> Tensor:
    """f32[B, c, h', w']: the standard deviation of every channel in windows."""
    size, step = max(2, WINDOW // stride), max(1, STEP // stride)
    mean, square = (torch.nn.functional.avg_pool2d(each, size, step) for each in (x, x.square()))
    return torch.sqrt((square - mean.square()).clamp_min(0) + 1e-5)


def slopes(x: Tensor) -> Tensor:
    """f32[B, 2 c, H - 1, W - 1]: differences of horizontal and of vertical neighbours."""
    corner = x[..., :-1, :-1]
    return torch.cat([x[..., :-1, 1:] - corner, x[..., 1:, :-1] - corner], dim=1)


def seams(found: Tensor, wanted: Tensor, block: int, mean: Mean = _as_it_is) -> Tensor:
    """How unevenly the contrast of pictures lies over the places of their blocks, against that of the wanted ones.

    Contrast that stands at the same place of every block is the cheapest that latents of blocks can draw: steps at the
    edges, bricks, dots. The size of the slopes is averaged over all blocks of a picture, place by place of a block; in
    a true picture all places have about as much.
    """
    own, true = (_by_place(slopes(x.float()).abs(), block) for x in (found, wanted))
    level = mean(true.mean()).clamp_min(1e-4)
    return (
        (own - own.mean((2, 3), keepdim=True)) - (true - true.mean((2, 3), keepdim=True))
    ).abs().mean() / level


def _by_place(x: Tensor, block: int) -> Tensor:
    """f32[B, c, block, block]: the mean over blocks at each place of a block; an incomplete last block is left out."""
    rows, columns = (side // block for side in x.shape[-2:])
    whole = x[..., : rows * block, : columns * block]
    return whole.reshape(*x.shape[:2], rows, block, columns, block).mean((2, 4))


def identity_loss(found: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE (arXiv 1807.03748) of f32[2 n, c], rows of length 1: 2 i and 2 i + 1 are one person, all others not."""
    likeness = found @ found.T / temperature
    alone = torch.eye(len(found), dtype=torch.bool, device=found.device)
    partner = torch.arange(len(found), device=found.device) ^ 1
    return torch.nn.functional.cross_entropy(likeness.masked_fill(alone, -1e4), partner)
