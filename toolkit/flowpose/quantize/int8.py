"""The quantize stage: student -> INT8 student."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn

from flowpose import data
from flowpose.artifact import Artifact, Draft, creating, open_artifact
from flowpose.errors import ArtifactError
from flowpose.job import Job
from flowpose.metrics import psnr
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures
from flowpose.model.weights import GENERATOR, load_generator, save_weights
from flowpose.quantize import macs
from flowpose.quantize.quantizers import SCALES, apply_scales, calibrate, choose, save_scales, scales
from flowpose.quantize.samples import Samples, draw, pick
from flowpose.spec.calibration import Calibration
from flowpose.spec.manifest import Measurement

CALIBRATION = "calibration.json"
MEASURED = 16  # val pairs


def quantize(job: Job, calibration: Calibration) -> Artifact:
    """Makes the quantized artifact: the student's fp32 weights, INT8 ranges, and the names of what they were fixed on.

    Measures PSNR to the student on val pairs of the recipe's data, and INT8's share of a frame's
    multiply-accumulates.

    Args:
        job: its parent is the student.
        calibration: the set that fixes the ranges; one spec gives byte-identical files on one machine.

    Raises:
        ArtifactError: the job has no student.
        DataError: too few pictures, or others than the set's digest says.
        SpecError: a `keep` pattern that matches no layer.
        MissingDependency: nvidia-modelopt is not installed.
    """
    if job.parent is None or job.parent.manifest.kind != "student":
        raise ArtifactError(job.path, "quantization needs a student", fix="flowpose distill")
    spec = job.recipe.quantize
    student = load_generator(job.parent)
    names = choose(student, spec.keep)
    samples = draw(calibration, job.recipe.image, job.data)
    quantized = load_generator(job.parent)
    calibrate(quantized, names, spec.algorithm, lambda module: _feed(module, samples))
    fields = job.fields("quantized")
    described = {**calibration.model_dump(mode="json"), "digest": samples.digest}
    fields["stage"] = {**fields["stage"], "calibration": described}
    with creating(job.path, times=student.times, **fields) as draft:
        save_weights(student, draft / GENERATOR)
        save_scales(quantized, draft / SCALES)
        _write_names(draft, samples)
        rebuilt = apply_scales(load_generator(job.parent), scales(quantized))
        draft.add(measurements=_measure(job, calibration, student, rebuilt, names))
    return open_artifact(job.path, verify=False)


@torch.no_grad()
def _feed(module: nn.Module, samples: Samples) -> None:
    for sources, keypoints in samples.batches():
        module(sources, keypoints)


def _write_names(draft: Draft, samples: Samples) -> None:
    pairs = [{"source": source, "pose": target} for source, target in samples.names]
    (draft / CALIBRATION).write_text(json.dumps({"digest": samples.digest, "pairs": pairs}, indent=1) + "\n")


@torch.no_grad()
def _measure(
    job: Job, calibration: Calibration, student: Generator, quantized: Generator, names: tuple[str, ...]
) -> list[Measurement]:
    """PSNR of INT8 (fake quantization) to fp32 and of both to the truth, and the share of INT8."""
    val = pick(data.read(job.recipe.data, job.recipe.image, "val", job.data), MEASURED, calibration.seed)
    made = {
        name: np.concatenate([to_pictures(module(*batch)) for batch in val.batches()])
        for name, module in (("fp32", student), ("int8", quantized))
    }
    compared = (("psnr_to_student", made["int8"], made["fp32"]), ("psnr", made["int8"], val.targets))
    found = [
        job.measured(
            metric, float(np.mean([psnr(x, y) for x, y in zip(a, b, strict=True)])), n=len(val), split="val",
            unit="dB", against="truth" if metric == "psnr" else "student",
        )
        for metric, a, b in compared
    ]  # fmt: skip
    sources, keypoints = next(val.batches())
    context = student.context(student.autoencoder.encode(sources), sources)
    counts = macs.frame_macs(student, context, keypoints)
    total = sum(counts.values()) / 1e6
    found.append(
        job.measured("int8_macs", macs.share(counts, names), n=1, split="val", unit="share", against="fp32")
    )
    return [*found, job.measured("frame_macs", total, n=1, split="val", unit="M", against="fp32")]
