"""Trajectory distillation: the teacher's end points, resumed chunk by chunk, and the losses to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distill.micro_setting import SHAPE, distillation, setting
from torch import Tensor, nn

from flowpose.distill import trajectory as module
from flowpose.distill.student import Made, Setting, pictures_of
from flowpose.distill.trajectory import Trajectory, draw_to_solve, teacher_ends, trajectories
from flowpose.flow import end_dense
from flowpose.model.generator import Generator
from flowpose.optimize import Draw
from flowpose.spec.recipe import TrajectoryDistillation


def solving(**changes: object) -> TrajectoryDistillation:
    found = distillation("trajectory", **changes)
    assert isinstance(found, TrajectoryDistillation)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Setting:
    return setting(tmp_path, solving())


def test_conditions_are_the_same_for_the_same_seed(base: Setting) -> None:
    spec, train, latents = solving(pairs=12), base.job.recipe.train, base.latents
    first, same = (draw_to_solve(latents, spec, train) for _ in range(2))
    assert (first.sources == same.sources).all() and (first.keypoints == same.keypoints).all()
    assert len(first.sources) == 12 and (first.sources != first.targets).all()
    people = latents.pictures.identities
    assert (people[first.sources] == people[first.targets]).all()
    assert first.mirrored.any() and not first.mirrored.all()
    plain = draw_to_solve(latents, spec, train.model_copy(update={"flip": False}))
    assert not plain.mirrored.any()


@torch.no_grad()
def test_end_points_are_the_teachers(base: Setting) -> None:
    spec = solving()
    points = teacher_ends(base, spec)
    assert points.ends.shape == (6, *SHAPE)
    solver = base.teacher.on_grid(end_dense(spec.intervals), "heun")
    context = solver.context(base.latents.pick(points.sources[:1], points.mirrored[:1]))
    alone = solver.latents(context, torch.from_numpy(points.keypoints[:1]))
    torch.testing.assert_close(points.ends[:1], alone, atol=1e-4, rtol=1e-4)
    assert points.ends.std(0).max() > 1e-3, "they are functions of the condition"


def test_end_points_go_on_where_they_were_stopped(base: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    spec = solving(pairs=12)
    whole = teacher_ends(replace(base, job=replace(base.job, root=base.job.root / "whole")), spec)
    solved: list[int] = []
    solve = Generator.latents

    def dying(self: Generator, *given: Tensor) -> Tensor:
        solved.append(1)
        if len(solved) == 11:
            raise InterruptedError
        return solve(self, *given)

    monkeypatch.setattr(Generator, "latents", dying)
    with pytest.raises(InterruptedError):
        teacher_ends(base, spec)
    resumed = teacher_ends(base, spec)
    assert torch.equal(resumed.ends, whole.ends)
    assert len(solved) == 11 + 4, "eight chunks were kept"


def test_solved_end_points_are_read_back(base: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Trajectory(base)
    assert trajectories(base).is_file() and first.points is not None
    monkeypatch.setattr(Generator, "latents", None)
    again = Trajectory(base)
    assert again.points is not None and torch.equal(again.points.ends, first.points.ends)


def test_end_points_of_other_pictures_are_not_taken(base: Setting) -> None:
    first, spec = teacher_ends(base, solving()), solving()
    keypoints = base.latents.pictures.keypoints + np.float32([3, 0, 0])  # as if joints had been mended
    pictures = replace(base.latents.pictures, keypoints=keypoints)
    mended = teacher_ends(replace(base, latents=replace(base.latents, pictures=pictures)), spec)
    assert not np.array_equal(mended.keypoints, first.keypoints) and not torch.equal(mended.ends, first.ends)
    assert torch.equal(teacher_ends(base, spec).ends, first.ends)


def test_without_a_solved_share_nothing_is_solved(base: Setting) -> None:
    method = Trajectory(replace(base, spec=solving(solved=0.0)))
    batch = method.draw(np.random.default_rng(0), 5)
    assert not trajectories(base).exists()
    assert len(batch.source) == len(batch.truth) == 5 and not len(batch.ends)
    made = Made(torch.zeros(5), torch.zeros(5))
    assert method.losses(nn.Identity(), batch, made, Draw.at(0, 0)) == {}


def test_the_solved_share_of_a_batch_comes_first(base: Setting) -> None:
    method = Trajectory(replace(base, spec=solving(solved=0.75)))
    batch, points = method.draw(np.random.default_rng(0), 8), method.points
    assert points is not None
    assert len(batch.ends) == 6 and len(batch.source) == len(batch.keypoints) == len(batch.truth) == 8 == len(
        batch.shown
    )
    for row in range(6):
        number = next(n for n, end in enumerate(points.ends) if torch.equal(end, batch.ends[row]))
        assert np.array_equal(batch.keypoints[row].numpy(), points.keypoints[number])
        mirrored = points.mirrored[number : number + 1]
        source = base.latents.pick(points.sources[number : number + 1], mirrored)
        truth = pictures_of(base.latents, points.targets[number : number + 1], mirrored)
        assert torch.equal(batch.source[row], source[0]) and torch.equal(batch.truth[row], truth[0])
        shown = pictures_of(base.latents, points.sources[number : number + 1], mirrored)
        assert torch.equal(batch.shown[row], shown[0])


@torch.no_grad()
def test_losses_are_least_where_the_student_is_the_teacher(base: Setting) -> None:
    method = Trajectory(replace(base, spec=solving(teacher=1.0, latent=1.0)))
    batch = method.draw(np.random.default_rng(0), 6)

    def losses(off: float) -> dict[str, Tensor]:
        fresh = torch.randn(len(batch.source) - len(batch.ends), *SHAPE)
        latents = torch.cat([batch.ends + off, fresh])
        shown = base.reference.decode(latents)
        made = Made(latents, shown)
        return dict(method.losses(nn.Identity(), batch, made, Draw.at(0, 0)))

    best, worse = losses(0.0), losses(0.5)
    assert set(best) == {"teacher", "latent"}
    assert float(best["latent"]) < 2e-3 and float(best["teacher"]) < 2e-3
    assert float(worse["latent"]) > 0.4 and worse["teacher"] > 10 * best["teacher"]


@torch.no_grad()
def test_losses_are_weighted(base: Setting) -> None:
    plain, heavy = (
        Trajectory(replace(base, spec=solving(teacher=weight, latent=2 * weight))) for weight in (1.0, 3.0)
    )
    batch = plain.draw(np.random.default_rng(0), 4)
    latents = torch.zeros(4, *SHAPE)
    shown = base.reference.decode(latents)
    made = Made(latents, shown)
    once, thrice = (dict(each.losses(nn.Identity(), batch, made, Draw.at(0, 0))) for each in (plain, heavy))
    for name, value in once.items():
        torch.testing.assert_close(thrice[name], 3 * value)
