"""Anatomy of graphs made by hand: every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from quantize.tiny_student import recipe

from flowpose.artifact import Draft
from flowpose.errors import ArtifactError
from flowpose.export.anatomy import Coverage, Layer, anatomy
from flowpose.export.exporting import _coverage_rows
from flowpose.export.files import halved
from flowpose.export.scale_summary import summarized
from flowpose.export.storage import stored_int8
from flowpose.job import Job

node = helper.make_node
Arrays = Mapping[str, NDArray]
SHAPE = (1, 4, 8, 8)
CODES = np.arange(4 * 4 * 9, dtype=np.int8).reshape(4, 4, 3, 3)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Arrays,
    shape: Sequence[object] = SHAPE,
    made: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """x -> nodes -> y; the shape of y is left to inference."""
    given = helper.make_tensor_value_info("x", made, shape)
    result = helper.make_tensor_value_info("y", made, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    body = helper.make_graph(list(nodes), "frame", [given], [result], tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def only(model: onnx.ModelProto) -> Layer:
    (layer,) = anatomy(model).layers
    return layer


def scaled(zero: np.generic, codes: NDArray) -> dict[str, NDArray]:
    """Constants of x -> Q -> DQ -> layer with 8-bit codes of two output scales."""
    return {
        "step": np.float32(0.05), "zero": np.asarray(zero), "codes": codes,
        "steps": np.array([0.001, 0.002, 0.004, 0.1], np.float32), "zeros": np.full(4, zero),
    }  # fmt: skip


def quantize(name: str, at: str) -> list[onnx.NodeProto]:
    """name -> Q -> DQ, whose result is called `at`."""
    return [
        node("QuantizeLinear", [name, "step", "zero"], [f"{at}.q"], name=f"{at}.q"),
        node("DequantizeLinear", [f"{at}.q", "step", "zero"], [at], name=at),
    ]


def layer(name: str, at: str) -> list[onnx.NodeProto]:
    """A 3 x 3 convolution in 8 bits, with its own Q and DQ."""
    return [
        *quantize(name, f"{at}.x"),
        node("DequantizeLinear", ["codes", "steps", "zeros"], [f"{at}.w"], name=f"{at}.w", axis=0),
        node("Conv", [f"{at}.x", f"{at}.w"], [at], name=at, pads=[1, 1, 1, 1]),
    ]


INT8 = scaled(np.int8(0), CODES)


@pytest.mark.parametrize(("changes", "weight", "macs"), [
    ({"pads": [1, 1, 1, 1]}, (6, 4, 3, 3), 6 * 64 * 4 * 9),
    ({"strides": [2, 2]}, (6, 4, 2, 2), 6 * 16 * 4 * 4),
    ({"group": 4, "pads": [1, 1, 1, 1]}, (4, 1, 3, 3), 4 * 64 * 9),
])  # fmt: skip
def test_a_convolutions_work_and_bytes(
    changes: dict[str, object], weight: tuple[int, ...], macs: int
) -> None:
    constants = {
        "generator.flow.up.weight": np.ones(weight, np.float32),
        "bias": np.ones(weight[0], np.float32),
    }
    found = only(graph([node("Conv", ["x", *constants], ["y"], name="/up/Conv", **changes)], constants))
    assert (found.name, found.node, found.op, found.precision) == ("flow.up", "/up/Conv", "Conv", "fp32")
    assert found.macs == macs
    assert found.weight_bytes == 4 * (np.prod(weight) + weight[0])
    assert found.output_bytes == 4 * macs // np.prod(weight[1:])
    assert found.weight_scales is None and found.input_scales == () and not found.product


def test_a_transposed_convolution_spreads_its_inputs() -> None:
    found = only(
        graph([node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])], {"w": np.ones((4, 3, 2, 2), "f")})
    )
    assert found.macs == 4 * 64 * 3 * 4


@pytest.mark.parametrize(("op", "changes", "shape", "weight"), [
    ("MatMul", {}, (2, 5, 7), (7, 3)),
    ("Gemm", {"transB": 1}, (10, 7), (3, 7)),
    ("Gemm", {"transA": 1}, (7, 10), (7, 3)),
])  # fmt: skip
def test_products_with_a_matrix(
    op: str, changes: dict[str, int], shape: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    found = only(
        graph([node(op, ["x", "w"], ["y"], name="p", **changes)], {"w": np.ones(weight, "f")}, shape)
    )
    assert (found.macs, found.weight_bytes, found.product) == (10 * 7 * 3, 84, False)


def test_a_product_of_activations_has_no_weights() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], ["y"], name="/attention/MatMul"),
    ]
    found = only(graph(nodes, {}, (1, 6, 5)))
    assert (found.name, found.product, found.weight_bytes, found.macs) == (
        "/attention/MatMul",
        True,
        0,
        36 * 5,
    )


def test_a_layer_is_named_by_the_bias_that_is_added_behind_it() -> None:
    constants = {"w": np.ones((7, 3), "f"), "generator.head.bias": np.ones(3, "f")}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["generator.head.bias", "p"], ["y"])]
    found = anatomy(graph(nodes, constants, (1, 5, 7)))
    assert found.layers[0].name == "head"
    assert (found.weight_bytes, found.constant_bytes) == (96, 0)


def test_a_bias_that_layers_share_names_none_of_them() -> None:
    """The exporter keeps equal biases, such as zeros, once and under the name of one of them."""
    constants = {
        "a": np.ones((4, 4, 1, 1), "f"),
        "b": np.ones((4, 4, 1, 1), "f"),
        "generator.one.bias": np.zeros(4, "f"),
    }
    nodes = [
        node("Conv", ["x", "a", "generator.one.bias"], ["h"], name="/one/Conv"),
        node("Conv", ["h", "b", "generator.one.bias"], ["y"], name="/two/Conv"),
    ]
    found = anatomy(graph(nodes, constants))
    assert [each.name for each in found.layers] == ["/one/Conv", "/two/Conv"]
    assert [each.weight_bytes for each in found.layers] == [80, 80] and found.weight_bytes == 144


def test_a_table_in_the_place_of_a_bias_belongs_to_the_build_rate() -> None:
    constants = {"w": np.ones((7, 3), "f"), "table": np.ones((5, 3), "f")}
    found = anatomy(graph([node("Gemm", ["x", *constants], ["y"])], constants, (5, 7)))
    assert (found.weight_bytes, found.constant_bytes) == (84, 60)


def test_a_layer_between_q_and_dq_is_in_int8() -> None:
    made = anatomy(graph(layer("x", "y"), INT8))
    (found,) = made.layers
    assert (found.precision, found.macs) == ("int8", 4 * 64 * 36)
    assert found.weight_bytes == 144 + 16 + 4  # codes, scales, zero points
    assert found.input_scales == pytest.approx((0.05,))
    scales = found.weight_scales
    assert scales is not None and scales.n == 4
    assert (scales.low, scales.median, scales.high) == pytest.approx((0.001, 0.003, 0.1))
    assert made.constant_bytes == 4 + 1  # the input's scale and zero point
    assert made.coverage == Coverage(1.0, 1, 0, 0, 1)


def test_codes_of_float8_make_a_layer_fp8() -> None:
    model = graph(
        layer("x", "y"),
        scaled(np.zeros((), ml_dtypes.float8_e4m3fn)[()], CODES.astype(ml_dtypes.float8_e4m3fn)),
    )
    found = only(model)
    assert (found.precision, found.quantized, found.weight_bytes) == ("fp8", True, 144 + 16 + 4)
    assert anatomy(model).coverage.share == 1


def test_moved_codes_are_codes_and_a_quantized_product_is_too() -> None:
    nodes = [
        *quantize("x", "a"),
        node("Reshape", ["a", "rows"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[1, 0]),
        node("MatMul", ["r", "t"], ["y"]),
    ]
    found = only(graph(nodes, {**INT8, "rows": np.array([32, 8])}))
    assert (found.precision, found.product) == ("int8", True)
    assert found.input_scales == pytest.approx((0.05, 0.05))


def test_one_quantized_operand_computes_in_floating_point() -> None:
    nodes = [
        node("DequantizeLinear", ["codes", "steps", "zeros"], ["w"], axis=0),
        node("Conv", ["x", "w"], ["y"]),
    ]
    found = only(graph(nodes, INT8))
    assert (found.precision, found.weight_bytes) == ("fp32", 144 + 16 + 4)
    assert found.weight_scales is not None and found.input_scales == ()


def test_weights_stored_in_fewer_bytes_stay_fp32() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float16).astype(np.float32)
    plain = graph([node("MatMul", ["x", "generator.flow.carry.weight.T"], ["y"])], {
        "generator.flow.carry.weight.T": weight,
    }, (1, 5, 32))  # fmt: skip
    narrow = only(halved(onnx.ModelProto.FromString(plain.SerializeToString())))
    coded = only(stored_int8(plain))
    assert {each.precision for each in (narrow, coded)} == {"fp32"}
    assert {each.macs for each in (narrow, coded)} == {5 * 32 * 64}
    assert {each.name for each in (narrow, coded)} == {"flow.carry"}
    assert (narrow.weight_bytes, coded.weight_bytes) == (2 * weight.size, weight.size + 4 * 64)
    assert narrow.weight_scales is None
    assert coded.weight_scales is not None and coded.weight_scales.n == 64


def test_tensors_of_half_precision_are_fp16() -> None:
    model = graph(
        [node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((7, 3), np.float16)}, (5, 7), TensorProto.FLOAT16
    )
    assert (only(model).precision, only(model).output_bytes) == ("fp16", 30)


def test_what_depends_on_constants_alone_is_no_layer() -> None:
    nodes = [node("MatMul", ["a", "a"], ["b"]), node("Add", ["x", "b"], ["y"])]
    found = anatomy(graph(nodes, {"a": np.ones((8, 8), "f")}))
    assert found.layers == () and found.constant_bytes == 256
    assert found.coverage == Coverage(0.0, 0, 0, 0, 0)


def test_layers_straight_behind_each_other_have_no_island_between() -> None:
    """conv -> Relu -> conv: the Relu and a bias are the layer's own; only Q and DQ stand between."""
    nodes = [
        *layer("x", "one"),
        node("Add", ["one", "bias"], ["sum"]),
        node("Relu", ["sum"], ["kept"]),
        *layer("kept", "y"),
    ]
    found = anatomy(graph(nodes, {**INT8, "bias": np.ones((4, 1, 1), "f")})).coverage
    assert found == Coverage(1.0, 2, 0, 0, 2)


