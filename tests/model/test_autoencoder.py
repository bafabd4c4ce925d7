"""The autoencoder: shapes, the start from principal components, normalized latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowpose.data.figures_set import figures
from flowpose.model.autoencoder import BLOCK, STRIDE, Autoencoder, Decoder, Encoder, start_from
from flowpose.model.pictures import to_bytes, to_pictures, to_tensor
from flowpose.spec.recipe import FiguresData

WIDTHS, LATENTS = (8, 8, 8, 16), 6


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return to_tensor(figures(FiguresData(identities=3, pictures=3), "train", 48, 32).images)


@pytest.fixture
def started(pictures: Tensor) -> Autoencoder:
    torch.manual_seed(0)
    encoder, decoder = Encoder(WIDTHS, LATENTS), Decoder(WIDTHS, LATENTS, 1)
    start_from(encoder, decoder, pictures)
    return Autoencoder(encoder, decoder, LATENTS).eval()


def best_linear_error(pictures: Tensor, rank: int) -> float:
    """The mean squared error of the best linear code of 8 x 8 blocks with `rank` numbers a block."""
    blocks = F.pixel_unshuffle(pictures, STRIDE).permute(0, 2, 3, 1).reshape(-1, BLOCK).double()
    values = torch.linalg.svdvals(blocks - blocks.mean(0))
    return float(values[rank:].square().sum() / blocks.numel())


@torch.no_grad()
def test_training_starts_from_the_best_linear_code(started: Autoencoder, pictures: Tensor) -> None:
    error = float((started.decode(started.encode(pictures)) - pictures).square().mean())
    assert error <= 1.001 * best_linear_error(pictures, LATENTS) + 1e-6
    assert error < 0.5 * best_linear_error(pictures, 1)


@torch.no_grad()
def test_the_first_latents_have_unit_size(started: Autoencoder, pictures: Tensor) -> None:
    raw = started.encoder(pictures)
    assert raw.shape == (9, LATENTS, 6, 4)
    torch.testing.assert_close(raw.mean((0, 2, 3)), torch.zeros(LATENTS), atol=1e-3, rtol=0)
    torch.testing.assert_close(raw.std((0, 2, 3)), torch.ones(LATENTS), atol=1e-2, rtol=0)


def normalized(pictures: Tensor, emphasis: float) -> tuple[Autoencoder, Tensor]:
    """A started autoencoder, moved and stretched in its first channels, and its normalized latents."""
    torch.manual_seed(1)
    encoder, decoder = Encoder(WIDTHS, LATENTS), Decoder(WIDTHS, LATENTS, 1)
    start_from(encoder, decoder, pictures)
    encoder.layers[-1].bias.data[0] = 3.0
    encoder.block.weight.data[1] *= 5.0
    decoder.block.weight.data[:, 1] /= 5.0
    autoencoder = Autoencoder(encoder, decoder, LATENTS).eval()
    autoencoder.normalize_to(encoder(pictures), emphasis)
    return autoencoder, autoencoder.encode(pictures)


@torch.no_grad()
def test_without_emphasis_every_channel_has_mean_0_and_deviation_1(pictures: Tensor) -> None:
    autoencoder, z = normalized(pictures, 0.0)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(LATENTS), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(LATENTS), atol=1e-4, rtol=0)
    torch.testing.assert_close(autoencoder.decode(z), autoencoder.decoder(autoencoder.encoder(pictures)))


@torch.no_grad()
@pytest.mark.parametrize("emphasis", [0.75, 1.0])
def test_what_shows_more_gets_a_larger_deviation(pictures: Tensor, emphasis: float) -> None:
    """The first principal component shows most; over all channels the mean square stays 1."""
    autoencoder, z = normalized(pictures, emphasis)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(LATENTS), atol=1e-4, rtol=0)
    assert float(z.square().mean()) == pytest.approx(1, rel=0.02)
    size = z.std((0, 2, 3))
    assert size[0] > 1.2 > 0.9 > size[-1]
    plain, flat = normalized(pictures, 0.0)
    expected = plain.visibility(flat) ** emphasis
    torch.testing.assert_close(
        size / size.square().mean().sqrt(), expected / expected.square().mean().sqrt(), atol=0.03, rtol=0
    )
    torch.testing.assert_close(autoencoder.decode(z), plain.decode(flat), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_full_emphasis_noise_shows_alike_in_every_channel(pictures: Tensor) -> None:
    """A channel's deviation over its visibility is what noise of size 1 hides of it; one number for all."""
    autoencoder, z = normalized(pictures, 1.0)
    seen = autoencoder.visibility(z)
    assert float(seen.std() / seen.mean()) < 0.05
    plain, flat = normalized(pictures, 0.0)
    before = plain.visibility(flat)
    assert float(before.std() / before.mean()) > 0.2


@torch.no_grad()
def test_visibility_is_the_size_of_a_channels_change(started: Autoencoder) -> None:
    """The started decoder is linear, so it is that of the channel's own block."""
    found = started.visibility(torch.randn(2, LATENTS, 3, 4, generator=torch.Generator().manual_seed(0)))
    expected = started.decoder.block.weight.square().mean((0, 2, 3)).sqrt()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_a_dead_channel_does_not_divide_by_zero(started: Autoencoder) -> None:
    started.normalize_to(torch.zeros(2, LATENTS, 3, 3))
    assert torch.isfinite(started.encode(torch.zeros(1, 3, 16, 16))).all()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 32), (128, 88)])
def test_shapes_at_any_multiple_of_eight(started: Autoencoder, height: int, width: int) -> None:
    z = started.encode(torch.zeros(2, 3, height, width))
    assert z.shape == (2, LATENTS, height // 8, width // 8)
    assert started.decode(z).shape == (2, 3, height, width)


@torch.no_grad()
def test_features_are_those_of_every_stride(started: Autoencoder) -> None:
    found = started.features(torch.zeros(1, 3, 48, 32))
    assert [tuple(f.shape) for f in found] == [(1, 8, 48, 32), (1, 8, 24, 16), (1, 8, 12, 8), (1, 16, 6, 4)]


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = to_tensor(every)
    assert x.shape == (1, 3, 16, 16) and float(x.min()) == -1.0 and float(x.max()) == 1.0
    assert (to_pictures(x) == every).all()
    assert to_bytes(torch.tensor([-7.0, 7.0, 0.0]).reshape(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]


@torch.no_grad()
def test_shrunk_pictures_are_encoded_and_drawn_at_half_the_size(
    started: Autoencoder, pictures: Tensor
) -> None:
    half = Autoencoder(started.encoder, started.decoder, LATENTS, shrink=2)
    large = F.interpolate(pictures, scale_factor=2.0, mode="nearest")
    assert (half.stride, started.stride) == (2 * STRIDE, STRIDE)
    z = half.encode(large)
    torch.testing.assert_close(z, started.encode(pictures))
    torch.testing.assert_close(half.drawn(z), started.decode(z))
    made = half.decode(z)
    assert made.shape == large.shape
    torch.testing.assert_close(
        F.avg_pool2d(made, 2)[..., 1:-1, 1:-1], _blurred(started.decode(z)), atol=1e-5, rtol=1e-5
    )


def _blurred(drawn: Tensor) -> Tensor:
    """What four pixels of a bilinear enlargement by 2 average to: each neighbour has an eighth, in each direction."""
    weights = torch.tensor([1 / 8, 6 / 8, 1 / 8])
    kernel = torch.outer(weights, weights).expand(3, 1, 3, 3)
    return F.conv2d(drawn, kernel, groups=3)
