from __future__ import annotations

import json
import math
from typing import Any

import pytest

from flowpose.errors import SpecError
from flowpose.spec.manifest import Manifest

DIGEST = "a" * 64
TENSOR = {"name": "source", "dtype": "u8", "shape": [64, 48, 3], "low": 0, "high": 255}
GRAPH = {
    "name": "source",
    "precision": "fp32",
    "file": "source.onnx",
    "inputs": [TENSOR],
    "outputs": [TENSOR],
}
GOLDEN = {"inputs": "golden/inputs.npz", "outputs": "golden/outputs.npz"}
REFERENCE = {
    "name": "teacher", "source": "t.onnx", "frame": "f.onnx", "context": [2, 2], "grids": {"teacher-1": [0.0, 1.0]},
}  # fmt: skip
CONTESTANT = {
    "backend": "openvino", "precision": "int8", "p50": 8.1, "p95": 9.0, "n": 100, "ratio": 1.0, "chosen": True,
    "reason": "it won",
}  # fmt: skip
DATA: dict[str, Any] = {
    "kind": "graph",
    "name": "small",
    "key": DIGEST,
    "stage": {"opset": 17},
    "image": {"height": 64, "width": 48},
    "pose": {"format": "coco-wholebody-133", "joints": 133},
    "times": [0.0, 1.0],
    "graphs": [GRAPH],
    "measurements": [{"metric": "psnr", "value": 20, "unit": "dB", "n": 8, "set": "figures/val"}],
    "gates": [{"stage": "export", "metric": "mean_abs", "limit": 0.5, "value": 0.1, "passed": True}],
    "history": [{"kind": "model", "name": "small", "key": DIGEST, "stage": {}}],
}


def test_a_contest_names_the_engines_own_backend_and_precision() -> None:
    engine = {"kind": "engine", "backend": "openvino", "precision": "int8", "contest": [CONTESTANT]}
    assert Manifest.parse({**DATA, **engine}, "manifest").contest[0].int8_layers is None


def test_a_manifest_survives_json() -> None:
    manifest = Manifest.parse(DATA, "manifest")
    assert Manifest.parse(json.loads(json.dumps(manifest.model_dump(mode="json"))), "manifest") == manifest
    assert manifest.format == 1
    assert manifest.graphs[0].inputs[0].shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "grahp"}, "(did you mean 'graph'?)"),
        ({"key": "abc"}, "manifest.key: wrong form, got 'abc'"),
        ({"parent": ""}, "manifest.parent: wrong form"),
        ({"times": [1.0, 0.0]}, "manifest.times: not ascending, got [1.0, 0.0]"),
        ({"times": [0.0, 2.0]}, "manifest.times.1: too large, got 2.0, expected at most 1"),
        ({"files": {"/etc/passwd": DIGEST}}, "not inside the artifact, got '/etc/passwd'"),
        ({"files": {"a/../../b": DIGEST}}, "not inside the artifact"),
        ({"files": {"manifest.json": DIGEST}}, "not inside the artifact"),
        ({"files": {"a.bin": "12"}}, "manifest.files.a.bin: wrong form"),
        ({"files": {"other": DIGEST}}, "not among the files, got ['source.onnx']"),
        (
            {"files": {"source.onnx": DIGEST}, "golden": GOLDEN},
            "got ['golden/inputs.npz', 'golden/outputs.npz']",
        ),
        ({"measurements": [{"metric": "psnr", "value": math.nan, "n": 1, "set": "x"}]}, "value: not finite"),
        (
            {"graphs": [{**GRAPH, "precision": "int4"}]},
            "manifest.graphs.0.precision: unknown value, got 'int4'",
        ),
        ({"graphs": [{**GRAPH, "inputs": []}]}, "manifest.graphs.0.inputs: too few values (0)"),
        ({"image": {"height": 64}}, "manifest.image.width: missing key, expected a whole number"),
        (
            {"references": [{**REFERENCE, "grids": {"teacher-2": [0.0, 0.5]}}]},
            "teacher-2 is no grid, got [0.0, 0.5], expected times from 0.0 up to 1.0",
        ),
        ({"references": [REFERENCE, REFERENCE]}, "wrong references, got ['teacher-1'] twice"),
        ({"references": [REFERENCE], "kind": "engine"}, "got references in kind engine"),
        ({"contest": [CONTESTANT]}, "got [('openvino', 'int8')] as chosen, expected None in None alone"),
        (
            {"contest": [{**CONTESTANT, "chosen": False}], "backend": "openvino", "precision": "int8"},
            "wrong contest, got [] as chosen, expected openvino in int8 alone",
        ),
        (
            {"references": [REFERENCE], "files": {"source.onnx": DIGEST}},
            "not among the files, got ['f.onnx', 't.onnx']",
        ),
        ({"format": 2}, "manifest.format: unknown value, got 2, expected 1"),
    ],
)
def test_each_mistake_is_told(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        Manifest.parse({**DATA, **change}, "manifest")
    assert expected in str(caught.value)


def test_what_is_run_is_what_graphs_and_goldens_name() -> None:
    files = dict.fromkeys(["source.onnx", GOLDEN["inputs"], GOLDEN["outputs"], "t.onnx", "f.onnx"], DIGEST)
    manifest = Manifest.parse(
        {**DATA, "golden": GOLDEN, "references": [REFERENCE], "files": files}, "manifest"
    )
    assert manifest.run_files() == ("source.onnx", GOLDEN["inputs"], GOLDEN["outputs"])


@pytest.mark.parametrize(
    ("kind", "graphs", "takes"),
    [
        ("graph", [("source", "fp32"), ("frame", "fp32"), ("frame", "int8")], True),
        ("graph", [("source", "fp32"), ("frame", "int8")], True),
        ("graph", [("source", "fp32"), ("source", "fp16"), ("frame", "int8")], False),
        ("graph", [("source", "fp32"), ("frame", "fp32"), ("frame", "fp16")], False),
        ("graph", [("source", "fp32"), ("frame", "fp8")], False),
        ("graph", [("source", "fp32")], False),
        ("engine", [("source", "fp32"), ("frame", "fp32")], False),
    ],
)
def test_halves_are_added_where_none_are_and_a_frame_can_be_halved(
    kind: str, graphs: list[tuple[str, str]], takes: bool
) -> None:
    specs = [{**GRAPH, "name": name, "precision": precision} for name, precision in graphs]
    assert Manifest.parse({**DATA, "kind": kind, "graphs": specs}, "manifest").takes_halves() is takes
