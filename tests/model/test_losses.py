"""Picture losses: nothing for equal pictures, something for blur."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowpose.model.losses import charbonnier, feature, gradient, seams, slopes, texture


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
    assert feature(features(stripes()), features(stripes())) == 0
    assert charbonnier(stripes(), stripes(), 1e-3) < 1.1e-3


def test_blur_costs() -> None:
    assert gradient(blurred(), stripes()) > 0.5
    assert charbonnier(blurred(), stripes()) > 0.1
    assert feature(features(blurred()), features(stripes())) > 0


def test_brightness_alone_has_no_edges() -> None:
    assert gradient(stripes() + 0.5, stripes()) < 1e-6
    assert abs(float(charbonnier(stripes() + 0.5, stripes())) - 0.5) < 1e-3


@pytest.mark.parametrize("axis", [-1, -2])
def test_seams_are_contrast_at_one_place_of_all_blocks(axis: int) -> None:
    noise = 0.2 * torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(48).div(8, rounding_mode="floor").float()
    brick = noise + (steps if axis == -1 else steps[:, None])
    other = noise + (steps if axis == -2 else steps[:, None])
    assert seams(noise, noise, 8) == 0 and seams(brick, brick, 8) == 0, "what is true is none"
    contrast = seams(noise.flip(axis), noise, 8)
    assert seams(2 * noise, noise, 8) < 2 * contrast, "as much more everywhere"
    assert seams(brick, noise, 8) > 5 * contrast and seams(noise, brick, 8) > contrast
    torch.testing.assert_close(seams(brick, noise, 8), seams(other, noise, 8), atol=0.05, rtol=0)
    dots = noise.clone()
    dots[..., 3::8, 3::8] += 1
    assert seams(dots, noise, 8) > 2 * contrast


def test_charbonnier_has_a_slope_everywhere() -> None:
    a = torch.zeros(1, 3, 2, 2, requires_grad=True)
    charbonnier(a, torch.zeros(1, 3, 2, 2)).backward()
    assert a.grad is not None and (a.grad == 0).all()


def both(picture: Tensor, wanted: Tensor) -> float:
    """The texture loss over pixels, slopes and maps of half the size, of pictures 48 pixels high."""
    maps = [(f(picture), f(wanted)) for f in (lambda x: x, slopes, lambda x: F.avg_pool2d(x, 2))]
    return float(texture(maps, 48))


def test_texture_asks_for_stripes_and_not_where_they_are() -> None:
    """Half a period off they cost L1 twice as much as none at all."""
    wanted = stripes().repeat(1, 1, 3, 3)
    off, grey = wanted.roll(2, -1), torch.zeros_like(wanted)
    assert charbonnier(off, wanted) > 1.9 * charbonnier(grey, wanted)
    assert both(wanted, wanted) == 0 and both(off, wanted) < 1e-2
    assert both(grey, wanted) > 0.6
    assert both(grey, wanted) > both(0.5 * wanted, wanted) > 0.3


def test_slopes_are_differences_of_neighbours() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0], [1.0, 5.0, 4.0], [0.0, 0.0, 0.0]])[None, None]
    found = slopes(x)
    assert found[0, 0].tolist() == [[1.0, 2.0], [4.0, -1.0]]
    assert found[0, 1].tolist() == [[0.0, 3.0], [-1.0, -5.0]]
