"""The adversarial finish: a student of any method is sharpened against heads on frozen features.

Regression returns the mean of what a condition allows, which is blurred; a critic is what commits it to one
picture. The regression to the truth stays as the anchor. On the picture the adversarial gradient is scaled to a
share of the regression's that shrinks while the critic is no better than chance, so there is no weight to be
tuned to the size of either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.distill.compared import Compared, carried_loss, truth_losses, weighted
from flowpose.distill.heads import Eyes, Heads
from flowpose.distill.student import (
    Conditions,
    Made,
    Output,
    Setting,
    draw_conditions,
    made_by,
)
from flowpose.model.losses import charbonnier, seams, slopes, texture
from flowpose.optimize import Draw, Losses, moved
from flowpose.ranks import Share
from flowpose.spec.recipe import AdversarialFinish

Conditioned = Callable[[np.random.Generator, int, Share], Conditions]
STEADIED = 4  # one of so many conditions is made a second time, with its joints moved


class Contest(nn.Module):
    """Learner and heads: what the optimizer holds."""

    def __init__(self, learner: nn.Module, heads: Heads) -> None:
        super().__init__()
        self.learner, self.heads = learner, heads

    def forward(self, batch: Conditions | None, maps: list[Tensor] | None = None) -> Output | list[Tensor]:
        """What the student makes of a batch, or the heads' scores of maps."""
        if maps is not None:
            return self.heads(maps)  # type: ignore[no-any-return]
        return self.learner(batch)  # type: ignore[no-any-return]


