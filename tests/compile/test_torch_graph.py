"""Graphs in PyTorch against onnxruntime: operator by operator, and the shipped ones against their goldens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.artifact import Artifact, open_artifact
from flowpose.compile import torch_quantized
from flowpose.compile.torch_graph import TorchGraph, torch_module
from flowpose.compile.torch_places import places
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.goldens import TOLERANCES, Goldens, read_goldens, replay
from flowpose.runtime.onnxruntime import OnnxRuntime
from flowpose.spec.find import find

Arrays = Mapping[str, NDArray[Any]]
X = np.random.default_rng(0).normal(0, 1, (1, 4, 6, 8)).astype(np.float32)
FLAT = X.reshape(4, 6, 8)[0]
KERNEL = np.random.default_rng(1).normal(0, 0.3, (6, 2, 3, 3)).astype(np.float32)
BIAS = np.linspace(-1, 1, 6).astype(np.float32)
GRID = np.random.default_rng(2).uniform(-1.3, 1.3, (1, 5, 3, 2)).astype(np.float32)
INTS = np.int64
HALF_PIXEL = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
FLOOR = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
EMPTY = np.zeros(0, np.float32)
CODES = {"zero": np.int8(0)}


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, INTS)


CASES: list[tuple[str, dict[str, NDArray[Any]], list[Any], dict[str, Any], int]] = [
    # operator, inputs, constants behind them (None: left out), attributes, outputs
    ("Add", {"x": X}, [np.float32(0.3)], {}, 1),
    ("Sub", {"x": X}, [BIAS[:4].reshape(4, 1, 1)], {}, 1),
    ("Mul", {"x": X, "y": X * 2}, [], {}, 1),
    ("Div", {"x": X}, [np.float32(0.7)], {}, 1),
    ("Div", {"x": np.abs(X) + 1, "y": X + 9}, [], {}, 1),
    ("Neg", {"x": X}, [], {}, 1),
    ("Relu", {"x": X}, [], {}, 1),
    ("Sigmoid", {"x": X}, [], {}, 1),
    ("Exp", {"x": X}, [], {}, 1),
    ("Sqrt", {"x": np.abs(X)}, [], {}, 1),
    ("Cos", {"x": X}, [], {}, 1),
    ("Sin", {"x": X}, [], {}, 1),
    ("Tanh", {"x": X}, [], {}, 1),
    ("Erf", {"x": X}, [], {}, 1),
    ("Identity", {"x": X}, [], {}, 1),
    ("Round", {"x": np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 0.4])}, [], {}, 1),
    ("Greater", {"x": X}, [np.float32(0)], {}, 1),
    ("Max", {"x": X, "y": -X}, [], {}, 1),
    ("And", {"x": X > 0, "y": X > 0.5}, [], {}, 1),
    ("Where", {"c": X > 0, "x": X, "y": -X}, [], {}, 1),
    ("Clip", {"x": X}, [np.float32(-0.5), np.float32(0.5)], {}, 1),
    ("Clip", {"x": X}, [None, np.float32(0.5)], {}, 1),
    ("Cast", {"x": np.abs(X) * 50}, [], {"to": TensorProto.UINT8}, 1),
    ("Cast", {"x": (np.abs(X) * 50).astype(np.uint8)}, [], {"to": TensorProto.FLOAT}, 1),
    ("MatMul", {"x": X, "y": X.transpose(0, 1, 3, 2).copy()}, [], {}, 1),
    ("Gemm", {"x": FLAT}, [KERNEL[:, :, 0, 0].repeat(4, 1), BIAS], {"transB": 1}, 1),
    ("Gemm", {"x": FLAT.T.copy()}, [KERNEL[:, :, 0, 0].repeat(4, 1).T.copy()], {"transA": 1}, 1),
    ("Conv", {"x": X}, [KERNEL, BIAS], {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}, 1),
    ("Conv", {"x": X}, [KERNEL], {"group": 2, "pads": [0, 1, 2, 1], "dilations": [2, 2]}, 1),
    ("AveragePool", {"x": X}, [], {"kernel_shape": [3, 3], "count_include_pad": 1, "pads": [1] * 4}, 1),
    ("AveragePool", {"x": X}, [], {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4}, 1),
    ("LayerNormalization", {"x": X}, [BIAS.repeat(2)[:8], BIAS.repeat(2)[:8]], {"epsilon": 1e-3}, 1),
    ("Softmax", {"x": X}, [], {"axis": 1}, 1),
    ("ReduceMean", {"x": X}, [], {"axes": [2, 3], "keepdims": 0}, 1),
    ("ReduceMin", {"x": X}, [], {"axes": [-1]}, 1),
    ("ReduceSum", {"x": X}, [ints(1)], {"keepdims": 0}, 1),
    ("ReduceSum", {"x": X}, [], {}, 1),
    ("Reshape", {"x": X}, [ints(0, -1, 8)], {}, 1),
    ("Flatten", {"x": X}, [], {"axis": 2}, 1),
    ("Transpose", {"x": X}, [], {"perm": [0, 2, 3, 1]}, 1),
    ("Transpose", {"x": X}, [], {}, 1),
    ("Squeeze", {"x": X}, [ints(0)], {}, 1),
    ("Squeeze", {"x": X}, [], {}, 1),
    ("Unsqueeze", {"x": X}, [ints(-1, 0)], {}, 1),
    ("Expand", {"x": X[:, :1]}, [ints(3, 4, 1, 1)], {}, 1),
    ("Tile", {"x": X}, [ints(1, 2, 1, 3)], {}, 1),
    ("Concat", {"x": X, "y": X + 1}, [np.ones((1, 4, 2, 8), np.float32)], {"axis": 2}, 1),
    ("Split", {"x": X}, [ints(1, 3)], {"axis": 1}, 2),
    ("Split", {"x": X}, [], {"axis": 2}, 3),
    ("Slice", {"x": X}, [ints(1, -3), ints(9, -1), ints(2, -1), ints(2, 1)], {}, 1),
    ("Slice", {"x": X}, [ints(0, 1), ints(1, 3)], {}, 1),
    ("Gather", {"x": X}, [INTS(2)], {"axis": 1}, 1),
    ("Gather", {"x": X}, [ints(3, 0, 3)], {"axis": 2}, 1),
    ("Gather", {"x": X}, [ints(1, 0, 2, 2).reshape(2, 2)], {"axis": 3}, 1),
    ("Pad", {"x": X}, [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}, 1),
    ("Pad", {"x": X}, [ints(0, 1, 0, 2, 0, 0, 3, 0), np.float32(0.5)], {"mode": "constant"}, 1),
    ("DepthToSpace", {"x": X}, [], {"blocksize": 2, "mode": "CRD"}, 1),
    ("DepthToSpace", {"x": np.concatenate([X, -X], 1)}, [], {"blocksize": 2, "mode": "DCR"}, 1),
    ("SpaceToDepth", {"x": X}, [], {"blocksize": 2}, 1),
    ("Resize", {"x": X}, [EMPTY, np.float32([1, 1, 2, 3])], FLOOR, 1),
    ("Resize", {"x": X}, [EMPTY, np.float32([1, 1, 4, 4])], HALF_PIXEL, 1),
    ("Resize", {"x": X}, [EMPTY, EMPTY, ints(1, 4, 3, 20)], HALF_PIXEL, 1),
    ("GridSample", {"x": X, "grid": GRID}, [], {"padding_mode": "border", "align_corners": 0}, 1),
    ("GridSample", {"x": X, "grid": GRID}, [], {"padding_mode": "zeros", "align_corners": 1}, 1),
    ("Shape", {"x": X}, [], {}, 1),
]  # fmt: skip


def write(
    path: Path, op: str, inputs: Arrays, constants: list[Any], attributes: Mapping[str, Any], outputs: int = 1
) -> Path:
    """A graph of one node; every output goes through Identity, so that a folded one has a place to go."""
    names, stored = list(inputs), []
    for i, value in enumerate(constants):
        names.append("" if value is None else f"constant{i}")
        if value is not None:
            stored.append(numpy_helper.from_array(np.array(value), names[-1]))
    made = [f"made{i}" for i in range(outputs)]
    node = helper.make_node(op, names, made, name=f"the {op}", **attributes)
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    graph = helper.make_graph([node], "one", given, [onnx.ValueInfoProto(name=each) for each in made], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.save(inferred, path)
    return path


def run(module: TorchGraph, inputs: Arrays) -> list[NDArray[Any]]:
    with torch.no_grad():
        return [
            each.numpy()
            for each in module(*(torch.from_numpy(np.array(inputs[v.name])) for v in module.inputs))
        ]


@pytest.mark.parametrize(
    ("op", "inputs", "constants", "attributes", "outputs"),
    CASES,
    ids=[f"{case[0]}{i}" for i, case in enumerate(CASES)],
)
def test_an_operator_is_onnxruntimes(
    op: str, inputs: Arrays, constants: list[Any], attributes: dict[str, Any], outputs: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "one.onnx", op, inputs, constants, attributes, outputs)
    expected = list(OnnxRuntime().open(path, 1).run(inputs).values())
    found = run(torch_module(path), inputs)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def quantized(path: Path, *, dtype: type = np.int8, zero: int = 0) -> Path:
    """A convolution behind Q and DQ, its weight in codes with a scale a channel."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "step", "zero"], ["codes"], name="q"),
        node("DequantizeLinear", ["codes", "step", "zero"], ["values"], name="dq"),
        node("DequantizeLinear", ["weight_codes", "steps", "zeros"], ["weight"], name="w", axis=0),
        node("Conv", ["values", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    rng = np.random.default_rng(3)
    stored = {
        "step": np.float32(1 / 32), "zero": np.array(zero, dtype), "zeros": np.zeros(6, np.int8),
        "weight_codes": rng.integers(-100, 101, (6, 4, 3, 3)).astype(np.int8),
        "steps": rng.uniform(0.001, 0.01, 6).astype(np.float32),
    }  # fmt: skip
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 6, 6, 8))]
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "quantized", given, made, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_codes_are_onnxruntimes_and_weights_are_widened_once(tmp_path: Path) -> None:
    path = quantized(tmp_path / "q.onnx")
    module = torch_module(path)
    assert [step.node.op for step in module.steps] == ["QuantizeLinear", "DequantizeLinear", "Conv"]
    np.testing.assert_allclose(
        run(module, {"x": X})[0], OnnxRuntime().open(path, 1).run({"x": X})["y"], atol=1e-5
    )


