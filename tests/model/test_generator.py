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
