"""What an ONNX graph is made of: its layers, what each computes in, what it costs, and the scales of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import onnx
from onnx import TensorProto

from flowpose.export.graph_view import GraphView, Q
from flowpose.export.islands import float_islands
from flowpose.export.scale_summary import Scales, summarized

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CODES: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.INT8: "int8",
        TensorProto.UINT8: "int8",
        TensorProto.FLOAT8E4M3FN: "fp8",
        TensorProto.FLOAT8E5M2: "fp8",
    }
)
"""Type of what is dequantized -> the precision that a layer computes in when both of its operands are such codes."""

FLOATS: Mapping[int, str] = MappingProxyType(
    {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
)
_PARAMETER = re.compile(r"(?:generator\.)?(?P<layer>.+)\.(?:weight|bias)(?:\.|$)")


@dataclass(frozen=True)
class Layer:
    """A layer with weights, or the product of two activations (attention, match), which has none.

    Attributes:
        name: the torch module's, as recipes and scales call it, where the graph names its weight or bias; otherwise
            the node's.
        node, op: name and operator of the ONNX node.
        product: no operand is a constant.
        precision: int8 or fp8 where both operands are dequantized codes; otherwise what the result's type says, fp32,
            fp16 or bf16. Weights that are only stored in fewer bytes and widened before use do not change it.
        macs: multiply-accumulates of one run of the graph.
        weight_bytes: what weight, bias and scales take in the file.
        output_bytes: the result, in the graph's type; a backend that fuses a QuantizeLinear behind it writes a byte a
            number.
        weight_scales: what a step of the weight's 8-bit codes is worth, whether the layer computes with the codes or
            they are only stored; None for weights without codes.
        input_scales: what a step of the codes of each quantized activation that it takes is worth.
    """

    name: str
    node: str
    op: str
    product: bool
    precision: str
    macs: int
    weight_bytes: int
    output_bytes: int
    weight_scales: Scales | None
    input_scales: tuple[float, ...]

    @property
    def quantized(self) -> bool:
        """Whether it computes with 8-bit codes."""
        return self.precision in CODES.values()


@dataclass(frozen=True)
class Coverage:
    """How much of a graph is computed with 8-bit codes.

    Attributes:
        share: of all multiply-accumulates, 0..1.
        quantized_layers, float_layers: how many layers (and products) do, and do not.
        float_islands: stretches of floating point between quantized layers, see `float_islands`.
        boundaries: conversions from floating point to codes, which are the QuantizeLinear nodes of activations.
    """

    share: float
    quantized_layers: int
    float_layers: int
    float_islands: int
    boundaries: int


@dataclass(frozen=True)
class Anatomy:
    """A graph.

    Attributes:
        layers: in the order in which they run.
        weight_bytes: what all layers' weights take in the file; shared ones count once.
        constant_bytes: all other constants: what export computed once (noise, tables, modulation), and what Reshapes,
            Q and DQ need.
        coverage: how much is quantized.
    """

    layers: tuple[Layer, ...]
    weight_bytes: int
    constant_bytes: int
    coverage: Coverage

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(layer.macs for layer in self.layers)

    @property
    def output_bytes(self) -> int:
        """All layers' results, see `Layer.output_bytes`."""
        return sum(layer.output_bytes for layer in self.layers)


def anatomy(model: onnx.ModelProto, where: str = "graph") -> Anatomy:
    """What a source or frame graph is made of. The graph's batch is 1, so a run is one person or one frame.

    Counted are Conv, ConvTranspose, Gemm and MatMul. Sums, norms, softmax and resampling are not: they are no
    multiply-accumulates and cost memory traffic instead.

    Args:
        model: a graph of fixed shapes.
        where: what errors call it, such as its file.

    Raises:
        ArtifactError: shapes cannot be told, a scale is computed or not above 0, or a node holds a graph of its own.
    """
    view = GraphView(model, where)
    nodes = [node for node in view.nodes if node.op_type in LAYERS and view.roots(node.output[0]) is None]
    layers = tuple(_layer(view, node) for node in nodes)
    quantized = [node.output[0] for node, layer in zip(nodes, layers, strict=True) if layer.quantized]
    boundaries = sum(node.op_type == Q and view.roots(node.input[0]) is None for node in view.nodes)
    weights = frozenset[str]().union(*(_weights(view, node) for node in nodes))
    return Anatomy(
        layers=layers,
        weight_bytes=_bytes(view, weights),
        constant_bytes=_bytes(view, view.constants.keys() - weights),
        coverage=_coverage(layers, float_islands(view, quantized), boundaries),
    )


def _coverage(layers: tuple[Layer, ...], islands: int, boundaries: int) -> Coverage:
    quantized = [layer for layer in layers if layer.quantized]
    total = sum(layer.macs for layer in layers)
    return Coverage(
        share=sum(layer.macs for layer in quantized) / total if total else 0.0,
        quantized_layers=len(quantized),
        float_layers=len(layers) - len(quantized),
        float_islands=islands,
        boundaries=boundaries,
    )