def test_tensorrts_form_is_one_operator_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []

    def rounded(x: torch.Tensor, amax: torch.Tensor, *settings: object) -> torch.Tensor:
        seen.append(amax.shape)
        assert settings == (8, 0, False, False)
        return torch.clamp(torch.round(x / (amax / 127)), -128, 127) * (amax / 127)

    monkeypatch.setattr(torch_quantized, "quantize_op", lambda: rounded)
    path = quantized(tmp_path / "q.onnx")
    found = run(torch_module(path, rendering="tensorrt"), {"x": X})[0]
    assert set(seen) == {(), (6, 1, 1, 1)}  # the activation's and the weight's
    np.testing.assert_allclose(found, run(torch_module(path), {"x": X})[0], atol=1e-4)


def test_tensorrts_form_needs_its_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "tensorrt", object())
    with pytest.raises(MissingDependency, match=r"quantize_op.*not registered.*modelopt"):
        torch_quantized.quantize_op()


@pytest.mark.parametrize(
    ("dtype", "zero", "text"), [(np.uint8, 0, "other codes.*uint8"), (np.int8, 3, "zero points")]
)
def test_codes_that_are_not_symmetric_are_refused(dtype: type, zero: int, text: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"QuantizeLinear has {text}"):
        torch_module(quantized(tmp_path / "q.onnx", dtype=dtype, zero=zero))


