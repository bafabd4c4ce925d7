"""Every method: which ranges it gives, that its files rebuild it, and how near it stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from quantize.tiny_student import calibration, make_artifact, quantize_job, recipe
from safetensors.torch import load_file

from flowpose.artifact import Artifact
from flowpose.errors import SpecError
from flowpose.quantize import SCALES, load_quantized, quantize
from flowpose.quantize.methods import METHODS, least_square_range
from flowpose.spec.check import check_recipe
from flowpose.spec.quantization import Auto, Calibrated

INPUTS = ".input_quantizer.amax"
ACTIVATIONS = (INPUTS, ".other_quantizer.amax")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("student"), "student")


def made(student: Artifact, root: Path, settings: str) -> Artifact:
    return quantize(quantize_job(root, student, f"quantize={{calibration: tiny, {settings}}}"), calibration())


def values(artifact: Artifact) -> dict[str, float]:
    return {m.metric: m.value for m in artifact.manifest.measurements}


@pytest.fixture(scope="module")
def plain(student: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return made(student, tmp_path_factory.mktemp("max"), "method: int8, algorithm: max")


def test_every_record_has_a_row() -> None:
    assert {*METHODS, Auto} == set(Calibrated.__subclasses__())


@pytest.mark.parametrize("algorithm", ["entropy", "percentile", "mse"])
def test_histograms_cut_what_the_maximum_keeps(
    student: Artifact, plain: Artifact, tmp_path: Path, algorithm: str
) -> None:
    cut = {
        "entropy": 'keep: ["flow.*", "autoencoder.*"]',  # it takes long, and detail has the far values
        "percentile": "percentile: 99.0",
        "mse": "keep: []",
    }[algorithm]
    found = made(student, tmp_path, f"method: int8, algorithm: {algorithm}, {cut}")
    whole, ranges = load_file(plain.file(SCALES)), load_file(found.file(SCALES))
    kept = {name for name in whole if algorithm == "entropy" and name.startswith(("flow.", "autoencoder."))}
    assert ranges.keys() == whole.keys() - kept
    inputs = [name for name in ranges if name.endswith(ACTIVATIONS)]
    assert all(0 < ranges[name] <= whole[name] * 1.001 for name in inputs)
    assert any(ranges[name] < whole[name] * 0.95 for name in inputs)
    for name in ranges.keys() - {*inputs}:
        assert torch.equal(ranges[name], whole[name]), "weights have their maximum"
    assert values(found)["psnr_to_student"] > 20


def test_the_least_squared_error_cuts_a_few_far_values_off_and_keeps_an_even_spread_whole() -> None:
    edges = np.linspace(0, 8, 2049)
    even = np.full(2048, 100.0)
    assert least_square_range(even, edges) == pytest.approx(8, rel=0.02)
    centre = np.where(edges[1:] <= 1, 1e6, 0.0)
    centre[-1] = 1.0
    assert 0.9 < least_square_range(centre, edges) < 1.6


def test_histograms_give_the_same_bytes_again(student: Artifact, tmp_path: Path) -> None:
    one, two = (made(student, tmp_path / name, "method: int8, algorithm: mse") for name in "ab")
    assert one.manifest.files == two.manifest.files


def test_auto_takes_the_nearest_algorithm(student: Artifact, tmp_path: Path) -> None:
    floor = "floor: {psnr: 20, low: 15, pairs: 4}"
    each = {
        name: values(made(student, tmp_path / name, f"method: int8, algorithm: {name}, {floor}"))
        for name in ("max", "mse")
    }
    auto = made(student, tmp_path / "auto", f"method: auto, algorithms: [max, mse], {floor}")
    best = max(each, key=lambda name: each[name]["psnr_to_student"])
    assert auto.manifest.stage["chosen"]["algorithm"] == best
    assert values(auto)["psnr_to_student"] == pytest.approx(each[best]["psnr_to_student"])
    assert auto.manifest.precision == "int8"


def test_fp8_has_other_codes_over_the_whole_range(student: Artifact, plain: Artifact, tmp_path: Path) -> None:
    found = made(student, tmp_path, "method: fp8")
    assert found.manifest.precision == "fp8" and values(found)["psnr_to_student"] > 20
    assert "fp8_macs" in values(found) and "int8_macs" not in values(found)
    name = f"flow.blocks.0.mlp.up{INPUTS}"
    assert torch.equal(load_file(found.file(SCALES))[name], load_file(plain.file(SCALES))[name])
    weight = load_quantized(found).get_submodule("flow.blocks.0.mlp.up")
    codes = weight.weight_quantizer(weight.weight) / weight.weight_quantizer.amax * 448
    assert torch.allclose(codes, codes.to(torch.float8_e4m3fn).float(), rtol=1e-3, atol=1e-3)
    assert len(torch.unique(codes.round(decimals=2))) <= 2 * 128


def test_precisions_that_the_method_does_not_make_are_found_before_any_work() -> None:
    with pytest.raises(SpecError, match=r"quantize\.method fp8 makes no int8"):
        check_recipe(recipe("quantize={method: fp8, calibration: tiny}", "export.opset=19"))
    with pytest.raises(SpecError, match="has no FP8, got 17, expected 19 or more"):
        check_recipe(recipe("quantize={method: fp8, calibration: tiny}", "export.precisions=[fp32, fp8]"))