def _layer(view: GraphView, node: onnx.NodeProto) -> Layer:
    operands = node.input[:2]
    weights = [name for name in operands if view.roots(name) is not None]
    return Layer(
        name=_name(view, node),
        node=node.name or node.output[0],
        op=node.op_type,
        product=not weights,
        precision=_precision(view, node),
        macs=_macs(view, node),
        weight_bytes=_bytes(view, _weights(view, node)),
        output_bytes=view.tensor(node.output[0]).bytes,
        weight_scales=_weight_scales(view, weights[0]) if weights else None,
        input_scales=tuple(_input_scales(view, [name for name in operands if name not in weights])),
    )


def _macs(view: GraphView, node: onnx.NodeProto) -> int:
    left, right = (view.tensor(name) for name in node.input[:2])
    if (
        node.op_type == "ConvTranspose"
    ):  # weight [in, out / groups, ...]: every input is spread over its outputs
        return left.count * prod(right.shape[1:])
    count = view.tensor(node.output[0]).count
    if node.op_type == "Conv":  # weight [out, in / groups, ...]
        return count * prod(right.shape[1:])
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return count * left.shape[0 if turned else -1]


def _precision(view: GraphView, node: onnx.NodeProto) -> str:
    kinds = {_codes(view, name) for name in node.input[:2]}
    (kind, *others) = kinds
    if kind and not others:
        return kind
    made = view.tensor(node.output[0]).type
    return FLOATS.get(made, TensorProto.DataType.Name(made).lower())


def _codes(view: GraphView, name: str) -> str | None:
    """The precision of the codes that an operand is dequantized from, None where it is not."""
    found = view.dequantizer(name)
    return CODES.get(view.tensor(found.input[0]).type) if found is not None else None


def _bias(view: GraphView, node: onnx.NodeProto) -> str | None:
    """The constant that a layer adds to its channels, itself or by an Add behind it; None where there is none.

    A constant with more numbers than channels is a table that export folded, not a bias.
    """
    behind = view.consumers.get(node.output[0], [])
    added = list(node.input[2:3])
    if not added and len(behind) == 1 and behind[0].op_type == "Add":
        added = list(behind[0].input)
    made = view.tensor(node.output[0]).shape
    channels = made[1 if node.op_type.startswith("Conv") else -1] if len(made) > 1 else 1
    constants = [name for name in added if view.roots(name) is not None]
    return next((name for name in constants if view.tensor(name).count <= channels), None)


def _weights(view: GraphView, node: onnx.NodeProto) -> frozenset[str]:
    """Names of the stored constants that a layer's weight and bias are made of: codes, scales, zero points."""
    found = frozenset[str]().union(*(view.roots(name) or () for name in node.input[:2]))
    bias = _bias(view, node) if found else None
    return found | (view.roots(bias) or frozenset()) if bias else found


def _name(view: GraphView, node: onnx.NodeProto) -> str:
    operands = sorted(frozenset[str]().union(*(view.roots(name) or () for name in node.input[:2])))
    bias = _bias(view, node) if operands else None
    for constant in (*operands, *_own(view, bias)):
        found = _PARAMETER.match(constant)
        if found:
            return found["layer"]
    return node.name or node.output[0]


def _own(view: GraphView, bias: str | None) -> list[str]:
    """The constant that a bias comes from, unless others take it too: graphs keep equal ones once, under one name."""
    roots = sorted(view.roots(bias) or ()) if bias else []
    alone = all(len(view.consumers[name]) == 1 for name in (*roots, *([bias] if bias else [])))
    return roots if alone else []


def _weight_scales(view: GraphView, weight: str) -> Scales | None:
    """Of a weight behind a DequantizeLinear, or behind the Cast and Mul of export/storage.py."""
    name: str | None = weight
    while name in view.producer:
        node = view.producer[name]
        scale = node.input[1] if node.op_type == "DequantizeLinear" else _factor(view, node)
        if scale is not None:
            return summarized(view.constant(scale), f"{view.where}, {scale}")
        name = node.input[0] if node.input else None
    return None


def _factor(view: GraphView, node: onnx.NodeProto) -> str | None:
    """The operand of a Mul that scales the codes of the other, None where it does not."""
    if node.op_type != "Mul":
        return None
    plain = [name for name in node.input if not _of_codes(view, name)]
    return plain[0] if len(plain) == 1 else None


def _of_codes(view: GraphView, name: str) -> bool:
    return any(view.constants[root].data_type in CODES for root in view.roots(name) or ())


def _input_scales(view: GraphView, activations: Iterable[str]) -> Iterator[float]:
    for name in activations:
        found = view.dequantizer(name)
        if found is not None:
            yield from view.constant(found.input[1]).tolist()


def _bytes(view: GraphView, constants: Iterable[str]) -> int:
    return sum(view.tensor(name).bytes for name in constants)