@pytest.mark.parametrize(
    ("op", "inputs", "constants", "attributes", "text"),
    [
        ("Hardmax", {"x": X}, [], {}, "the Hardmax: an operator that is not rendered.*Hardmax"),
        ("AveragePool", {"x": X}, [], {"kernel_shape": [3, 3], "ceil_mode": 1}, "another ceil_mode.*got 1"),
        ("Gemm", {"x": FLAT, "y": FLAT.T.copy()}, [], {"alpha": 2.0}, "the Gemm: Gemm has another alpha.*got 2.0"),
        ("Gather", {"x": X, "rows": ints(0, 1)}, [], {"axis": 1}, "computes its shapes.*operand 1"),
        ("Slice", {"x": X}, [ints(4), ints(0), ints(1), ints(-1)], {}, "walks backwards"),
        ("Gather", {"x": X}, [ints(-1, 0)], {"axis": 1}, "counts from the back"),
        ("Resize", {"x": X}, [EMPTY, np.float32([1, 1, 2, 2])], {**HALF_PIXEL, "mode": "cubic"}, "in another way"),
        ("Resize", {"x": X}, [EMPTY, np.float32([1, 1, 1.1, 2])], HALF_PIXEL, "parts of a pixel"),
        ("AveragePool", {"x": X}, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}, "two sides differently"),
    ],
)  # fmt: skip
def test_what_is_not_rendered_is_named(
    op: str, inputs: Arrays, constants: list[Any], attributes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "one.onnx", op, inputs, constants, attributes)
    with pytest.raises(BackendError, match=text):
        torch_module(path)


