"""The teacher's own finish: decoder and detail are trained on what it samples, as a student's are on what that makes.

A student carries the source's pixels and its decoder was trained against a critic; a teacher of latents alone moves
less when a joint moves, because it shows less. Compared with it, a student would be punished for its sharpness.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from flowpose.distill.adversarial import Conditioned
from flowpose.distill.student import Conditions, Output, Setting, drawn
from flowpose.distill.trajectory import teacher_ends
from flowpose.model.generator import Generator, new_detail
from flowpose.model.weights import TEACHER_GRID, TEACHER_SOLVER
from flowpose.ranks import WHOLE, Share
from flowpose.spec.recipe import TeacherFinish, TrajectoryDistillation


class Painter(nn.Module):
    """The trained part of a teacher's finish: decoder and detail. Latents are a batch's ends, the teacher's own."""

    def __init__(self, teacher: Generator) -> None:
        super().__init__()
        self.decoder, self.detail = teacher.autoencoder.decoder, teacher.detail
        self.teacher = [teacher]  # in a list, so that the velocity network is not a part of this module

    def forward(self, batch: Conditions, at: tuple[Tensor, Tensor, Tensor] | None = None) -> Output:
        """The pictures of a batch of conditions, all with ends."""
        teacher = self.teacher[0].to(batch.source.device)
        with torch.no_grad():
            _, where = teacher.flow.pose_tokens(batch.keypoints, teacher.context(batch.source))
        return drawn(teacher, batch.ends, where, batch.shown, batch.window)


def teacher_spec(spec: TeacherFinish) -> TrajectoryDistillation:
    """What solves the teacher's paths, from its own z*, and weighs what is carried."""
    return TrajectoryDistillation(
        noise="fixed",
        detail=True,
        pairs=spec.pairs,
        intervals=spec.intervals,
        carried=spec.carried,
        optim=spec.optim,
    )


def with_detail(teacher: Generator, spec: TeacherFinish) -> Generator:
    """The teacher with a decoder of its own and new detail, both open to training."""
    torch.manual_seed(spec.optim.seed)
    detail = new_detail(teacher.flow, teacher.autoencoder, spec.sharpen)
    if spec.texture:
        detail.open()
    autoencoder = copy.deepcopy(teacher.autoencoder)
    autoencoder.decoder.requires_grad_(True)
    made = Generator(autoencoder, teacher.flow, TEACHER_GRID, TEACHER_SOLVER, detail)
    made.noise = teacher.noise
    return made


def solved_conditions(setting: Setting) -> Conditioned:
    """Draws conditions whose paths were solved; they are solved now, or read from the work folder."""
    assert isinstance(setting.spec, TrajectoryDistillation)
    points = teacher_ends(setting, setting.spec)

    def draw(rng: np.random.Generator, size: int, share: Share = WHOLE) -> Conditions:
        return points.conditions(setting.latents, rng.integers(len(points.ends), size=size), share)

    return draw