class Adversarial:
    """The finish of one student, or of a teacher.

    Args:
        setting: with the frozen teacher.
        spec: the finish.
        learner: what is trained, (batch) -> Output.
        draw: conditions of a share of a batch; fresh ones without it.
    """

    def __init__(
        self, setting: Setting, spec: AdversarialFinish, learner: nn.Module, draw: Conditioned | None = None
    ) -> None:
        self.setting, self.spec, self.draw = setting, spec, draw or self._fresh
        self.block = setting.teacher.autoencoder.stride
        self.eyes = Eyes(setting.teacher, tokens=not spec.crop)
        image = setting.job.recipe.image
        heads = Heads(self.eyes.channels((image.height, image.width)), spec.heads)
        self.module = Contest(learner, heads)

    def _fresh(self, rng: np.random.Generator, size: int, share: Share) -> Conditions:
        return draw_conditions(self.setting.latents, self.setting.job.recipe.train, rng, size, share)

    def losses(self, module: nn.Module, draw: Draw) -> Losses:
        """`loss` has the student's gradient (through the picture) and the heads' own; the others are shown.

        How much of the carried pixels is let in is trained by losses that do not ask where a stripe is (`_loose`).
        """
        device = next(module.parameters()).device
        drawn = self.draw(draw.rng, self.spec.optim.batch, draw.share)
        batch = drawn.looking(draw.rng, self.spec.crop).on(device)
        made = made_by(module, batch)
        truth = made.truth(batch)
        look = self._look(batch, made, draw)
        picture = made.pictures.detach().requires_grad_()
        seen, wanted = (look.moved(each) for each in (picture, truth))
        compared = Compared(seen, wanted, self.setting.features)
        part = made.weight
        real = part * truth_losses(compared, self.spec)["real"]
        even = part * self.spec.seams * seams(picture, truth, self.block, made.mean)
        maps = look(picture)
        fooled = -part * _mean(module(None, maps))
        pull, push, smooth = (torch.autograd.grad(loss, picture)[0] for loss in (real, fooled, even))
        critic = part * self._critic(module, [each.detach() for each in maps], look, truth)
        share = self.spec.share * trust(draw.share.mean(critic))
        scale = share * _norm(pull, draw.share) / _norm(push, draw.share).clamp_min(1e-12)
        student = (made.drawn * (pull + scale * push + smooth)).sum()
        loose = critic.new_zeros(())
        if made.detail is not None:
            if self.spec.texture:
                loose = part * self._loose(look.moved(made.detail.bare), compared, made)
            else:
                loose = part * charbonnier(made.detail.chosen, truth)
            student = student + (made.detail.chosen * scale * push).sum() + loose
        own = {
            **self._steady(module, batch, made, draw),
            **carried_loss(made, truth, self.setting.spec.carried),
            **self._decoded(made, truth),
        }
        shown = {
            "real": real, "seams": even, "loose": loose, "fooled": fooled, "critic": critic, "scale": scale, **own,
        }  # fmt: skip
        total = student + critic + sum(own.values(), start=critic.new_zeros(()))
        return {"loss": total, **{name: value.detach() for name, value in shown.items()}}

    def _loose(self, picture: Tensor, compared: Compared, made: Made) -> Tensor:
        """What the share of detail is trained by: mean colours and local contrast, wherever in a window they lie."""
        truth = compared.truth
        found = [slopes(picture), *self.setting.features(picture)[:3]]
        wanted = [slopes(truth), *compared.wanted[:3]]
        colours = charbonnier(
            F.avg_pool2d(picture, self.block, self.block // 2),
            F.avg_pool2d(truth, self.block, self.block // 2),
        )
        maps = list(zip(found, wanted, strict=True))
        return colours + self.spec.texture * texture(maps, picture.shape[-2], made.mean)

    def _decoded(self, made: Made, truth: Tensor) -> Losses:
        """What latents alone draw, against the truth: bricks under carried pixels cost nothing in what is joined."""
        if not self.spec.decoded or made.detail is None:
            return {}
        own = charbonnier(made.detail.decoded, truth) + self.spec.seams * seams(
            made.detail.decoded, truth, self.block, made.mean
        )
        return weighted({"decoded": self.spec.decoded * own}, made.weight)

    def _look(self, batch: Conditions, made: Made, draw: Draw) -> _Look:
        """The frozen features of the batch's pictures, at times and with noise that real and made ones share.

        All are moved by a few pixels first, as those that the losses to the truth see are: features stand on blocks of
        8 pixels, and a critic in phase with them rewards what only such a critic sees, dots at one place of every
        block (docs/ablation.md).
        """
        known: tuple[Tensor, ...] = ()
        if self.eyes.tokens:
            known = self.eyes.condition(batch.source, batch.keypoints)
        low, high = self.spec.times
        whole = made.batch + made.seconds
        t = torch.rand(whole, generator=draw.noise)
        noise = torch.randn((whole, *made.latents.shape[1:]), generator=draw.noise)
        t, noise = (moved(made.own(each), batch.source.device) for each in (t, noise))
        t = low + (high - low) * t
        down, right = (int(draw.rng.integers(-(self.block // 2), self.block // 2)) for _ in range(2))
        known = tuple(made.like(each) for each in known)
        return _Look(self.eyes, known, t, noise, (down, right), self.block // 2)

    def _steady(self, module: nn.Module, batch: Conditions, made: Made, draw: Draw) -> Losses:
        """How much the first pictures of the batch change when their joints are moved a little."""
        if not self.spec.steady:
            return {}
        recipe, whole = self.setting.job.recipe, max(1, made.batch // STEADIED)
        pixels = recipe.train.poses.spread * recipe.image.height
        steps = draw.share.of(torch.randn((whole, *batch.keypoints[0, :, :2].shape), generator=draw.noise))
        few = len(steps)
        if not few:  # other processes have them
            return {"steady": made.latents.new_zeros(())}
        keypoints = jittered(batch.keypoints[:few], pixels * moved(steps, batch.source.device))
        again = module(replace(batch.first(few), keypoints=keypoints)).drawn[:few]
        change = {"steady": self.spec.steady * charbonnier(again, made.pictures[:few])}
        return weighted(change, draw.share.weight(whole))

    def _critic(self, module: nn.Module, fake: list[Tensor], look: _Look, truth: Tensor) -> Tensor:
        """Hinge loss of the heads."""
        with torch.no_grad():
            real = look(truth)
        scores = [
            F.relu(1 - yes).mean() + F.relu(1 + no).mean()
            for yes, no in zip(module(None, real), module(None, fake), strict=True)
        ]
        return torch.stack(scores).mean()


def jittered(keypoints: Tensor, steps: Tensor) -> Tensor:
    """Keypoints f32[B, 133, 3] with every given joint moved by `steps` f32[B, 133, 2] pixels in x and y."""
    given = keypoints[..., 2:]
    return torch.cat([keypoints[..., :2] + steps * (given > 0), given], dim=-1)


def trust(critic: Tensor) -> Tensor:
    """0..1: how much of its share the critic gets, from its hinge loss: none at chance (2), all at 1 and below.

    A gradient scaled to a fixed size is as large when the critic knows nothing; then the student is pushed anywhere
    and the critic never learns. At a share of 0.6 that filled people-128 with dots within 300 iterations.
    """
    return (2 - critic).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class _Look:
    """Pictures -> maps, everything else fixed; `known` is what `Eyes.condition` gives, empty without tokens."""

    eyes: Eyes
    known: tuple[Tensor, ...]
    t: Tensor
    noise: Tensor
    shift: tuple[int, int]
    most: int

    def moved(self, pictures: Tensor) -> Tensor:
        return shifted(pictures, *self.shift, self.most)

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        seen = self.moved(pictures)
        return self.eyes.see(seen, self.known, self.t, self.noise)


def shifted(pictures: Tensor, down: int, right: int, most: int) -> Tensor:
    """Pictures f32[B, 3, H, W] moved by up to `most` pixels, their edges repeated."""
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, (most,) * 4, mode="replicate")
    top, left = most - down, most - right
    return padded[..., top : top + height, left : left + width]


def _norm(own: Tensor, share: Share) -> Tensor:
    """The norm of what all processes have, but for a factor that they share."""
    return own.norm() if share.world == 1 else share.mean(own.square().sum()).sqrt()


def _mean(scores: list[Tensor]) -> Tensor:
    return torch.stack([score.mean() for score in scores]).mean()
