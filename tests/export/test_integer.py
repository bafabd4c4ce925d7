"""Integer kernels against the Q/DQ graph that they are made of. Scales are powers of two: only codes are rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.errors import ParityError
from flowpose.export.integer import with_integer_kernels, with_weights_of
from flowpose.export.qdq import with_convolutions
from flowpose.runtime.onnxruntime import OnnxRuntime

STEP, WEIGHT_STEP = 1 / 16, 1 / 256  # small weights: what layers give stays in the range of 127 steps
Floats = NDArray[np.float32]


class Drawn:
    """A Q/DQ graph that is being drawn, in TensorRT's style."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape, self.random = shape, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.constant("zero", np.int8(0))

    def constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.array(values), name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def coded(self, x: str, step: float = STEP) -> str:
        """x behind Q and DQ."""
        scale = self.constant(f"step{len(self.nodes)}", np.float32(step))
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, scale, "zero"]), scale, "zero"])

    def weight(self, *shape: int) -> str:
        """Random codes behind DQ, with a scale an output."""
        at, codes = len(self.nodes), self.random.integers(-64, 65, shape)
        steps = WEIGHT_STEP * 2.0 ** self.random.integers(-1, 1, shape[0])
        names = (
            self.constant(f"codes{at}", codes.astype(np.int8)), self.constant(f"steps{at}", steps.astype(np.float32)),
            self.constant(f"zeros{at}", np.zeros(shape[0], np.int8)),
        )  # fmt: skip
        return self.node("DequantizeLinear", list(names), axis=0)

    def bias(self, outputs: int) -> str:
        values = self.random.integers(-8, 9, outputs) / 8
        return self.constant(f"bias{len(self.nodes)}", values.astype(np.float32))

    def conv(self, x: str, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> str:
        terms = [self.coded(x), self.weight(outputs, inputs, side, side), self.bias(outputs)]
        return self.node("Conv", terms, kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[stride] * 2)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        turned = self.node("Transpose", [self.weight(outputs, inputs)], perm=[1, 0])
        return self.node("Add", [self.node("MatMul", [self.coded(x), turned]), self.bias(outputs)])

    def model(self, output: str) -> onnx.ModelProto:
        made = onnx.helper.make_graph(
            self.nodes, "drawn", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants,
        )  # fmt: skip
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def given(shape: tuple[int, ...]) -> Floats:
    """Numbers of both signs, most of them between two codes, all in the codes' range."""
    return np.random.default_rng(1).uniform(-4, 4, shape).astype(np.float32)


def run(model: onnx.ModelProto, x: Floats) -> Floats:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Floats = session.run(None, {"x": x})[0]
    return found


def check_same(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    integer = with_integer_kernels(model)
    assert {node.op_type for node in integer.graph.node}.isdisjoint({"Conv", "MatMul"})
    x = given(shape)
    expected = run(model, x)
    assert expected.std() > 0
    np.testing.assert_array_equal(run(integer, x), expected)
    return integer


def test_linear_layers_give_the_same_numbers() -> None:
    drawn = Drawn((1, 6, 8))
    tokens = drawn.node("Identity", ["x"])  # with_convolutions asks for a tensor that a node makes
    hidden = drawn.node("Relu", [drawn.linear(tokens, 8, 16)])
    model = with_convolutions(drawn.model(drawn.linear(hidden, 16, 5)))
    integer = check_same(model, (1, 6, 8))
    assert [node.op_type for node in integer.graph.node].count("MatMulIntegerToFloat") == 2


def test_a_chain_of_convolutions_and_relus_stays_in_codes() -> None:
    drawn = Drawn((1, 3, 8, 6))
    hidden = drawn.node("Relu", [drawn.conv("x", 3, 4, stride=2)])
    hidden = drawn.node("Relu", [drawn.conv(hidden, 4, 5)])
    integer = check_same(drawn.model(drawn.conv(hidden, 5, 4, side=1)), (1, 3, 8, 6))
    kinds = [node.op_type for node in integer.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear"), kinds.count("Relu")) == (1, 0, 0)


def test_doubled_pictures_stay_in_codes() -> None:
    drawn = Drawn((1, 2, 4, 3))
    hidden = drawn.node("Relu", [drawn.conv("x", 2, 4)])
    scales = drawn.constant("scales", np.array([1, 1, 2, 2], np.float32))
    doubled = drawn.node(
        "Resize", [hidden, "", scales], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    integer = check_same(drawn.model(drawn.conv(doubled, 4, 3)), (1, 2, 4, 3))
    assert "Resize" not in {node.op_type for node in integer.graph.node}


@pytest.mark.parametrize("block", [2, 4])
def test_pixel_unshuffle_is_one_step_and_takes_numbers(block: int) -> None:
    """Not codes: onnxruntime 1.23, the last for Python 3.10, has no SpaceToDepth for them."""
    drawn, channels = Drawn((1, 3, 8, 12)), 3 * block * block
    cut = drawn.node(
        "Reshape", ["x", drawn.constant("cut", np.array([1, 3, 8 // block, block, 12 // block, block]))]
    )
    turned = drawn.node("Transpose", [cut], perm=[0, 1, 3, 5, 2, 4])
    shape = drawn.constant("shuffled", np.array([1, channels, 8 // block, 12 // block]))
    integer = check_same(
        drawn.model(drawn.conv(drawn.node("Reshape", [turned, shape]), channels, 4)), (1, 3, 8, 12)
    )
    made = {output: node.op_type for node in integer.graph.node for output in node.output}
    (found,) = [node for node in integer.graph.node if node.op_type == "SpaceToDepth"]
    assert made.get(found.input[0]) != "QuantizeLinear"


@pytest.mark.parametrize(("outputs", "stride", "width"), [(3, 1, 8), (3, 1, 7), (2, 2, 12), (20, 2, 6)])
def test_results_in_floating_point_are_products_over_windows(outputs: int, stride: int, width: int) -> None:
    drawn = Drawn((1, 4, 6, width))
    check_same(drawn.model(drawn.conv("x", 4, outputs, stride=stride)), (1, 4, 6, width))


@pytest.mark.parametrize("turned", [False, True])
def test_products_of_activations_take_their_codes(turned: bool) -> None:
    drawn = Drawn((1, 2, 6, 6))
    tokens = drawn.node("Reshape", ["x", drawn.constant("tokens", np.array([2, 6, 6]))])
    right = drawn.coded(tokens, 2 * STEP)
    if turned:
        right = drawn.node("Transpose", [right], perm=[0, 2, 1])
    product = drawn.node("MatMul", [drawn.coded(tokens), right])
    picture = drawn.node("Reshape", [product, drawn.constant("picture", np.array([1, 2, 6, 6]))])
    check_same(drawn.model(drawn.conv(picture, 2, 3)), (1, 2, 6, 6))


def residual(drawn: Drawn) -> onnx.ModelProto:
    skip = drawn.node("Relu", [drawn.conv("x", 3, 4)])
    first = drawn.node("Relu", [drawn.conv(skip, 4, 4)])
    total = drawn.node("Relu", [drawn.node("Add", [skip, drawn.conv(first, 4, 4)])])
    codes = drawn.constant("same", np.eye(4, dtype=np.int8).reshape(4, 4, 1, 1))
    same = drawn.node("DequantizeLinear", [codes, drawn.constant("unit", np.float32(1)), "zero"])
    return drawn.model(drawn.node("Conv", [drawn.coded(total), same], kernel_shape=[1, 1]))


def test_a_residual_sum_is_off_by_its_terms_roundings() -> None:
    model = residual(Drawn((1, 3, 8, 6)))
    integer = with_integer_kernels(model)
    x = given((1, 3, 8, 6))
    expected, found = run(model, x), run(integer, x)
    inside = (expected > 0) & (expected < 127 * STEP)  # where the Q/DQ graph clips nothing
    assert inside.mean() > 0.2
    assert np.abs(found - expected)[inside].max() <= 2 * STEP
    assert [node.op_type for node in integer.graph.node].count("QLinearAdd") == 1


def test_the_backend_runs_every_layer_in_integers(tmp_path: Path) -> None:
    path = tmp_path / "integer.onnx"
    onnx.save(with_integer_kernels(residual(Drawn((1, 3, 8, 6)))), path)
    executed = OnnxRuntime().open(path, 1).executed({"x": given((1, 3, 8, 6))})
    assert (executed.int8_layers, executed.float_layers) == (4, 0)


def test_weights_stay_where_they_are(tmp_path: Path) -> None:
    drawn = Drawn((1, 3, 8, 6))
    hidden = drawn.node("Relu", [drawn.conv("x", 3, 16)])
    model = drawn.model(drawn.conv(drawn.node("Relu", [drawn.conv(hidden, 16, 16)]), 16, 4))
    onnx.save(model, tmp_path / "qdq.onnx")
    whole = with_integer_kernels(model)
    shared = with_weights_of(whole, tmp_path / "qdq.onnx")
    onnx.save(shared, tmp_path / "integer.onnx")
    outside = [t.name for t in shared.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert len(outside) == 1  # 16 x 16 x 3 x 3 codes; the others are shorter, or in another order
    x = given((1, 3, 8, 6))
    found = OnnxRuntime().open(tmp_path / "integer.onnx", 1).run({"x": x})
    np.testing.assert_array_equal(next(iter(found.values())), run(whole, x))


def test_the_given_model_is_not_changed() -> None:
    model = residual(Drawn((1, 3, 8, 6)))
    before = model.SerializeToString(deterministic=True)
    with_integer_kernels(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_without_quantized_layers_is_refused() -> None:
    drawn = Drawn((1, 3, 8, 6))
    with pytest.raises(ParityError, match=r"cannot be run in integers.*none a quantized convolution"):
        with_integer_kernels(drawn.model(drawn.node("Relu", ["x"])))
