"""Picture losses: nothing for equal pictures, something for blur."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flowpose.model.losses import charbonnier, feature, gradient


def stripes() -> Tensor:
    """f32[1, 3, 16, 16], vertical stripes of -1 and 1, two pixels wide."""
    row = torch.tensor([-1.0, -1.0, 1.0, 1.0]).repeat(4)
    return row.expand(1, 3, 16, 16).clone()


def blurred() -> Tensor:
    return F.avg_pool2d(F.pad(stripes(), (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def features(x: Tensor) -> list[Tensor]:
    return [torch.cat([each, torch.ones_like(each)], dim=1) for each in (x, F.avg_pool2d(x, 2))]


def test_equal_pictures_cost_nothing() -> None:
    assert gradient(stripes(), stripes()) == 0
    assert feature(features, stripes(), stripes()) == 0
    assert charbonnier(stripes(), stripes(), 1e-3) < 1.1e-3


def test_blur_costs() -> None:
    assert gradient(blurred(), stripes()) > 0.5
    assert charbonnier(blurred(), stripes()) > 0.1
    assert feature(features, blurred(), stripes()) > 0


def test_brightness_alone_has_no_edges() -> None:
    assert gradient(stripes() + 0.5, stripes()) < 1e-6
    assert abs(float(charbonnier(stripes() + 0.5, stripes())) - 0.5) < 1e-3


def test_charbonnier_has_a_slope_everywhere() -> None:
    a = torch.zeros(1, 3, 2, 2, requires_grad=True)
    charbonnier(a, torch.zeros(1, 3, 2, 2)).backward()
    assert a.grad is not None and (a.grad == 0).all()


def test_the_truth_gets_no_gradient() -> None:
    made, truth = blurred().requires_grad_(True), stripes().requires_grad_(True)
    feature(features, made, truth).backward()
    assert made.grad is not None and truth.grad is None
