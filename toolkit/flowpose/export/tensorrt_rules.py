"""Would TensorRT take this graph? Operators, opset and the rules of explicit quantization, checked without TensorRT.

What an engine needs is known before a device is at hand: the operators and opsets that a release's ONNX parser lists
(onnx-tensorrt, docs/operators.md of each release; an operator counts from the first release that lists it), and the
rules for Q/DQ in strongly typed networks (TensorRT documentation, Quantize, Dequantize and Explicit Quantization):
scales are positive constants, zero points zero, codes int8, weights may have a scale a channel, activations one scale.
Of the types that operators are listed with, only what export can miss is checked: a Cast of int8, as stored weights
have it, is in the list of 9.2 and not in those of 10.15 and 11.2 (FP32, FP16, BF16, INT32, INT64, UINT8, BOOL); none
between was looked at. The documentation of TensorRT's own Cast layer (10.6) has int8: a release may take it all the
same.
It says that the parser has no reason to refuse, not that an engine was built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from flowpose.errors import SpecError

Q, DQ = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": None, "MatMul": None}
"""Operators with weights -> axis of the weight's output channels; None: it depends on how the weight is turned."""

LISTED = frozenset(
    """Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil
    Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div
    Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
    Identity If InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    MatMul Max MaxPool Mean Min Mod Mul Neg NonZero Not OneHot Or Pad Pow PRelu QuantizeLinear Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round ScatterElements ScatterND Selu Shape Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK
    Transpose Trilu Unsqueeze Upsample Where Xor""".split()
)
"""Operators that the ONNX parsers of 10.3 and later list."""

CAST = "Cast of int8"
"""The rule that graphs with stored weights break, and those of `flowpose halve` keep."""

OPSETS: Mapping[str, tuple[int, int]] = MappingProxyType({"10.3": (9, 20), "10.16": (9, 24), "11": (9, 24)})
"""Release -> first and last opset. 10.15's page says 24 and so does 11.2's; JetPack 6.2 has 10.3, JetPack 7.2 10.16."""


@dataclass(frozen=True)
class Finding:
    """Where a graph breaks a rule."""

    node: str
    rule: str
    got: str
    expected: str

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}, got {self.got}, expected {self.expected}"


class _Graph:
    """A graph with its constants, producers and consumers by name; constants that are only cast count as constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}
        declared = {
            value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)
        }
        self.types = declared | {tensor.name: tensor.data_type for tensor in graph.initializer}

    def type(self, name: str) -> int:
        """The element type of a tensor, UNDEFINED where the graph does not say it."""
        node = self.producer.get(name)
        if node is not None and node.op_type == "Constant":
            return int(node.attribute[0].t.data_type)
        if node is not None and node.op_type == Q and len(node.input) > 2:
            return self.type(node.input[2])
        return int(self.types.get(name, TensorProto.UNDEFINED))

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The values of a constant, None for anything that is computed."""
        if name in self.constants:
            return np.asarray(numpy_helper.to_array(self.constants[name]))
        node = self.producer.get(name)
        if node is not None and node.op_type == "Constant":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t))
        if node is not None and node.op_type == "Cast":
            return self.constant(node.input[0])
        return None

    def made_by(self, name: str) -> str:
        return self.producer[name].op_type if name in self.producer else ""

    def dequantized(self, name: str) -> bool:
        """Whether a tensor is dequantized, and turned at most: TensorRT moves Dequantize over what commutes with it."""
        if self.made_by(name) == "Transpose":
            name = self.producer[name].input[0]
        return self.made_by(name) == DQ


Rule = Callable[[_Graph, onnx.NodeProto], Iterator[tuple[str, str, str]]]


