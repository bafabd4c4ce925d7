"""A student and a teacher with random weights on drawn figures, as artifacts, made in a second without training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from flowpose.artifact import Artifact, creating, open_artifact, stage_key
from flowpose.flow import end_dense
from flowpose.job import Job, stage_config
from flowpose.model.generator import Generator, build_autoencoder, build_detail, build_flow
from flowpose.model.weights import GENERATOR, STUDENT_GRID, save_weights
from flowpose.spec.calibration import Calibration
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe

FIGURES = {"source": "figures", "identities": 6, "pictures": 3, "seed": 0}
CALIBRATION = {"format": 1, "name": "six", "data": FIGURES, "split": "train", "count": 6, "seed": 1}


def recipe(*overrides: str) -> Recipe:
    small = ("data.identities=6", "data.pictures=3", "image.height=48", "image.width=32")
    return load_recipe(Path(__file__).parents[2] / "recipes" / "tiny.yaml", [*small, *overrides])


def calibration(**changes: object) -> Calibration:
    return Calibration.parse({**CALIBRATION, **changes}, "calibration")


def generator(spec: Recipe, student: bool = False) -> Generator:
    """Random weights; gates, head and modulation are not zero, so that every part has a say in the picture.

    Detail is a student's own, where the recipe wants it; all other weights are the same with and without it.
    """
    torch.manual_seed(3)
    autoencoder = build_autoencoder(spec.autoencoder)
    flow = build_flow(spec.model, spec.image, autoencoder)
    for layer in (flow.head, flow.time.project):
        nn.init.normal_(layer.weight, std=0.05)
        nn.init.normal_(layer.bias, std=0.2)
    for layer in (autoencoder.encoder.layers[-1], autoencoder.decoder.layers[-1]):
        nn.init.normal_(layer.weight, std=0.03)
    detail = build_detail(spec.distill, flow, autoencoder) if student else None
    if detail is not None:
        for layer in (detail.offsets[-1], detail.refine[-1], detail.choice[-1]):
            nn.init.normal_(layer.weight, std=0.02)
    return Generator(autoencoder, flow, STUDENT_GRID, "euler", detail).eval()


def make_artifact(root: Path, kind: str, spec: Recipe | None = None) -> Artifact:
    """A student or model artifact that holds `generator`; its own stage holds all parts of the recipe."""
    spec = spec or recipe()
    config = {"name": kind}
    for stage in ("autoencoder", "train", "distill"):
        config |= stage_config(spec, stage)
    job = Job(recipe=spec, stage="distill", key=stage_key(None, kind, config), root=root)
    fields = {
        **job.fields(kind),
        "stage": config,
        "times": STUDENT_GRID if kind == "student" else end_dense(8),
    }
    with creating(root / kind, **fields) as draft:
        save_weights(generator(spec, student=kind == "student"), draft / GENERATOR)
    return open_artifact(root / kind)


def quantize_job(root: Path, parent: Artifact | None, *overrides: str) -> Job:
    spec = recipe(*overrides)
    key = stage_key("a" * 64, "quantize", {"overrides": list(overrides)})
    return Job(recipe=spec, stage="quantize", key=key, root=root, parent=parent)
