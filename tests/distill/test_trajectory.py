"""Distillation: the teacher's end points, resumed chunk by chunk, and what the student is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from micro_line import Line, micro_recipe
from torch import Tensor, nn

from flowpose.artifact import open_artifact
from flowpose.data.figures_set import figures
from flowpose.distill import METHODS, distill
from flowpose.distill import trajectory as module
from flowpose.distill.trajectory import draw_conditions, student_losses, teacher_ends
from flowpose.errors import ArtifactError
from flowpose.flow import end_dense
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.weights import load_generator
from flowpose.spec.recipe import TrajectoryDistillation
from flowpose.train.teacher import Latents, encode_all


@pytest.fixture
def job(line: Line, tmp_path: Path) -> Job:
    """With its own work folder, below tmp_path."""
    parent = open_artifact(line.path("train"))
    return Job(recipe=line.recipe(), stage="distill", key="0" * 64, root=tmp_path, parent=parent)


@pytest.fixture(scope="module")
def teacher(line: Line) -> Generator:
    return load_generator(open_artifact(line.path("train")))


@pytest.fixture(scope="module")
def latents(line: Line, teacher: Generator) -> Latents:
    parent = open_artifact(line.path("train"))
    stage = Job(recipe=line.recipe(), stage="distill", key="0" * 64, root=line.root, parent=parent)
    return encode_all(stage, teacher.autoencoder, figures(line.recipe().data, "train", 48, 32))


def test_every_method_of_the_spec_has_its_function() -> None:
    assert set(METHODS) == {TrajectoryDistillation}


def test_conditions_are_the_same_for_the_same_seed(line: Line, latents: Latents) -> None:
    spec, train = line.recipe().distill, line.recipe().train
    first, same = (draw_conditions(latents, spec, train) for _ in range(2))
    assert (first.sources == same.sources).all() and (first.keypoints == same.keypoints).all()
    assert len(first.sources) == spec.pairs and (first.sources != first.targets).all()
    people = latents.pictures.identities
    assert (people[first.sources] == people[first.targets]).all()
    assert first.mirrored.any() and not first.mirrored.all()
    plain = draw_conditions(latents, spec, train.model_copy(update={"flip": False}))
    assert not plain.mirrored.any()


@torch.no_grad()
def test_end_points_are_the_teachers(job: Job, teacher: Generator, latents: Latents) -> None:
    spec = job.recipe.distill
    points = teacher_ends(job, teacher, latents, spec)
    assert points.ends.shape == (8, 4, 6, 4)
    solver = teacher.on_grid(end_dense(spec.intervals), "heun")
    context = solver.context(latents.pick(points.sources[:1], points.mirrored[:1]))
    alone = solver.latents(context, torch.from_numpy(points.keypoints[:1]))
    torch.testing.assert_close(points.ends[:1], alone, atol=1e-4, rtol=1e-4)


def test_end_points_go_on_where_they_were_stopped(
    job: Job, teacher: Generator, latents: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    spec = replace_pairs(job, 12)
    whole = teacher_ends(replace(job, root=job.root / "whole"), teacher, latents, spec)
    solved: list[int] = []
    solve = Generator.latents

    def dying(self: Generator, *given: Tensor) -> Tensor:
        solved.append(1)
        if len(solved) == 11:
            raise InterruptedError
        return solve(self, *given)

    monkeypatch.setattr(Generator, "latents", dying)
    with pytest.raises(InterruptedError):
        teacher_ends(job, teacher, latents, spec)
    resumed = teacher_ends(job, teacher, latents, spec)
    assert torch.equal(resumed.ends, whole.ends)
    assert len(solved) == 11 + 4, "eight chunks were kept"


def replace_pairs(job: Job, pairs: int) -> TrajectoryDistillation:
    return job.recipe.distill.model_copy(update={"pairs": pairs})


class Solved(nn.Module):
    """A student that gives the teacher's end points, or `off` beside them."""

    def __init__(self, decode: Callable[[Tensor], Tensor], ends: Tensor, off: float) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.decode, self.ends, self.off = decode, ends, off

    def forward(self, source: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        fresh = torch.zeros(len(source) - len(self.ends), *self.ends.shape[1:])
        found = torch.cat([self.ends, fresh]) + self.off
        return found, self.decode(found)


@torch.no_grad()
def test_losses_are_least_where_the_student_is_the_teacher(
    job: Job, teacher: Generator, latents: Latents
) -> None:
    spec = job.recipe.distill.model_copy(update={"truth": 0.0, "teacher": 1.0, "latent": 1.0})
    points = teacher_ends(job, teacher, latents, spec)
    batch = module._draw(latents, points, job.recipe, np.random.default_rng(0))
    assert batch.solved == 3 and len(batch.source) == len(batch.truth) == 6
    decode = teacher.autoencoder.decode
    best, worse = (
        student_losses(Solved(decode, batch.ends, off), teacher.autoencoder, batch, spec)
        for off in (0.0, 0.5)
    )
    assert float(best["latent"]) < 2e-3 and float(best["teacher"]) < 2e-3 and float(best["loss"]) < 5e-3
    assert float(worse["latent"]) > 0.4 and worse["teacher"] > 10 * best["teacher"]
    assert worse["loss"] >= worse["latent"] + worse["teacher"]


def test_the_student_makes_one_step_and_keeps_the_teachers_encoder(line: Line, teacher: Generator) -> None:
    student = load_generator(open_artifact(line.path("distill")))
    assert student.times == (0.0, 1.0) and student.solver == "euler"
    before, after = teacher.state_dict(), student.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not [name for name in changed if name.startswith("autoencoder.encoder.")]
    assert any(name.startswith("autoencoder.decoder.") for name in changed)
    assert any(name.startswith("flow.") for name in changed)


def test_without_a_teacher_there_is_no_student(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="needs a teacher"):
        distill(Job(recipe=micro_recipe(tmp_path), stage="distill", key="0" * 64, root=tmp_path))
