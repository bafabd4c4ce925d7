"""The quantize stage: student -> quantized student."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from flowpose import data
from flowpose.artifact import Artifact, Draft, creating, open_artifact
from flowpose.errors import ArtifactError
from flowpose.job import Job
from flowpose.metrics import psnr
from flowpose.model.generator import Generator
from flowpose.model.weights import GENERATOR, load_generator, save_weights
from flowpose.quantize import macs
from flowpose.quantize.methods import METHODS, calibrate
from flowpose.quantize.quantizers import (
    SCALES,
    TUNED,
    QuantizedPrecision,
    apply_scales,
    choose,
    ranges_of,
    widened,
)
from flowpose.quantize.samples import Samples, draw, pick
from flowpose.quantize.sensitivity import Beside, LayerCost, layers_of, ranked, reasons, settled
from flowpose.quantize.tuning import Tuning, tune, tuned_weights
from flowpose.report.bars import bars
from flowpose.spec.calibration import Calibration
from flowpose.spec.manifest import Measurement
from flowpose.spec.quantization import Auto, Calibrated, Int8

CALIBRATION, SENSITIVITY, PLOT = "calibration.json", "sensitivity.json", "sensitivity.svg"
MEASURED = 16  # val pairs, where the recipe's floor does not say


@dataclass(frozen=True, eq=False)
class Quantized:
    """What the stage found.

    Attributes:
        generator: with its quantizers.
        precision: what its layers compute in.
        chosen: the method's record; of `Auto`, the one that was taken.
        untuned: dB to the student before tuning, None without one.
        costs, kept: of the layers, and those that went back to floating point; empty without a floor.
    """

    generator: Generator
    precision: QuantizedPrecision
    chosen: Calibrated
    untuned: float | None
    costs: tuple[LayerCost, ...]
    kept: tuple[LayerCost, ...]


def quantize(job: Job, calibration: Calibration) -> Artifact:
    """Makes the quantized artifact: the student's weights, the ranges, and the names of what they were fixed on.

    Measures PSNR to the student on val pairs of the recipe's data, and the share of a frame's multiply-accumulates
    that is quantized. With a floor the ranking of the layers is beside it, as JSON and as a picture, and the manifest's
    stage lists the layers that stayed in floating point, each with the reason.

    Args:
        job: its parent is the student.
        calibration: the set that fixes the ranges; one spec gives byte-identical files on one machine.

    Raises:
        ArtifactError: the job has no student.
        DataError: too few pictures, or others than the set's digest says.
        SpecError: a `keep` pattern that matches no layer.
        GateFailed: the floor cannot be met.
        TrainingError: see flowpose.optimize.
        MissingDependency: nvidia-modelopt is not installed.
    """
    if job.parent is None or job.parent.manifest.kind != "student":
        raise ArtifactError(job.path, "quantization needs a student", fix="flowpose distill")
    student, spec = load_generator(job.parent), job.recipe.quantize
    names = choose(student, spec.keep)
    samples = draw(calibration, job.recipe.image, job.data)
    count = spec.floor.pairs if spec.floor else MEASURED
    val = pick(data.read(job.recipe.data, job.recipe.image, "val", job.data), count, calibration.seed)
    beside = Beside(student, val)
    found = _quantized(job, student, names, samples, beside)
    with creating(job.path, times=student.times, **_fields(job, calibration, samples, found)) as draft:
        _write(draft, student, samples, found)
        draft.add(measurements=_measurements(job, beside, val, found, names))
    return open_artifact(job.path, verify=False)


def _quantized(
    job: Job, student: Generator, names: Sequence[str], samples: Samples, beside: Beside
) -> Quantized:
    """Calibrated, tuned and kept to its floor, as the recipe wants it."""
    spec = job.recipe.quantize
    chosen, generator = _calibrated(student, names, spec, samples, beside)
    precision = METHODS[type(chosen)].precision
    generator = apply_scales(copy.deepcopy(student), widened(ranges_of(generator), precision), precision)
    untuned = None
    if spec.tune:
        untuned = beside.closeness(generator).psnr
        generator = tune(Tuning(job, spec.tune, precision, student, generator))
    costs = ranked(generator, names, beside) if spec.floor else ()
    kept = settled(generator, costs, beside, spec.floor) if spec.floor else ()
    return Quantized(generator, precision, chosen, untuned, costs, kept)


def _calibrated(
    student: Generator, names: Sequence[str], spec: Calibrated, samples: Samples, beside: Beside
) -> tuple[Calibrated, Generator]:
    """The method that was taken, and the generator that it calibrated."""
    tried = []
    for each in _candidates(spec):
        generator = copy.deepcopy(student)
        calibrate(generator, names, each, lambda module: _feed(module, samples))
        if len(_candidates(spec)) == 1:
            return each, generator
        tried.append((beside.closeness(generator).psnr, each, generator))
    _, best, generator = max(tried, key=lambda one: one[0])
    return best, generator


def _candidates(spec: Calibrated) -> list[Calibrated]:
    """The methods to try: one, or of `Auto` one an algorithm."""
    if not isinstance(spec, Auto):
        return [spec]
    return [
        Int8(calibration=spec.calibration, keep=spec.keep, algorithm=each, percentile=spec.percentile)
        for each in spec.algorithms
    ]


@torch.no_grad()
def _feed(module: nn.Module, samples: Samples) -> None:
    for sources, keypoints in samples.batches():
        module(sources, keypoints)


def _fields(job: Job, calibration: Calibration, samples: Samples, found: Quantized) -> dict[str, object]:
    """The manifest's fields, with what was decided on the way."""
    fields = job.fields("quantized")
    described = {**calibration.model_dump(mode="json"), "digest": samples.digest}
    decided = {"calibration": described, "kept": reasons(found.kept)}
    if isinstance(job.recipe.quantize, Auto):
        decided["chosen"] = found.chosen.model_dump(mode="json")
    return {**fields, "precision": found.precision, "stage": {**fields["stage"], **decided}}


