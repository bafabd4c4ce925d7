"""The losses on pictures that all distillations share: to the truth, and of what was carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from flowpose.distill.student import Features, Made
from flowpose.model.detail import local_mean
from flowpose.model.losses import charbonnier, feature, gradient
from flowpose.optimize import Losses
from flowpose.spec.recipe import AdversarialFinish, Distillation


@dataclass(frozen=True, eq=False)
class Compared:
    """Made pictures beside the true ones, both f32[B, 3, H, W], and the feature maps of either, made when asked for."""

    pictures: Tensor
    truth: Tensor
    features: Features

    @cached_property
    def found(self) -> Sequence[Tensor]:
        """The maps of what was made, with their gradient."""
        return self.features(self.pictures)

    @cached_property
    def wanted(self) -> Sequence[Tensor]:
        """The maps of the truth."""
        with torch.no_grad():
            return self.features(self.truth)


def weighted(losses: Losses, weight: float) -> Losses:
    """The same losses times a weight; see `Made.weight`."""
    return losses if weight == 1.0 else {name: weight * value for name, value in losses.items()}


def truth_losses(compared: Compared, spec: Distillation | AdversarialFinish) -> Losses:
    """Pixel, edge and feature losses to the truth, and `real`, the weighted sum of those that have a weight."""
    pictures, truth = compared.pictures, compared.truth
    found = {"pixel": charbonnier(pictures, truth)}
    if spec.gradient:
        found["edges"] = spec.gradient * gradient(pictures, truth)
    if spec.feature:
        found["feature"] = spec.feature * feature(compared.found, compared.wanted)
    return {"real": spec.truth * torch.stack(list(found.values())).sum(), **found}


def carried_loss(made: Made, truth: Tensor, weight: float) -> Losses:
    """The weighted pixel loss of what was carried, alone, as a share of the whole batch's; nothing where nothing was.

    Local means are compared as well: pixels alone do not tell a limb that is some pixels off which way to go.
    """
    if made.detail is None:
        return {}
    pixels = made.detail.pixels
    coarse = charbonnier(local_mean(pixels), local_mean(truth))
    return weighted({"carried": weight * (charbonnier(pixels, truth) + coarse)}, made.weight)
