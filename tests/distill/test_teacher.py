"""The teacher's finish: what is trained, on which latents, and what its artifact is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from distill.micro_setting import OPTIM, setting
from torch import Tensor

from flowpose.distill.adversarial import Adversarial
from flowpose.distill.student import Setting
from flowpose.distill.teacher import Painter, solved_conditions, teacher_spec, with_detail
from flowpose.flow import end_dense
from flowpose.model.generator import Generator
from flowpose.optimize import Draw
from flowpose.spec.recipe import TeacherFinish

GRID = end_dense(2)


@pytest.fixture
def spec() -> TeacherFinish:
    return TeacherFinish.parse(
        {
            "pairs": 6,
            "intervals": 2,
            "heads": 8,
            "texture": 0.5,
            "steady": 1.0,
            "optim": {**OPTIM, "batch": 4},
        },
        "recipe.teacher_finish",
    )


@pytest.fixture
def made(tmp_path: Path, spec: TeacherFinish) -> Setting:
    return setting(tmp_path, teacher_spec(spec))


@pytest.fixture
def teacher(made: Setting, spec: TeacherFinish) -> Generator:
    return with_detail(made.teacher, spec)


@torch.no_grad()
def test_conditions_carry_what_the_teacher_makes_of_them(made: Setting) -> None:
    batch = solved_conditions(made)(np.random.default_rng(0), 4)
    solver = made.teacher.on_grid(GRID, "heun")
    expected = solver.latents(solver.context(batch.source), batch.keypoints)
    torch.testing.assert_close(batch.ends, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pictures_are_those_of_the_whole_teacher(made: Setting, teacher: Generator) -> None:
    """With its own ends, the painter draws what the generator draws."""
    batch = solved_conditions(made)(np.random.default_rng(1), 4)
    solved = teacher.on_grid(GRID, "heun")
    expected = solved.pictures(solved.context(batch.source, batch.shown), batch.keypoints)
    found = Painter(teacher)(batch)
    torch.testing.assert_close(found.drawn, expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(found.latents, batch.ends)


def test_decoder_and_detail_are_trained_and_nothing_else(
    made: Setting, teacher: Generator, spec: TeacherFinish
) -> None:
    contest = Adversarial(made, spec, Painter(teacher), solved_conditions(made))
    losses = contest.losses(contest.module, Draw.at(0, 0))
    assert losses["steady"] > 0 and losses["loose"] > 0 and losses["carried"] > 0
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    assert _moves(teacher.autoencoder.decoder.block.weight) and _moves(teacher.detail.choice[-1].weight)  # type: ignore[union-attr, arg-type]
    assert all(p.grad is None for p in teacher.flow.parameters())
    assert all(p.grad is None for p in made.teacher.parameters())
    assert all(p.grad is None for p in teacher.autoencoder.encoder.parameters())


def _moves(weight: Tensor) -> bool:
    return weight.grad is not None and bool(weight.grad.abs().max() > 0)


def test_its_decoder_is_a_copy(made: Setting, teacher: Generator) -> None:
    with torch.no_grad():
        teacher.autoencoder.decoder.block.weight.add_(1)
    assert not torch.equal(
        teacher.autoencoder.decoder.block.weight, made.teacher.autoencoder.decoder.block.weight
    )
