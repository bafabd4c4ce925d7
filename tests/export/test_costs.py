"""Costs of graphs made by hand: every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.errors import ArtifactError
from flowpose.export.costs import costs_text, graph_costs
from flowpose.spec.costs import Amount, Costs, Step

node = helper.make_node
SHAPE = (1, 4, 8, 8)
PIXELS = 4 * 8 * 8
WEIGHT = np.ones((8, 4, 3, 3), np.float32)
CODES = {
    "step": np.float32(0.1), "zero": np.int8(0), "codes": np.ones((8, 4, 3, 3), np.int8),
    "steps": np.ones(8, np.float32), "zeros": np.zeros(8, np.int8),
}  # fmt: skip


def model(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray], made: int = 1
) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", made, SHAPE)
    result = helper.make_tensor_value_info("y", made, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    body = helper.make_graph(list(nodes), "frame", [given], [result], tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def steps(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray]) -> tuple[Step, ...]:
    return graph_costs(model(nodes, constants), "frame.onnx").steps


def conv(name: str, at: str, weight: str = "w") -> onnx.NodeProto:
    return node("Conv", [name, weight], [at], name=at, pads=[1, 1, 1, 1])


def test_a_convolution_and_what_is_fused_to_it() -> None:
    (layer, relu, scaled) = steps(
        [conv("x", "a"), node("Relu", ["a"], ["b"]), node("Mul", ["b", "s"], ["y"])],
        {"w": WEIGHT, "s": np.ones((1, 8, 1, 1), np.float32)},
    )
    assert (layer.kind, layer.macs, layer.inner, layer.columns) == ("conv", 8 * 64 * 36, 36, 8)
    assert layer.weights == Amount(floats=8 * 36) and layer.reads == Amount(floats=PIXELS)
    assert (layer.fused, relu.fused, scaled.fused) == (None, "layer", "layer")
    assert relu.reads == Amount() and relu.writes == Amount(floats=2 * PIXELS)
    assert scaled.weights == Amount(floats=8) and scaled.kind == "other" and scaled.macs == 0


def test_a_result_that_two_take_ends_a_group() -> None:
    found = steps(
        [
            conv("x", "a"),
            node("Relu", ["a"], ["b"]),
            node("Sigmoid", ["b"], ["c"]),
            node("Add", ["b", "c"], ["y"]),
        ],
        {"w": WEIGHT},
    )
    assert [(step.op, step.fused) for step in found] == [
        ("Conv", None), ("Relu", "layer"), ("Sigmoid", None), ("Add", "chain"),
    ]  # fmt: skip
    assert found[-1].reads == Amount(floats=2 * PIXELS), "of its operands only the other one is read"


def test_shapes_are_free_and_moves_are_not() -> None:
    found = steps(
        [
            node("Reshape", ["x", "shape"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("Transpose", ["b"], ["y"], perm=[1, 0]),
        ],
        {"shape": np.array([4, 64], np.int64)},
    )
    assert [(step.op, step.fused) for step in found] == [("Relu", None), ("Transpose", None)]


def test_of_a_slice_only_the_part_is_read() -> None:
    ends = {"from": np.array([0]), "to": np.array([1]), "axis": np.array([1])}
    (found,) = steps([node("Slice", ["x", "from", "to", "axis"], ["y"])], ends)
    assert found.reads == found.writes == Amount(floats=PIXELS // 4) and found.weights == Amount()


def test_a_layer_in_codes_reads_codes() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        node("DequantizeLinear", ["codes", "steps", "zeros"], ["w"], axis=0),
        conv("d", "y"),
    ]
    found = graph_costs(model(nodes, CODES), "frame.onnx")
    quantize, layer = found.steps
    assert (quantize.op, quantize.reads, quantize.writes) == (
        "QuantizeLinear", Amount(floats=PIXELS), Amount(codes=PIXELS),
    )  # fmt: skip
    assert layer.int8 and layer.reads == Amount(codes=PIXELS) and layer.weights == Amount(codes=8 * 36)
    assert layer.writes == Amount(floats=2 * PIXELS) and found.int8_share == 1


def test_a_product_of_activations_has_no_weights() -> None:
    (turned, product) = steps(
        [node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), node("MatMul", ["x", "t"], ["y"])], {}
    )
    assert turned.op == "Transpose" and product.kind == "matmul" and product.weights == Amount()
    assert (product.macs, product.inner, product.columns) == (4 * 8 * 8 * 8, 8, 8)
    assert product.reads == Amount(floats=2 * PIXELS)


def test_depthwise_layers_have_one_column() -> None:
    (layer,) = steps(
        [node("Conv", ["x", "w"], ["y"], group=4, pads=[1, 1, 1, 1])],
        {"w": np.ones((4, 1, 3, 3), np.float32)},
    )
    assert (layer.columns, layer.inner) == (1, 9)


def test_the_most_that_is_alive() -> None:
    """x and a while the convolution runs, then only what is taken later."""
    found = graph_costs(model([conv("x", "a"), node("Relu", ["a"], ["y"])], {"w": WEIGHT}), "frame.onnx")
    assert found.alive == Amount(floats=4 * PIXELS), "a and y together; x is let go before y is made"
    kept = graph_costs(
        model([conv("x", "a"), node("AveragePool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1] * 4),
               conv("b", "c", "v"), node("Add", ["x", "c"], ["y"])],
              {"w": WEIGHT, "v": np.ones((4, 8, 3, 3), np.float32)}), "frame.onnx",
    )  # fmt: skip
    assert kept.alive == Amount(floats=5 * PIXELS), "x stays for the sum"


def test_halves_are_told_by_what_layers_write() -> None:
    found = graph_costs(
        model([conv("x", "y")], {"w": WEIGHT.astype(np.float16)}, TensorProto.FLOAT16), "frame.onnx"
    )
    assert found.width == 2 and found.steps[0].writes.bytes(found.width) == 4 * PIXELS


def test_a_graph_inside_a_node_cannot_be_counted() -> None:
    body = helper.make_graph([], "inner", [], [])
    with pytest.raises(ArtifactError, match="cannot be counted"):
        graph_costs(model([node("If", ["x"], ["y"], then_branch=body, else_branch=body)], {}), "frame.onnx")


def test_costs_of_an_artifact_are_read_back(tmp_path: pytest.TempPathFactory) -> None:
    from tiny_graphs import make_artifact

    artifact = make_artifact(tmp_path / "export-tiny")
    text = costs_text(artifact.path, artifact.manifest.graphs)
    found = Costs.model_validate_json(text)
    assert [graph.file for graph in found.graphs] == ["source.onnx", "frame.fp32.onnx", "frame.int8.onnx"]
    assert found.of("frame.fp32.onnx", "here").macs == 0
    with pytest.raises(ArtifactError, match=r"here: costs.json lacks a graph, got frame.fp16.onnx"):
        found.of("frame.fp16.onnx", "here")