def test_islands_and_boundaries_are_counted() -> None:
    """Sigmoid first, then conv, (Sigmoid, Abs), conv, Neg, conv, Tanh: two islands, for the ends are not between."""
    nodes = [
        node("Sigmoid", ["x"], ["in"]), *layer("in", "one"), node("Sigmoid", ["one"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 1, 3, 2]), node("Abs", ["t"], ["a"]), *layer("a", "two"),
        node("Neg", ["two"], ["n"]), *layer("n", "three"), node("Tanh", ["three"], ["y"]),
    ]  # fmt: skip
    assert anatomy(graph(nodes, INT8)).coverage == Coverage(1.0, 3, 0, 2, 3)


def test_a_residual_makes_one_island_of_its_sums() -> None:
    """Two residual blocks: each sum takes a layer's result, and the second takes the first's."""
    nodes = [
        *layer("x", "one"), node("Add", ["x", "one"], ["a"]), *layer("a", "two"), node("Add", ["a", "two"], ["b"]),
        *layer("b", "y"),
    ]  # fmt: skip
    assert anatomy(graph(nodes, INT8)).coverage.float_islands == 1


def test_a_layer_kept_in_floating_point_is_an_island() -> None:
    nodes = [*layer("x", "one"), node("Conv", ["one", "w"], ["two"]), *layer("two", "y")]
    found = anatomy(graph(nodes, {**INT8, "w": np.ones((4, 4, 1, 1), "f")})).coverage
    assert found == Coverage(pytest.approx(18 / 19), 2, 1, 1, 2)  # type: ignore[arg-type]


