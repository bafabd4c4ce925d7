"""What backends make of a convolution: with INT8 scales around it, with its weights alone in bytes, and plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_graphs import NumpyBackend

from flowpose.artifact import Artifact
from flowpose.runtime import open_backend
from flowpose.runtime.executed import Executed, of_openvino, of_profile
from flowpose.runtime.loading import assemble

SHAPE = (1, 16, 24, 24)
GIVEN = {"given": np.linspace(0, 1, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)}
KINDS = ("plain", "stored", "quantized")


def constant(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def save_convolution(path: Path, kind: str) -> None:
    """made = conv(relu(given)): `stored` keeps the weights as codes, `quantized` has codes around everything."""
    node = helper.make_node
    codes = np.random.default_rng(0).integers(-100, 100, (16, 16, 3, 3)).astype(np.int8)
    scales = [
        constant("step", np.float32(0.01)),
        constant("zero", np.uint8(0)),
        constant("fine", np.float32(0.02)),
    ]
    nodes = [node("Relu", ["given"], ["kept"])]
    constants = [constant("weight", codes.astype(np.float32) * np.float32(0.02))]
    if kind != "plain":
        nodes.append(node("DequantizeLinear", ["codes", "fine"], ["weight"]))
        constants = [constant("codes", codes), *scales]
    if kind == "quantized":
        nodes += [
            node("QuantizeLinear", ["kept", "step", "zero"], ["bytes"]),
            node("DequantizeLinear", ["bytes", "step", "zero"], ["input"]),
            node("Conv", ["input", "weight"], ["sum"]),
            node("QuantizeLinear", ["sum", "fine", "zero"], ["out"]),
            node("DequantizeLinear", ["out", "fine", "zero"], ["made"]),
        ]
    else:
        nodes.append(node("Conv", ["kept", "weight"], ["made"]))
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, SHAPE)
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, (1, 16, 22, 22))
    graph = helper.make_graph(nodes, "convolution", [given], [made], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


HERE = ("onnxruntime", "openvino")


@pytest.fixture(scope="module", params=HERE)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Executed | None]:
    """Kind -> what the backend says."""
    folder = tmp_path_factory.mktemp(request.param)
    for kind in KINDS:
        save_convolution(folder / f"{kind}.onnx", kind)
    backend = open_backend(request.param)
    return {kind: backend.open(folder / f"{kind}.onnx", 1).executed(GIVEN) for kind in KINDS}


def test_a_quantized_layer_is_counted_and_what_surrounds_it(found: dict[str, Executed]) -> None:
    assert (found["quantized"].int8_layers, found["quantized"].float_layers) == (1, 0)
    assert found["quantized"].conversions >= 1


@pytest.mark.parametrize("kind", ["plain", "stored"])
def test_a_float_layer_is_none_however_its_weights_are_kept(found: dict[str, Executed], kind: str) -> None:
    assert (found[kind].int8_layers, found[kind].float_layers) == (0, 1)


def test_a_model_tells_of_its_frame_graph(tiny: Artifact) -> None:
    """The tiny graphs multiply no matrices."""
    for name in HERE:
        model = assemble(tiny, open_backend(name), name, "fp32", 1)
        context = model.encode_now(np.zeros((*model.size, 3), np.uint8))
        told = model.executed(context, np.ones((133, 3), np.float32))
        assert told is not None and (told.int8_layers, told.float_layers) == (0, 0)
    fake = assemble(tiny, NumpyBackend(), "numpy", "fp32", 1)
    assert fake.executed(context, np.ones((133, 3), np.float32)) is None


class Value(str):
    """What OpenVINO wraps a text in."""

    __slots__ = ()

    def astype(self, kind: type) -> str:
        return kind(self)


class Compiled:
    """Steps (layer type, primitive, runtime precision) in the form of a compiled model's."""

    def __init__(self, *steps: tuple[str, str, str]) -> None:
        self.steps = steps

    def get_runtime_model(self) -> Compiled:
        return self

    def get_ops(self) -> list[Compiled]:
        return [Compiled(step) for step in self.steps]

    def get_rt_info(self) -> dict[str, Value]:
        names = ("layerType", "primitiveType", "runtimePrecision")
        return {name: Value(text) for name, text in zip(names, self.steps[0], strict=True)}


def test_a_primitive_and_not_its_weights_tells_what_a_layer_is_computed_in() -> None:
    compiled = Compiled(
        ("Convolution", "brgconv_avx512_I8", "u8"), ("FullyConnected", "brgemm_avx512_f32", "i8"),
        ("MatMul", "brgemm_avx512_f32", "f32"), ("Reorder", "reorder_I8", "u8"), ("Reshape", "unknown_I8", "u8"),
    )  # fmt: skip
    assert of_openvino(compiled) == Executed(int8_layers=1, float_layers=2, conversions=1)


def test_a_profile_is_counted_by_kernels_that_ran() -> None:
    def event(name: str, op: str | None, cat: str = "Node") -> dict[str, Any]:
        return {"cat": cat, "name": name, "args": {"op_name": op} if op else {}}

    events = [
        event("model_run", None, "Session"), event("a_fence_before", "QLinearConv"),
        event("a_kernel_time", "QLinearConv"), event("b_kernel_time", "FusedConv"),
        event("c_kernel_time", "MatMulIntegerToFloat"), event("d_kernel_time", "DequantizeLinear"),
        event("e_kernel_time", "Reshape"),
    ]  # fmt: skip
    assert of_profile(events) == Executed(int8_layers=2, float_layers=1, conversions=1)
