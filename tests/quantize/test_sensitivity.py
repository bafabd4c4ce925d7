"""The ranking of layers and the floor: the layer that was spoilt is found, and it alone goes back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from quantize.tiny_student import calibration, make_artifact, quantize_job
from safetensors.torch import load_file

from flowpose.artifact import Artifact
from flowpose.errors import GateFailed
from flowpose.model.generator import Generator
from flowpose.model.weights import load_generator
from flowpose.quantize import SCALES, quantize
from flowpose.quantize.quantizers import apply_scales, choose
from flowpose.quantize.samples import Samples, draw
from flowpose.quantize.sensitivity import Beside, layers_of, ranked, reasons, settled
from flowpose.spec.quantization import Floor

SPOILT = "flow.blocks.0.mlp.down"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("student"), "student")


@pytest.fixture(scope="module")
def ranges(student: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = quantize(quantize_job(tmp_path_factory.mktemp("quantized"), student), calibration())
    return made.file(SCALES)


@pytest.fixture(scope="module")
def samples(student: Artifact) -> Samples:
    from quantize.tiny_student import recipe

    return draw(calibration(), recipe().image)


def spoilt(student: Artifact, ranges: Path) -> Generator:
    """The quantized student with one layer whose inputs are rounded 300 times as coarsely."""
    found = load_file(ranges)
    found[f"{SPOILT}.input_quantizer.amax"] = found[f"{SPOILT}.input_quantizer.amax"] * 300
    return apply_scales(load_generator(student), found)


def test_the_spoilt_layer_is_first_and_goes_back_alone(
    student: Artifact, ranges: Path, samples: Samples
) -> None:
    quantized, own = spoilt(student, ranges), load_generator(student)
    names, beside = choose(own, ()), Beside(own, samples)
    whole = beside.closeness(quantized)
    costs = ranked(quantized, names, beside)
    assert costs[0].layer == SPOILT and len(costs) == len(names)
    assert [cost.psnr for cost in costs] == sorted(cost.psnr for cost in costs)
    assert layers_of(quantized, names) == names, "all are quantized again"
    kept = settled(quantized, costs, beside, Floor(psnr=whole.psnr + 3, low=whole.low, pairs=6))
    assert [cost.layer for cost in kept] == [SPOILT]
    assert {*names} - {*layers_of(quantized, names)} == {SPOILT}
    assert reasons(kept)[0]["layer"] == SPOILT and "dB" in reasons(kept)[0]["reason"]


def test_a_floor_that_holds_keeps_every_layer_quantized(
    student: Artifact, ranges: Path, samples: Samples
) -> None:
    quantized, own = apply_scales(load_generator(student), load_file(ranges)), load_generator(student)
    names, beside = choose(own, ()), Beside(own, samples)
    assert settled(quantized, ranked(quantized, names, beside), beside, Floor(psnr=10, low=5)) == ()


def test_a_student_is_as_near_to_itself_as_can_be(student: Artifact, samples: Samples) -> None:
    own = load_generator(student)
    close = Beside(own, samples).closeness(own)
    assert (close.psnr, close.low) == (100, 100)


def test_the_artifact_lists_what_stayed_and_why(student: Artifact, tmp_path: Path) -> None:
    plain = quantize(quantize_job(tmp_path / "plain", student), calibration())
    reached = {m.metric: m.value for m in plain.manifest.measurements}["psnr_to_student"]
    floor = (
        f"quantize={{method: int8, calibration: tiny, floor: {{psnr: {reached + 1:.2f}, low: 1, pairs: 4}}}}"
    )
    found = quantize(quantize_job(tmp_path / "floor", student, floor), calibration())
    kept = found.manifest.stage["kept"]
    assert kept and all(each["reason"] for each in kept)
    held = load_file(found.file(SCALES))
    assert not any(key.startswith(f"{each['layer']}.") for each in kept for key in held)
    rows = json.loads(found.file("sensitivity.json").read_text())["layers"]
    assert [row["layer"] for row in rows[: len(kept)]] == [each["layer"] for each in kept]
    picture = ElementTree.fromstring(found.file("sensitivity.svg").read_text())
    bars = [each for each in picture.iter() if each.tag.endswith("rect")]
    assert len(bars) == len(rows)
    share = {m.metric: m.value for m in found.manifest.measurements}
    assert share["int8_macs"] < {m.metric: m.value for m in plain.manifest.measurements}["int8_macs"]


def test_a_floor_out_of_reach_says_so(student: Artifact, tmp_path: Path) -> None:
    floor = "quantize={method: int8, calibration: tiny, floor: {psnr: 101, low: 30, pairs: 2}}"
    with pytest.raises(GateFailed, match=r"with one layer quantized, got .* dB, .*expected 101 dB"):
        quantize(quantize_job(tmp_path, student, floor), calibration())
