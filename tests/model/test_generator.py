"""The whole generator: starts at z*, runs from noise to data, decodes; teacher and student share their weights."""

from __future__ import annotations

import torch
from quantize.tiny_student import generator, recipe

from flowpose.flow import end_dense
from flowpose.model.generator import Generator, fixed_noise


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.rand(2, 133, 2, generator=torch.Generator().manual_seed(0)) * 32
    pictures = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return pictures, torch.cat([places, torch.ones(2, 133, 1)], dim=-1)


def test_the_fixed_noise_is_the_same_everywhere() -> None:
    noise = fixed_noise((8, 6, 4))
    assert noise.shape == (1, 8, 6, 4) and noise.dtype == torch.float32
    assert torch.equal(noise, fixed_noise((8, 6, 4)))
    assert abs(float(noise.mean())) < 0.3 and 0.8 < float(noise.std()) < 1.2
    first = [round(float(value), 4) for value in noise.flatten()[:3]]
    assert first == [-1.2211, 0.4172, 0.9082]


@torch.no_grad()
def test_one_step_goes_from_noise_along_the_velocity() -> None:
    student = generator(recipe())
    sources, keypoints = inputs()
    context = student.context(student.autoencoder.encode(sources))
    start = student.noise.expand(2, -1, -1, -1)
    modulation = student.flow.time(torch.zeros(1))
    pose, _ = student.flow.pose_tokens(keypoints, context)
    v = student.flow.velocity(start, modulation, context, pose)
    torch.testing.assert_close(student.latents(context, keypoints), start + v)
    expected = student.autoencoder.decode(start + v)
    torch.testing.assert_close(student(sources, keypoints), expected)


@torch.no_grad()
def test_given_noise_replaces_the_fixed_one() -> None:
    student = generator(recipe())
    sources, keypoints = inputs()
    fixed = student.noise.expand(2, -1, -1, -1)
    torch.testing.assert_close(student(sources, keypoints, fixed), student(sources, keypoints))
    other = torch.randn(fixed.shape, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(student(sources, keypoints, other), student(sources, keypoints))


@torch.no_grad()
def test_another_grid_shares_weights_and_noise() -> None:
    student = generator(recipe())
    teacher = student.on_grid(end_dense(4), "heun")
    assert isinstance(teacher, Generator) and teacher.flow is student.flow
    assert teacher.noise is student.noise and not teacher.training
    assert (teacher.times, teacher.solver) == (end_dense(4), "heun")
    assert not torch.allclose(teacher(*inputs()), student(*inputs()))


def half_size() -> tuple[Generator, Generator]:
    """A student at 48 x 32 with detail, and the same weights at 96 x 64 with `shrink` 2."""
    small = generator(recipe("distill.detail=true"), student=True)
    large = generator(
        recipe("distill.detail=true", "image.height=96", "image.width=64", "autoencoder.shrink=2"),
        student=True,
    )
    own, there = large.state_dict(), small.state_dict()
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in there.items()
    }
    large.load_state_dict(there)
    return small, large


@torch.no_grad()
def test_a_shrinking_generator_has_the_small_ones_latents() -> None:
    small, large = half_size()
    pictures, keypoints = inputs()
    grown = torch.nn.functional.interpolate(pictures, scale_factor=2.0, mode="nearest")
    twice = torch.cat([2 * keypoints[..., :2], keypoints[..., 2:]], dim=-1)
    made = large(grown, twice)
    assert made.shape == (2, 3, 96, 64) and (large.pitch, small.pitch) == (16, 8)
    contexts = [
        each.split(each.context(each.autoencoder.encode(p), p))
        for each, p in ((small, pictures), (large, grown))
    ]
    torch.testing.assert_close(contexts[0][0], contexts[1][0], atol=1e-3, rtol=1e-3)
    assert torch.equal(contexts[1][1], grown), "the source travels at its full size"
    ends = [
        each.latents(layers[0], k)
        for each, layers, k in zip((small, large), contexts, (keypoints, twice), strict=True)
    ]
    torch.testing.assert_close(*ends, atol=1e-2, rtol=1e-2)


@torch.no_grad()
def test_carried_pixels_of_a_shrinking_generator_are_as_sharp_as_its_source() -> None:
    """Stripes of one pixel are nothing at half the size; where the share is open they are in the picture."""
    _, large = half_size()
    stripes = torch.ones(1, 3, 96, 64)
    stripes[..., ::2] = -1
    detail = large.detail
    assert detail is not None
    for layer in (detail.refine[-1], detail.choice[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    detail.open()
    detail.choice[-1].bias[-4:] = 20.0
    rows, columns = torch.meshgrid(
        (torch.arange(48) + 0.5) / 24 - 1, (torch.arange(32) + 0.5) / 16 - 1, indexing="ij"
    )
    home = torch.stack([columns, rows, torch.zeros_like(rows)])[None]
    grey = torch.zeros(1, 3, 48, 32)
    carried, pixels = detail.both(grey, home, stripes)
    assert carried[:, :3].abs().max() < 1e-5 and pixels.shape == stripes.shape
    made = detail.joined(grey, carried, pixels)
    torch.testing.assert_close(made[..., 2:-2, 2:-2], stripes[..., 2:-2, 2:-2], atol=1e-3, rtol=0)
