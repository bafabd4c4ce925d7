"""Quantization-aware distillation: it comes nearer to the student, its files rebuild it, and it can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from quantize.tiny_student import calibration, make_artifact, quantize_job, recipe
from safetensors.torch import load_file

from flowpose.artifact import Artifact
from flowpose.model.weights import GENERATOR, load_generator
from flowpose.quantize import SCALES, load_quantized, quantize, tuning
from flowpose.quantize.quantizers import TUNED, WEIGHT_CODES, weighted
from flowpose.quantize.samples import draw
from flowpose.quantize.sensitivity import Beside

TUNE = "tune: {optim: {iterations: 24, batch: 4, lr: 2.0e-4, warmup: 2, ema: 0.5, checkpoint_every: 12}}"
COARSE = "algorithm: percentile, percentile: 80.0"  # ranges so narrow that there is something to mend


def settings(extra: str) -> str:
    return f"quantize={{method: int8, calibration: tiny, {extra}}}"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("student"), "student")


@pytest.fixture(scope="module")
def tuned(student: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    job = quantize_job(tmp_path_factory.mktemp("tuned"), student, settings(f"{COARSE}, {TUNE}"))
    return quantize(job, calibration())


def test_it_comes_nearer_to_the_student(tuned: Artifact) -> None:
    found = {m.metric: m.value for m in tuned.manifest.measurements}
    assert found["psnr_to_student"] > found["psnr_to_student_untuned"] + 0.5


def test_the_students_own_weights_stay_beside_the_tuned_ones(student: Artifact, tuned: Artifact) -> None:
    assert tuned.manifest.files[GENERATOR] == student.manifest.files[GENERATOR]
    own, changed = load_generator(student), load_file(tuned.file(TUNED))
    layers = weighted(own)
    assert {name.rpartition(".")[0] for name in changed} == set(layers)
    assert not torch.equal(changed["flow.blocks.0.mlp.up.weight"], layers["flow.blocks.0.mlp.up"].weight)


def test_files_rebuild_what_was_measured(student: Artifact, tuned: Artifact) -> None:
    beside = Beside(load_generator(student), draw(calibration(), recipe().image))
    plain = quantize_job(tuned.path.parent / "plain", student, settings(COARSE))
    untuned = beside.closeness(load_quantized(quantize(plain, calibration())))
    assert beside.closeness(load_quantized(tuned)).psnr > untuned.psnr


def test_ranges_follow_the_weights(tuned: Artifact) -> None:
    scales, weights = load_file(tuned.file(SCALES)), load_file(tuned.file(TUNED))
    name = "flow.blocks.0.mlp.up"
    codes = weights[f"{name}.weight"] / (scales[f"{name}.weight_quantizer.amax"] / 127)
    assert torch.allclose(codes.abs().amax(1), torch.tensor(float(WEIGHT_CODES)), atol=1e-3)


def test_a_killed_tuning_goes_on(
    student: Artifact, tuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = quantize_job(tmp_path, student, settings(f"{COARSE}, {TUNE}"))
    drawn: list[int] = []
    real = tuning.draw_inputs

    def killed(*inputs: object) -> object:
        drawn.append(1)
        if len(drawn) == 15:
            raise KeyboardInterrupt
        return real(*inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "draw_inputs", killed)
    with pytest.raises(KeyboardInterrupt):
        quantize(job, calibration())
    assert not job.path.exists()
    again = quantize(job, calibration())
    assert len(drawn) == 15 + 12, "from the checkpoint after 12 iterations"
    assert again.manifest.files[SCALES] == tuned.manifest.files[SCALES]


def test_smoothed_layers_are_tuned_too(student: Artifact, tmp_path: Path) -> None:
    few = TUNE.replace("24", "4").replace("12", "4")
    job = quantize_job(tmp_path, student, f"quantize={{method: int8-smoothquant, calibration: tiny, {few}}}")
    found = quantize(job, calibration())
    measured = {m.metric: m.value for m in found.manifest.measurements}
    beside = Beside(load_generator(student), draw(calibration(), recipe().image))
    assert beside.closeness(load_quantized(found)).psnr == pytest.approx(measured["psnr_to_student"], abs=3)
