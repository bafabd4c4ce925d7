"""TensorRT's rules: the project's own graphs keep them, and every fault that can be planted is found by its name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flowpose.errors import SpecError
from flowpose.export.halves import widened
from flowpose.export.tensorrt_rules import CAST, OPSETS, findings
from flowpose.spec.find import shipped

MODELS = shipped("models")
GRAPHS = [
    (name, file)
    for name, folder in MODELS.items()
    for file in ("source.onnx", "frame.fp32.onnx", "frame.int8.onnx")
    if (folder / file).exists()
]


def quantized(**changes: object) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv with an int8 weight -> y, as export writes it; one thing changed."""
    have: dict[str, object] = {
        "scale": np.float32(0.1), "zero": np.int8(0), "weight_scale": np.full(4, 0.02, np.float32),
        "axis": 0, "opset": 17, "operator": "Conv", "rows": 8, "both": True,
    }  # fmt: skip
    have |= changes
    constants = {
        "scale": have["scale"], "zero": have["zero"], "codes": np.ones((4, 4, 1, 1), np.int8),
        "weight_scale": have["weight_scale"], "zeros": np.zeros(np.shape(have["weight_scale"]), np.int8),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        node("DequantizeLinear", ["q", "scale", "zero"], ["dx"], name="dq"),
        node("DequantizeLinear", ["codes", "weight_scale", "zeros"], ["w"], name="w", axis=have["axis"]),
        node(str(have["operator"]), ["dx" if have["both"] else "x", "w"], ["y"], name="layer"),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, have["rows"], 8]) for n in ("x", "y")
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "frame", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", int(str(have["opset"])))])


def told(model: onnx.ModelProto, release: str = "10.3") -> list[str]:
    return [str(each) for each in findings(model, release)]


@pytest.mark.parametrize("release", list(OPSETS))
def test_a_graph_as_export_writes_it_keeps_the_rules(release: str) -> None:
    assert told(quantized(), release) == []


@pytest.mark.parametrize(("changes", "expected"), [
    ({"opset": 21}, "frame: opset, got 21, expected 9 to 20"),
    ({"operator": "ConvInteger"}, "layer: operator, got ConvInteger, expected one that the parser lists"),
    ({"rows": "rows"}, "x: input shape, got [1, 4, 'rows', 8], expected fixed sizes"),
    ({"scale": np.float32(0)}, "q: scale, got 0, expected finite and above 0"),
    ({"scale": np.float32(np.nan)}, "q: scale, got nan, expected finite and above 0"),
    ({"scale": np.full(4, 0.1, np.float32), "zero": np.zeros(4, np.int8)},
     "q: activation's scale, got 4 numbers, expected one a tensor"),
    ({"zero": np.int8(3)}, "q: zero point, got int8 3, expected int8 zeros"),
    ({"zero": np.uint8(0)}, "q: zero point, got uint8 0, expected int8 zeros"),
    ({"axis": 1}, "layer: weight's axis, got 1, expected 0"),
    ({"both": False}, "layer: operands, got one of two quantized, expected both or none"),
])  # fmt: skip
def test_every_planted_fault_is_named(changes: dict[str, object], expected: str) -> None:
    assert expected in told(quantized(**changes))


def test_a_missing_zero_point_is_uint8() -> None:
    model = quantized()
    del model.graph.node[0].input[2]
    assert "q: zero point, got none, which is uint8, expected int8 zeros" in told(model)


def test_a_computed_scale_is_found() -> None:
    model = quantized()
    model.graph.node.insert(0, helper.make_node("Abs", ["scale"], ["made"], name="abs"))
    model.graph.node[1].input[1] = "made"
    assert "q: scale, got computed, expected a constant" in told(model)


def test_bytes_may_only_be_cast() -> None:
    values = [helper.make_tensor_value_info(n, TensorProto.UINT8, [4]) for n in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert told(model) == [
        "relu: uint8 input, got Relu, expected Cast", "relu: uint8 output, got Relu, expected Cast",
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "to", "expected"), [
    (TensorProto.INT8, TensorProto.FLOAT, "int8 to float"),
    (TensorProto.FLOAT, TensorProto.INT8, "float to int8"),
    (TensorProto.UINT8, TensorProto.FLOAT, None),
    (TensorProto.FLOAT16, TensorProto.FLOAT, None),
])  # fmt: skip
@pytest.mark.parametrize("stored", ["initializer", "Constant", "input"])
def test_a_cast_of_int8_is_not_listed(source: int, to: int, expected: str | None, stored: str) -> None:
    value = helper.make_tensor_value_info
    held = helper.make_tensor("codes", source, [4], [1, 2, 3, 4])
    nodes = [helper.make_node("Cast", ["codes"], ["y"], name="widen", to=to)]
    if stored == "Constant":
        nodes.insert(0, helper.make_node("Constant", [], ["codes"], value=held))
    inputs = [value("codes", source, [4])] if stored == "input" else []
    tensors = [held] if stored == "initializer" else []
    graph = helper.make_graph(nodes, "g", inputs, [value("y", to, [4])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    told_of = [f"widen: {CAST}, got {expected}, expected types that the parser lists for it"] * bool(expected)
    assert told(model) == told_of


def test_codes_that_are_only_cast_are_found_too() -> None:
    model = quantized()
    model.graph.node.insert(1, helper.make_node("Cast", ["q"], ["w"], name="wide", to=TensorProto.FLOAT))
    assert any(line.startswith(f"wide: {CAST}, got int8 to float") for line in told(model))


def test_faults_inside_loops_are_found() -> None:
    body = quantized(operator="ConvInteger").graph
    loop = helper.make_node("Loop", ["", ""], ["z"], name="loop", body=body)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("a", "z")]
    model = helper.make_model(
        helper.make_graph([loop], "outer", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    assert any("ConvInteger" in line for line in told(model))


def test_an_unknown_release_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"no rules for TensorRT 8\.6.*one of 10\.3"):
        findings(quantized(), "8.6")


@pytest.mark.parametrize(("name", "file"), GRAPHS)
def test_the_shipped_graphs_keep_the_rules_once_stored_weights_are_wide(name: str, file: str) -> None:
    model, quantizes = onnx.load(MODELS[name] / file), "int8" in file
    for release in OPSETS:
        found = findings(model, release)
        assert {each.rule for each in found} == (set() if quantizes else {CAST})
    assert {release: told(widened(model), release) for release in OPSETS} == {
        release: [] for release in OPSETS
    }