def findings(model: onnx.ModelProto, release: str = "10.3") -> list[Finding]:
    """What keeps a TensorRT release from taking the model; empty where nothing does.

    Args:
        model: a source or frame graph.
        release: a row of OPSETS.

    Raises:
        SpecError: no such release.
    """
    if release not in OPSETS:
        raise SpecError("release", [f"no rules for TensorRT {release}"], fix=f"one of {', '.join(OPSETS)}")
    low, high = OPSETS[release]
    found = [
        Finding(model.graph.name, "opset", str(each.version), f"{low} to {high}")
        for each in model.opset_import
        if each.domain in ("", "ai.onnx") and not low <= each.version <= high
    ]
    found += [Finding(v.name, "input shape", str(_shape(v)), "fixed sizes") for v in _open(model.graph)]
    for graph in _graphs(model.graph):
        seen = _Graph(graph)
        for node in graph.node:
            name = node.name or node.output[0]
            found += [Finding(name, *broken) for rule in RULES for broken in rule(seen, node)]
    return found


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its Loops and Ifs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


def _open(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs whose shape is not fixed: they would need an optimization profile."""
    return [value for value in graph.input if not all(isinstance(n, int) and n > 0 for n in _shape(value))]


def _operators(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    if node.domain not in ("", "ai.onnx") or node.op_type not in LISTED:
        yield (
            "operator",
            f"{node.domain}{':' if node.domain else ''}{node.op_type}",
            "one that the parser lists",
        )


def _bytes(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """uint8 exists at the edges of a network only: a Cast is all that may touch it."""
    pictures = {v.name for v in graph.graph.input if v.type.tensor_type.elem_type == TensorProto.UINT8}
    if node.op_type != "Cast" and pictures.intersection(node.input):
        yield "uint8 input", node.op_type, "Cast"
    frames = {v.name for v in graph.graph.output if v.type.tensor_type.elem_type == TensorProto.UINT8}
    if node.op_type != "Cast" and frames.intersection(node.output):
        yield "uint8 output", node.op_type, "Cast"


def _casts(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """TensorRT widens int8 by DequantizeLinear alone."""
    if node.op_type != "Cast":
        return
    to = next(each.i for each in node.attribute if each.name == "to")
    kinds = [graph.type(node.input[0]), to]
    if TensorProto.INT8 in kinds:
        names = [TensorProto.DataType.Name(kind).lower() for kind in kinds]
        yield CAST, " to ".join(names), "types that the parser lists for it"


def _scales(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    if node.op_type not in (Q, DQ):
        return
    scale = graph.constant(node.input[1])
    if scale is None:
        yield "scale", "computed", "a constant"
    elif not (np.isfinite(scale.astype(np.float64)).all() and (scale.astype(np.float64) > 0).all()):
        yield "scale", f"{float(scale.astype(np.float64).min()):g}", "finite and above 0"
    elif scale.size > 1 and graph.constant(node.input[0]) is None and graph.made_by(node.input[0]) != Q:
        yield "activation's scale", f"{scale.size} numbers", "one a tensor"


def _zero_points(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """Without a zero point ONNX means uint8, so int8 must be said by one."""
    if node.op_type not in (Q, DQ):
        return
    if len(node.input) < 3 or not node.input[2]:
        codes = graph.constant(node.input[0]) if node.op_type == DQ else None
        if codes is None or codes.dtype != np.int8:
            yield "zero point", "none, which is uint8", "int8 zeros"
        return
    zero = graph.constant(node.input[2])
    if zero is None or zero.dtype != np.int8 or zero.any():
        got = "computed" if zero is None else f"{zero.dtype} {int(np.abs(zero.astype(int)).max())}"
        yield "zero point", got, "int8 zeros"


def _pairs(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """A layer is INT8 in both operands or in none; a weight's channels are its outputs."""
    if node.op_type not in WEIGHTED:
        return
    quantized = [graph.dequantized(name) for name in node.input[:2]]
    if any(quantized) and not all(quantized):
        yield "operands", "one of two quantized", "both or none"
    axis = WEIGHTED[node.op_type]
    if graph.made_by(node.input[1]) == DQ and axis is not None:
        dequantize = graph.producer[node.input[1]]
        scale = graph.constant(dequantize.input[1])
        own = next((int(a.i) for a in dequantize.attribute if a.name == "axis"), 1)
        if scale is not None and scale.size > 1 and own != axis:
            yield "weight's axis", str(own), str(axis)


RULES: Sequence[Rule] = (_operators, _bytes, _casts, _scales, _zero_points, _pairs)