def test_an_unknown_attribute_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "one.onnx", "Softmax", {"x": X}, [], {"axis": 1})
    model = onnx.load(path)
    model.graph.node[0].attribute.append(helper.make_attribute("temperature", 2))
    onnx.save(model, path)
    with pytest.raises(
        BackendError, match=r"the Softmax: Softmax has an unknown attribute, got temperature|inferred"
    ):
        torch_module(path)


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    for name in ("x.onnx", "nothing.onnx"):
        with pytest.raises(BackendError, match="not an ONNX file"):
            torch_module(tmp_path / name)


def test_an_opset_that_is_not_known(tmp_path: Path) -> None:
    path = write(tmp_path / "one.onnx", "Relu", {"x": X}, [], {})
    model = onnx.load(path)
    model.opset_import[0].version = 13
    onnx.save(model, path)
    with pytest.raises(BackendError, match="another opset, got 13, expected 17 to 20"):
        torch_module(path)


def test_without_edges_pictures_are_levels(tiny: Artifact) -> None:
    context = np.random.default_rng(0).uniform(0, 1, (1, 2, 24, 48)).astype(np.float32)
    keypoints = np.full((133, 3), 3, np.float32)
    given = {"context": context, "keypoints": keypoints}
    bytes_ = run(torch_module(tiny.file("frame.fp32.onnx")), given)[0]
    levels = run(torch_module(tiny.file("frame.fp32.onnx"), edges=False), given)[0]
    assert bytes_.dtype == np.uint8 and levels.dtype == np.float32
    assert np.array_equal(bytes_, levels)
    source = torch_module(tiny.file("source.onnx"), edges=False)
    assert [each.dtype for each in source.inputs] == [torch.float32]


def test_places_end_at_the_first_layer() -> None:
    node = helper.make_node
    nodes = [
        node("Mul", ["keypoints", "c"], ["pixels"]),
        node("Mul", ["pixels", "pixels"], ["squares"]),
        node("Conv", ["squares", "w"], ["features"]),
        node("Relu", ["features"], ["y"]),
        node("Relu", ["w"], ["constant"]),
    ]
    assert places(nodes, frozenset({"keypoints"})) == {"pixels", "squares"}


@pytest.fixture(scope="module")
def people() -> Artifact:
    return open_artifact(find("models", "people-128"))


def replayed(
    artifact: Artifact, precision: str, dtype: torch.dtype, limits: str, n: int | None = None
) -> Any:
    source = torch_module(artifact.file("source.onnx"), dtype)
    frame = torch_module(artifact.file(f"frame.{precision}.onnx"), dtype)
    found = read_goldens(artifact, precision)
    some = Goldens(found.source[:n], found.keypoints[:n], found.context[:n], found.frame[:n])
    return replay(
        some, limits,
        lambda picture: run(source, {"source": picture})[0],
        lambda context, keypoints: run(frame, {"context": context, "keypoints": keypoints})[0],
        f"torch, {precision}",
    )  # fmt: skip


def test_the_shipped_graphs_replay_their_goldens(people: Artifact) -> None:
    assert replayed(people, "fp32", torch.float32, "fp32").mean <= 0.15
    assert replayed(people, "int8", torch.float32, "int8").mean <= TOLERANCES["int8"].mean


def test_the_shipped_graphs_are_onnxruntimes(people: Artifact) -> None:
    goldens = read_goldens(people, "fp32")
    inputs = {"context": goldens.context[0], "keypoints": goldens.keypoints[0]}
    for precision, mean, largest in (("fp32", 0.05, 2), ("int8", 1.0, 64)):
        path = people.file(f"frame.{precision}.onnx")
        found = run(torch_module(path), inputs)[0].astype(int)
        levels = np.abs(found - OnnxRuntime().open(path, 1).run(inputs)["frame"])
        assert levels.mean() <= mean and levels.max() <= largest


@pytest.mark.slow
def test_in_halves_the_shipped_graphs_lose_less_than_a_level(people: Artifact) -> None:
    assert replayed(people, "fp32", torch.float16, "fp16", 1).mean <= 0.5
    assert replayed(people, "int8", torch.float16, "int8", 1).mean <= 1.5


def test_a_reference_loops_and_says_so(people: Artifact) -> None:
    reference = people.manifest.references[0]
    with pytest.raises(BackendError, match="not rendered in PyTorch, got Loop"):
        torch_module(people.file(reference.frame))
