"""Distillation: a many-step teacher becomes a one- or two-step student. One record, one class, one row a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import nn

from flowpose.artifact import Artifact, creating
from flowpose.distill.adversarial import Adversarial
from flowpose.distill.bootstrap import Bootstrap
from flowpose.distill.compared import Compared, carried_loss, truth_losses, weighted
from flowpose.distill.flowmap import FlowMap
from flowpose.distill.student import (
    Conditions,
    Learner,
    Made,
    Setting,
    made_by,
    new_student,
    parent_of,
    set_up,
    trainable,
)
from flowpose.distill.teacher import Painter, solved_conditions, teacher_spec, with_detail
from flowpose.distill.trajectory import Trajectory
from flowpose.errors import ArtifactError
from flowpose.evaluate import drawer, measure, middle_row, teacher_middle, teacher_rows
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.weights import GENERATOR, STUDENT_GRID, STUDENT_SOLVER, load_generator, save_weights
from flowpose.optimize import Draw, Losses, Task, own_device, run
from flowpose.ranks import WHOLE, Share, sealed_by_main
from flowpose.spec.optim import OptimSpec
from flowpose.spec.recipe import (
    BootstrapDistillation,
    Distillation,
    FlowMapDistillation,
    RegressorSpec,
    TrajectoryDistillation,
)
from flowpose.train.teacher import write_samples


class Method(Protocol):
    """What a method adds to the losses on the truth."""

    def draw(self, rng: np.random.Generator, size: int, share: Share = WHOLE) -> Conditions:
        """The share of a batch of `size` conditions."""

    def losses(self, module: nn.Module, batch: Conditions, made: Made, draw: Draw) -> Losses:
        """Weighted losses, all of them added."""


METHODS: Mapping[type[Distillation], Callable[[Setting], Method]] = MappingProxyType(
    {TrajectoryDistillation: Trajectory, BootstrapDistillation: Bootstrap, FlowMapDistillation: FlowMap}
)

__all__ = ["METHODS", "Method", "distill", "finish", "finish_teacher", "train_regressor"]


def distill(job: Job) -> Artifact:
    """Makes the student artifact of a teacher by the recipe's method.

    Raises:
        ArtifactError: the job has no teacher.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    return _learnt(job, job.recipe.distill, "student")


def finish(job: Job) -> Artifact:
    """Makes the student artifact of a distilled student by the recipe's adversarial finish.

    Raises:
        ArtifactError: the job has no student, or the student's teacher is not there.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    spec, recipe = job.recipe.finish, job.recipe
    before = parent_of(job, "student", "flowpose distill")
    teacher = job.sibling("train")
    if spec is None or teacher is None:
        raise ArtifactError(job.path, "needs recipe.finish and the teacher", fix="flowpose train")
    setting = set_up(job, recipe.distill, teacher, spec.feature)
    student = trainable(load_generator(before).on_grid(before.manifest.times, STUDENT_SOLVER), recipe.distill)
    if student.detail is not None and spec.texture and spec.reopen:
        student.detail.open()
    torch.manual_seed(spec.optim.seed)  # the heads start the same whatever this process did before
    contest = Adversarial(setting, spec, Learner(student, recipe.distill.second))
    _train(job, contest.module, contest.losses, student, spec.optim)
    return _sealed(job, student)


def finish_teacher(job: Job) -> Artifact:
    """Makes the model artifact of a teacher whose decoder and detail are finished on what it samples.

    Raises:
        ArtifactError: the job has no teacher.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    before, spec = parent_of(job, "model", "flowpose train"), job.recipe.teacher_finish
    if spec is None:
        raise ArtifactError(job.path, "needs recipe.teacher_finish", fix="add teacher_finish to the recipe")
    setting = set_up(job, teacher_spec(spec), before, spec.feature)
    teacher = with_detail(setting.teacher, spec)
    contest = Adversarial(setting, spec, Painter(teacher), solved_conditions(setting))
    _train(job, contest.module, contest.losses, teacher, spec.optim)
    teacher.cpu().eval()
    middle = teacher_middle(before)

    def write() -> None:
        with creating(job.path, times=teacher.times, **job.fields("model")) as draft:
            save_weights(teacher, draft / GENERATOR)
            draft.add(measurements=(*teacher_rows(job, teacher, middle), middle_row(job, middle)))

    return sealed_by_main(job.path, write)


def train_regressor(job: Job) -> Artifact:
    """Makes the baseline: the student's network, started from the teacher's weights, L1 to the truth alone.

    Raises:
        ArtifactError: the job has no teacher.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    parent_of(job, "model", "flowpose train")
    own = job.recipe.regressor
    if own is None:
        raise ArtifactError(job.path, "needs recipe.regressor", fix="add regressor to the recipe")
    return _learnt(job, regressor_spec(own), "l1")


def regressor_spec(own: RegressorSpec) -> TrajectoryDistillation:
    """The baseline as a distillation that has nothing but L1 to the truth."""
    return TrajectoryDistillation(
        student=own.student,
        crop=own.crop,
        detail=own.detail,
        sharpen=own.sharpen,
        optim=own.optim,
        solved=0.0,
        gradient=0.0,
        feature=0.0,
    )


def _learnt(job: Job, spec: Distillation, label: str) -> Artifact:
    """The artifact of a student trained by the spec's method from the job's teacher."""
    teacher = parent_of(job, "model", "flowpose train")
    setting = set_up(job, spec, teacher, spec.feature)
    method = METHODS[type(spec)](setting)
    student = new_student(setting, teacher)

    def losses(module: nn.Module, draw: Draw) -> Losses:
        drawn = method.draw(draw.rng, spec.optim.batch, draw.share).looking(draw.rng, spec.crop)
        batch = drawn.on(next(module.parameters()).device)
        made = made_by(module, batch)
        own = method.losses(module, batch, made, draw)
        compared = Compared(made.pictures, made.truth(batch), setting.features)
        real = weighted(truth_losses(compared, spec), made.weight)
        own = {**own, **carried_loss(made, made.truth(batch), spec.carried)}
        total = real["real"] + sum(own.values(), start=real["real"].new_zeros(()))
        return {"loss": total, **own, **real}

    _train(job, Learner(student, spec.second), losses, student, spec.optim)
    return _sealed(job, student, label)


def _train(
    job: Job,
    module: nn.Module,
    losses: Callable[[nn.Module, Draw], Losses],
    student: Generator,
    optim: OptimSpec,
) -> None:
    task = Task(
        title=job.stage, module=module, directory=job.work, key=job.key, losses=losses,
        sample=lambda _, iteration: write_samples(job, student, iteration),
    )  # fmt: skip
    run(task, optim)


def _sealed(job: Job, student: Generator, label: str = "student") -> Artifact:
    """The artifact, with the measurements of one step and, where it was trained, of two."""
    student.cpu().eval()
    rows = [(f"{label}-1" if label == "student" else label, student.on_grid(STUDENT_GRID, STUDENT_SOLVER))]
    if len(student.times) > 2:
        rows.append((f"{label}-{len(student.times) - 1}", student))

    def write() -> None:
        with creating(job.path, times=student.times, **job.fields("student")) as draft:
            save_weights(student, draft / GENERATOR)
            draws = [(name, drawer(generator, own_device())) for name, generator in rows]
            draft.add(measurements=measure(job, draws))

    return sealed_by_main(job.path, write)
