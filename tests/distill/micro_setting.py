"""What a distillation works with, made in a moment: random weights, drawn figures, and fields solved on paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from quantize.tiny_student import generator, recipe
from torch import Tensor, nn

from flowpose.data import Pictures
from flowpose.data.figures_set import figures
from flowpose.distill.student import Conditions, Setting, draw_conditions, new_student
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_tensor
from flowpose.model.weights import DISTILLATIONS, TEACHER_GRID, TEACHER_SOLVER
from flowpose.optimize import Draw
from flowpose.spec.recipe import Distillation, FiguresData
from flowpose.train.teacher import Latents

OPTIM = {"iterations": 2, "batch": 4, "warmup": 1}
SMALL = {"trajectory": {"pairs": 6, "intervals": 2}}
SHAPE = (8, 6, 4)  # of the tiny recipe's latents at 48 x 32
BATCH = 4
NO_ARTIFACT: Any = SimpleNamespace(manifest=SimpleNamespace(measurements=()))


def distillation(method: str, **changes: Any) -> Distillation:
    data = {"method": method, "optim": OPTIM, **SMALL.get(method, {}), **changes}
    return DISTILLATIONS[method].parse(data, "recipe.distill")


@cache
def pictures() -> Pictures:
    return figures(FiguresData(identities=3, pictures=3), "train", 48, 32)


@torch.no_grad()
def latents_of(teacher: Generator) -> Latents:
    images = pictures().images
    plain, mirrored = (
        teacher.autoencoder.encode(to_tensor(each)).half() for each in (images, images[:, :, ::-1])
    )
    return Latents(pictures(), plain, mirrored)


def setting(root: Path, spec: Distillation) -> Setting:
    """Of a frozen teacher with random weights; its work folder lies below `root`."""
    whole = recipe()
    teacher = generator(whole).on_grid(TEACHER_GRID, TEACHER_SOLVER).requires_grad_(False)
    if spec.noise == "zero":
        teacher.noise.zero_()
    job = Job(recipe=whole, stage="distill", key="0" * 64, root=root)
    reference = generator(whole).autoencoder.requires_grad_(False)
    return Setting(job, spec, teacher, latents_of(teacher), reference, reference.features)


def student_of(made: Setting) -> Generator:
    """A new student whose second evaluation, if any, starts at the recipe's middle or at 0.5."""
    return new_student(made, NO_ARTIFACT)


def batch_of(made: Setting, size: int = BATCH) -> Conditions:
    return draw_conditions(made.latents, made.job.recipe.train, Draw.at(0, 0).rng, size)


class _Flow:
    """A velocity v(x, t), t f32[B, 1, 1, 1], with the face of a network."""

    def __init__(self, velocity: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.known = velocity

    def pose_tokens(self, keypoints: Tensor, context: Tensor) -> tuple[Tensor, None]:
        return keypoints, None

    def modulation(self, t: Tensor, r: Tensor) -> Tensor:
        return t[:, None, None, None]

    def velocity(self, x: Tensor, modulation: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        return self.known(x, modulation) + torch.zeros_like(x)


class _Teacher:
    def __init__(self, noise: Tensor, velocity: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.noise, self.flow = noise, _Flow(velocity)

    def to(self, device: torch.device) -> _Teacher:
        return self

    def context(self, source: Tensor) -> Tensor:
        return source


def with_field(
    made: Setting, velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor | None = None
) -> Setting:
    """The same setting with a teacher whose velocity is known."""
    teacher: Any = _Teacher(torch.zeros(1, *SHAPE) if noise is None else noise, velocity)
    return replace(made, teacher=teacher)


class Known(nn.Module):
    """A student whose mean velocity u(x, t, r) is known; times f32[B, 1, 1, 1]. `offset` can be trained."""

    def __init__(self, mean: Callable[[Tensor, Tensor, Tensor], Tensor], offset: float = 0.0) -> None:
        super().__init__()
        self.mean, self.offset = mean, nn.Parameter(torch.tensor(offset))

    def forward(
        self, batch: Conditions, at: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, None, None, None]:
        x, t, r = at
        t, r = (each[:, None, None, None] for each in (t, r))
        return self.mean(x, t, r) + self.offset + torch.zeros_like(x), x.new_zeros(0), None, None, None
