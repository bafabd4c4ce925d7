"""Flow-map distillation: the mean velocity between any two times, MeanFlow's identity with the teacher's velocity.

With u(x_t, t, r) the mean velocity from t to r > t: (r - t) u is what is left of the way, its total derivative in
t is -v, so u = v + (r - t) du/dt (MeanFlow, arXiv 2505.13447, equation 6, in our direction of time). du/dt is a
central difference along the teacher's velocity, which works with every attention kernel. A share of samples has
r = t and anchors the network to plain flow matching.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from flowpose.distill.bootstrap import per_sample
from flowpose.distill.student import Conditions, Made, Setting, draw_conditions
from flowpose.flow import interpolate
from flowpose.optimize import Draw, Losses
from flowpose.ranks import WHOLE, Share
from flowpose.spec.recipe import FlowMapDistillation


class FlowMap:
    """The method."""

    def __init__(self, setting: Setting) -> None:
        assert isinstance(setting.spec, FlowMapDistillation)
        self.setting, self.spec = setting, setting.spec

    def draw(self, rng: np.random.Generator, size: int, share: Share = WHOLE) -> Conditions:
        """Fresh conditions."""
        return draw_conditions(self.setting.latents, self.setting.job.recipe.train, rng, size, share)

    def losses(self, module: nn.Module, batch: Conditions, made: Made, draw: Draw) -> Losses:
        """The squared distance to the identity's right side, weighted down where it is large (MeanFlow, eq. 22)."""
        spec, device, size = self.spec, batch.source.device, len(batch.source)
        t, r = draw_spans(draw, size, spec, device)
        teacher = self.setting.teacher.to(device)
        with torch.no_grad():
            x_1 = self.setting.reference.to(device).encode(batch.truth)
            x_0 = draw.normal(x_1.shape).to(device)
            x_t = interpolate(x_0, x_1, t, self.setting.job.recipe.train.sigma_min)
            context = teacher.context(batch.source)
            pose, _ = teacher.flow.pose_tokens(batch.keypoints, context)
            v = teacher.flow.velocity(x_t, teacher.flow.modulation(t, t), context, pose)
            aim = v + per_sample(r - t) * self._rate(module, batch, x_t, v, t, r)
        found = module(batch, (x_t, t, r))[0]
        square = (found - aim).square().mean((1, 2, 3))
        weight = 1 / (square.detach() + 1e-2).sqrt()
        return {"flowmap": spec.weight * (weight * square).mean()}

    def _rate(
        self, module: nn.Module, batch: Conditions, x: Tensor, v: Tensor, t: Tensor, r: Tensor
    ) -> Tensor:
        """du/dt along v, by a central difference, in fp32 whatever the training's precision.

        In bf16 u is good to 0.4 %, which a width of 1 % makes an error as large as 0.4 u in the derivative; the
        student learns from it, and within 60 iterations people-128's loss grew from 0.4 to 15.
        """
        e = self.spec.epsilon
        own = getattr(
            module, "module", module
        )  # accelerate gave each instance a forward that autocasts again

        def u(sign: int) -> Tensor:
            at = ((x + sign * e * v).float(), t + sign * e, r)
            with torch.autocast(x.device.type, enabled=False):
                return type(own).forward(own, batch, at)[0]  # type: ignore[no-any-return]

        return (u(1) - u(-1)) / (2 * e)


def draw_spans(
    draw: Draw, size: int, spec: FlowMapDistillation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """t <= r, f32[size] each, epsilon or more from 0 and 1; a share `anchor` has r = t, a quarter the earliest t."""
    low, high = spec.epsilon, 1 - spec.epsilon
    a, b = (draw.uniform(size, device) * (high - low) + low for _ in range(2))
    t, r = torch.minimum(a, b), torch.maximum(a, b)
    start = draw.uniform(size, device) < 0.25
    t = torch.where(start, torch.full_like(t, low), t)
    return t, torch.where(draw.uniform(size, device) < spec.anchor, t, r)