def _write(draft: Draft, student: Generator, samples: Samples, found: Quantized) -> None:
    save_weights(student, draft / GENERATOR)
    if found.untuned is not None:
        save_file(tuned_weights(found.generator), draft / TUNED)
    save_file(ranges_of(found.generator), draft / SCALES)
    pairs = [{"source": source, "pose": target} for source, target in samples.names]
    (draft / CALIBRATION).write_text(json.dumps({"digest": samples.digest, "pairs": pairs}, indent=1) + "\n")
    if found.costs:
        rows = [cost.plain() for cost in found.costs]
        (draft / SENSITIVITY).write_text(json.dumps({"layers": rows}, indent=1) + "\n")
        picture = bars(
            [(cost.layer, cost.psnr) for cost in found.costs],
            title="PSNR to the student with this layer alone quantized, dB",
        )
        (draft / PLOT).write_text(picture)


def _measurements(
    job: Job, beside: Beside, val: Samples, found: Quantized, names: Sequence[str]
) -> list[Measurement]:
    """PSNR of the quantized pictures to the student's and to the truth, and the quantized share of a frame's work."""
    made = beside.drawn(found.generator)
    to_truth, to_student = [psnr(a, b) for a, b in zip(made, val.targets, strict=True)], beside.of(made)
    values = {
        "psnr_to_student": (to_student.psnr, "student"),
        "psnr_to_student_low": (to_student.low, "student"),
        "psnr": (float(np.mean(to_truth)), "truth"),
    }
    if found.untuned is not None:
        values["psnr_to_student_untuned"] = (found.untuned, "student")
    rows = [
        job.measured(metric, value, n=len(val), split="val", unit="dB", against=against)
        for metric, (value, against) in values.items()
    ]
    counts = macs.frame_macs(found.generator, *beside.inputs[0])
    share, total = macs.share(counts, layers_of(found.generator, names)), sum(counts.values()) / 1e6
    return [
        *rows,
        job.measured(f"{found.precision}_macs", share, n=1, split="val", unit="share", against="fp32"),
        job.measured("frame_macs", total, n=1, split="val", unit="M", against="fp32"),
    ]
