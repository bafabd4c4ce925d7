"""Quantization-aware distillation: a quantized student learns to draw what the unquantized one draws.

Rounding is passed through as if it were nothing (straight-through, arXiv 1308.3432), so the weights move to where their
codes serve best. Input ranges stay as calibrated, weight ranges follow the weights at every step. Any picture of the
train split will do as a source and any pose as a target: the truth is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowpose import data
from flowpose.data import Pictures, draw_sets
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.losses import charbonnier, gradient
from flowpose.model.pictures import to_tensor
from flowpose.optimize import Draw, Losses, Task, moved, run
from flowpose.quantize.quantizers import INPUT, QuantizedPrecision, follow_weights, weighted
from flowpose.spec.quantization import TuneSpec
from flowpose.spec.recipe import TrainSpec
from flowpose.train.augment import mirror_keypoints, vary_poses


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a tuning works with: the student that is drawn after, and the quantized one that is trained."""

    job: Job
    spec: TuneSpec
    precision: QuantizedPrecision
    student: Generator
    quantized: Generator


def tune(tuning: Tuning) -> Generator:
    """The quantized generator with tuned weights; goes on from its last checkpoint after a kill.

    Raises:
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    recipe, student, quantized = tuning.job.recipe, tuning.student, tuning.quantized
    pictures = data.read(recipe.data, recipe.image, "train", tuning.job.data)
    quantized.requires_grad_(False)
    for layer in weighted(quantized).values():
        layer.requires_grad_(True)
    student.requires_grad_(False)

    def losses(module: nn.Module, draw: Draw) -> Losses:
        device = next(module.parameters()).device
        sources, keypoints = draw_inputs(pictures, draw.rng, tuning.spec.optim.batch, recipe.train, device)
        with torch.no_grad():
            aim = student.to(device)(sources, keypoints)
            follow_weights(quantized, tuning.precision)
        made = module(sources, keypoints)
        pixel, edges = charbonnier(made, aim), gradient(made, aim)
        return {"loss": pixel + tuning.spec.gradient * edges, "pixel": pixel, "edges": edges}

    task = Task(
        title="tuning", module=quantized, losses=losses, directory=tuning.job.work, key=tuning.job.key
    )
    tuned = run(task, tuning.spec.optim)
    assert isinstance(tuned, Generator)  # the module that went in
    student.cpu()
    follow_weights(tuned, tuning.precision)
    return tuned.requires_grad_(False)


def draw_inputs(
    pictures: Pictures, rng: np.random.Generator, size: int, spec: TrainSpec, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sources f32[size, 3, H, W] in -1..1 and keypoints f32[size, 133, 3], varied as in training."""
    sources, targets = draw_sets(pictures, rng, size, 1)
    mirrored = (rng.random(size) < 0.5) & spec.flip
    images, poses = pictures.images[sources], pictures.keypoints[targets[:, 0]]
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    poses = np.where(mirrored[:, None, None], mirror_keypoints(poses, images.shape[2]), poses)
    shown = vary_poses(poses.astype(np.float32), rng, spec.poses, images.shape[1])
    return moved(to_tensor(images), device), moved(torch.from_numpy(shown), device)


def tuned_weights(tuned: Generator) -> dict[str, Tensor]:
    """Name -> weight or bias of every layer that was trained, as an unquantized generator has them.

    A smoothed layer's weights are multiplied again by what its scales divide them by.
    """
    found = {}
    for name, layer in weighted(tuned).items():
        scale = getattr(getattr(layer, INPUT), "pre_quant_scale", None)
        weight = layer.weight.detach() if scale is None else layer.weight.detach() * scale
        found[f"{name}.weight"] = weight.contiguous()
        if layer.bias is not None:
            found[f"{name}.bias"] = layer.bias.detach().contiguous()
    return found