def test_histograms_of_scales_share_their_bins() -> None:
    found = summarized(np.array([[0.001], [0.00101], [0.0019]]), "here")
    assert found.first == -3.0 and found.bins == (2, 0, 1)  # decades begin a bin: 10^-3, 10^-2.9, 10^-2.8
    assert (found.n, found.low, found.median, found.high) == (3, 0.001, 0.00101, 0.0019)
    for wrong in ([0.0, 1.0], [np.nan], []):
        with pytest.raises(ArtifactError, match=r"here: no scales, got .*finite numbers above 0"):
            summarized(np.array(wrong), "here")


def test_graphs_that_cannot_be_counted_are_errors() -> None:
    with pytest.raises(ArtifactError, match=r"frame\.onnx: a tensor's shape is not known, got"):
        anatomy(
            graph([node("Conv", ["x", "w"], ["y"])], {"w": np.ones((4, 4, 1, 1), "f")}, (1, 4, "h", 8)),
            "frame.onnx",
        )
    with pytest.raises(ArtifactError, match="shapes cannot be inferred"):
        anatomy(graph([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((5, 4), "f")}))
    loop = node("Loop", ["", "", "x"], ["y"], name="steps", body=graph([], {}).graph)
    with pytest.raises(ArtifactError, match="cannot be counted, got Loop steps with a graph of its own"):
        anatomy(graph([loop], {}))
    computed = [node("Mul", ["step", "other"], ["twice"]), *layer("x", "y")]
    computed[1].input[1] = computed[2].input[1] = "twice"
    with pytest.raises(ArtifactError, match="graph: is computed, got twice, expected one constant"):
        anatomy(graph(computed, {**INT8, "other": np.float32(2)}))


def test_export_keeps_the_coverage_of_quantized_graphs(tmp_path: Path) -> None:
    onnx.save(graph(layer("x", "y"), INT8), tmp_path / "frame.int8.onnx")
    job = Job(recipe=recipe(), stage="export", key="a" * 64, root=tmp_path)
    rows = {m.metric: (m.value, m.unit, m.stage) for m in _coverage_rows(job, Draft(tmp_path, {}), "int8")}
    assert rows == {
        "int8_share": (1.0, "share", "export"), "int8_layers": (1.0, "", "export"),
        "int8_float_layers": (0.0, "", "export"), "int8_float_islands": (0.0, "", "export"),
        "int8_boundaries": (1.0, "", "export"),
    }  # fmt: skip
    assert _coverage_rows(job, Draft(tmp_path, {}), "fp32") == []
