"""Shares of the peak: every layer of the shipped graphs is found in the backends' profiles, and the arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.peaks import Peaks
from flowpose.errors import ArtifactError
from flowpose.runtime.loading import onnx_graph
from flowpose.spec.find import find

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RATES = {"fp32": 100e9, "int8": 400e9}  # operations a second


@pytest.fixture(scope="module")
def share() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    import peak_share

    return peak_share


@pytest.fixture(scope="module")
def people() -> Artifact:
    return open_artifact(find("models", "people-128"), verify=False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_layer_of_the_shipped_frame_is_found_in_a_profile(
    share: ModuleType, people: Artifact, backend: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "WARMUP", 1)
    own, general = (people.file(onnx_graph(people, "frame", precision, name).file) for name in (backend, ""))
    given = share.layers.inputs_of(people)
    plain, _, found = share.profiled(own, general, backend, given, 1, 2)
    expected = share.anatomy(onnx.load(general))
    assert len(plain.ms) == 2
    assert sum(each.macs for each in found) == expected.macs, "a layer is missing, or counted twice"
    short = sum(layer.macs for layer in expected.layers if layer.quantized)
    assert sum(each.int8 for each in found) == short, "a layer that should be in 8 bits is not"
    groups = {each.group for each in found if each.macs}
    assert {share.LINEAR, share.PRODUCTS, "convolutions at 64 x 44"} <= groups
    assert {each.group for each in found if not each.macs} >= {share.SAMPLING, share.REST}


def test_names_lead_back_to_layers(share: ModuleType) -> None:
    spelled = {
        "/offsets/Relu_output_0_nchwc": "/offsets/Relu_output_0",
        "/conv/Conv/WithoutBiases": "/conv/Conv",
        "/first/Cast_output_0.codes38": "/first/Cast_output_0",
        "/refine.4/Conv_output_0.all": "/refine.4/Conv_output_0",
        "/scores/MatMul/MatmulTransposeFusion//MatMulScaleFusion/": "/scores/MatMul",
    }
    for name, layer in spelled.items():
        assert layer in list(share.spellings(name))
    assert list(share.spellings("/layers.12/Conv")) == ["/layers.12/Conv"], "a layer's own number was cut off"


def test_a_group_s_share_is_its_time_at_the_peak_over_its_time(share: ModuleType) -> None:
    found = [
        share.Ran(2.0, "linear layers", 50_000_000, 0),  # 1 ms at 100 GOP/s
        share.Ran(2.0, "linear layers", 50_000_000, 50_000_000),  # 0.25 ms at 400
        share.Ran(1.0, "sampling", 0, 0),
    ]
    groups = share.grouped(found, RATES)
    assert list(groups) == ["linear layers", "sampling", "all"]
    linear = groups["linear layers"]
    assert linear["share_of_peak"] == pytest.approx(1.25 / 4) and linear["int8_share"] == 0.5
    assert linear["gmac_s"] == pytest.approx(25.0) and linear["share_of_time"] == pytest.approx(0.8)
    assert groups["sampling"]["share_of_peak"] == 0 and groups["all"]["share_of_peak"] == pytest.approx(0.25)


def test_of_a_step_of_two_layers_only_those_in_codes_count_as_int8(share: ModuleType) -> None:
    scores = share.Place("scores", share.PRODUCTS, 30, True)
    values = share.Place("values", share.PRODUCTS, 10, False)
    step = share.Step("attention", "Subgraph jit_avx512_i8", 1.0)
    assert share.ran(step, [scores, values], True) == share.Ran(1.0, share.PRODUCTS, 40, 30)
    assert share.ran(step, [scores, values], False).int8 == 0


def test_a_profile_that_hides_layers_is_refused(share: ModuleType, people: Artifact) -> None:
    graph = share.Graph(onnx.load(people.file("frame.fp32.onnx")), "frame.fp32.onnx")
    renamed = [share.Step(str(number), "Conv", 1.0) for number, _ in enumerate(graph.places)]
    found = share.ran_in_onnxruntime(renamed, graph)
    with pytest.raises(ArtifactError, match="layers are not found") as raised:
        share.check_counted(found, graph, "frame.fp32.onnx, onnxruntime")
    assert raised.value.got == "0.0% of the MACs" and "onnxruntime" in raised.value.where


def test_the_larger_peak_counts(share: ModuleType) -> None:
    before = Peaks(1, {"fp32": 5.0, "int8": 9.0}, {}, 1.0, 3)
    after = Peaks(1, {"fp32": 6.0, "int8": 8.0}, {}, 1.0, 3)
    assert share.larger(before, after) == {"fp32": 6.0, "int8": 9.0}


def test_the_table_has_a_line_a_group_and_leaves_out_what_multiplies_nothing(share: ModuleType) -> None:
    found = [share.Ran(2.0, "linear layers", 50_000_000, 0), share.Ran(1.0, "sampling", 0, 0)]
    row = {
        "backend": "openvino", "precision": "fp32", "run": {"p50": 4.0}, "of_a_run": 0.25,
        "groups": share.grouped(found, RATES),
    }  # fmt: skip
    report = {"model": "m", "threads": 2, "n": 5, "peaks": {"used": RATES}, "rows": [row]}
    lines = list(share.table(report))
    assert "peaks in GMAC/s: fp32 50, int8 200" in lines[0]
    assert "| linear layers | 2.00 | 67% | 0.050 | 25 | 0% | 50% |" in lines
    assert "| sampling | 1.00 | 33% |  |  |  |  |" in lines
