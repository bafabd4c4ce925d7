"""Bootstrap distillation: the student extends its own path from z* by one short step of the teacher at a time.

The Lagrangian identity (BOOT, arXiv 2306.05544; LSD of arXiv 2505.18825 is its continuous form): with F(z, d) the
mean velocity over [0, d], d/dd [d F(z, d)] = v_T(z + d F(z, d), d). Its discrete form needs no spatial derivative
and no stored trajectories.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from flowpose.distill.student import Conditions, Made, Setting, draw_conditions
from flowpose.flow import SOLVERS
from flowpose.model.losses import charbonnier
from flowpose.optimize import Draw, Losses
from flowpose.ranks import WHOLE, Share
from flowpose.spec.recipe import BootstrapDistillation


class Bootstrap:
    """The method."""

    def __init__(self, setting: Setting) -> None:
        assert isinstance(setting.spec, BootstrapDistillation)
        self.setting, self.spec = setting, setting.spec

    def draw(self, rng: np.random.Generator, size: int, share: Share = WHOLE) -> Conditions:
        """Fresh conditions."""
        return draw_conditions(self.setting.latents, self.setting.job.recipe.train, rng, size, share)

    def losses(self, module: nn.Module, batch: Conditions, made: Made, draw: Draw) -> Losses:
        """F(z, d + h) against (d F(z, d) + h v_T) / (d + h), at random d; at d = 0 the target is the teacher's."""
        spec, h = self.spec, self.spec.step
        z = self.setting.teacher.noise.to(batch.source.device).expand_as(batch.source)
        d = draw.uniform(len(z), batch.source.device) * (1 - h)
        zero = torch.zeros_like(d)
        with torch.no_grad():
            start = module(batch, (z, zero, d))[0]
            x = z + per_sample(d) * start
            aim = (per_sample(d) * start + self._teacher_step(batch, x, d)) / per_sample(d + h)
        found = module(batch, (z, zero, d + h))[0]
        return {"bootstrap": spec.weight * charbonnier(found, aim)}

    def _teacher_step(self, batch: Conditions, x: Tensor, d: Tensor) -> Tensor:
        """How far the teacher moves x f32[B, c, h, w] from times d f32[B] to d + h."""
        generator = self.setting.teacher.to(x.device)
        context = generator.context(batch.source)
        pose, _ = generator.flow.pose_tokens(batch.keypoints, context)

        def velocity(x: Tensor, passed: float) -> Tensor:
            modulation = generator.flow.modulation(d + passed, d + passed)
            return generator.flow.velocity(x, modulation, context, pose)

        return SOLVERS[self.spec.solver](velocity, x, 0.0, self.spec.step) - x


def per_sample(t: Tensor) -> Tensor:
    """f32[B, 1, 1, 1] of f32[B]."""
    return t[:, None, None, None]
