"""What is known of a Q/DQ graph while its layers become integer kernels: its layers, and the codes made so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.errors import ParityError
from flowpose.export.graph_view import DQ, GraphView, Q

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Codes:
    """An unsigned 8-bit tensor: value = step * (code - zero). Pictures are u8[1, H, W, C], tokens u8[1, N, C]."""

    name: str
    step: float
    zero: int


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution whose input and weights are quantized.

    Attributes:
        output, source: tensors of floating point, f32[1, C, H, W].
        step: of the source's codes.
        weight: i8[O, C, kh, kw], a constant's name and values.
        steps, bias: f32[O].
        strides: down, across.
        pads: top, left, bottom, right.
    """

    output: str
    source: str
    step: float
    weight: str
    values: NDArray[np.int8]
    steps: NDArray[np.float32]
    bias: NDArray[np.float32]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]


class Rewriting:
    """A graph while it is rewritten.

    Attributes:
        view: of the Q/DQ graph.
        nodes: of the new graph, with some that nothing reads.
        layers: output -> layer.
        readers: source -> steps in which layers read it, a Resize that doubles pixels between or not.
        coded: picture of floating point and step -> its codes.
        shuffled: source of a layer -> channels before pixel_unshuffle; its codes have channels last, among four pixels.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.view = GraphView(model, model.graph.name or "graph")
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.coded: dict[tuple[str, float], Codes] = {}
        self.shuffled: dict[str, int] = {}
        found = (layer_of(self.view, node) for node in self.view.nodes)
        self.layers = {layer.output: layer for layer in found if layer is not None}
        if not self.layers:
            got = f"{len(self.view.nodes)} nodes, none a quantized convolution"
            raise ParityError(self.view.where, "cannot be run in integers", got=got, expected="a Q/DQ graph")
        self.readers: dict[str, set[float]] = {}
        for layer in self.layers.values():
            maker = self.view.producer.get(layer.source)
            doubled = maker is not None and doubles(self.view, maker)
            for name in (layer.source, *(maker.input[:1] if doubled and maker else ())):
                self.readers.setdefault(name, set()).add(layer.step)

    def add(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node of one output and gives that output's name."""
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], name=output, domain=domain, **attributes)
        )
        return output

    def constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        """Adds a constant, once, and gives its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def sizes(self, name: str, *values: int) -> str:
        """Adds a constant of whole numbers, i64, and gives its name."""
        return self.constant(name, np.array(values, np.int64))

    def scale(self, codes: Codes) -> tuple[str, str]:
        """Names of the constants that say what codes mean: step and zero."""
        return (
            self.constant(f"{codes.name}.step", np.float32(codes.step)),
            self.constant(f"{codes.name}.zero", np.uint8(codes.zero)),
        )

    def quantized(self, source: str, codes: Codes) -> str:
        """Adds what makes codes of a tensor of floating point."""
        return self.add(Q, [source, *self.scale(codes)], codes.name)

    def product(self, x: Codes, weight: str, layer: Layer, output: str, times: int = 1) -> str:
        """Adds x times a weight i8[C, times * O], in floating point and with the bias, the layer's scales repeated."""
        step, zero = self.scale(x)
        steps = self.constant(f"{output}.steps", np.tile(layer.steps, times))
        zeros = self.constant(f"{output}.zeros", np.zeros(times * len(layer.steps), np.int8))
        bias = self.constant(f"{output}.bias", np.tile(layer.bias, times))
        inputs = [x.name, weight, step, steps, zero, zeros, bias]
        return self.add("MatMulIntegerToFloat", inputs, output, DOMAIN)

    def channels_first(self, source: str, output: str) -> None:
        """Adds what turns f32[1, H, W, C] into the output [1, C, H, W].

        By way of [1, H * W, C]: onnxruntime would move a transpose of four dimensions behind the next Resize, and takes
        four times as long there with channels last (2 cores of an AMD EPYC).
        """
        _, channels, height, width = self.view.tensor(output).shape
        rows = self.sizes(f"{output}.rows", 1, height * width, channels)
        turned = self.add("Transpose", [self.add("Reshape", [source, rows], f"{output}.flat")],
                          f"{output}.turned", perm=[0, 2, 1])  # fmt: skip
        self.add("Reshape", [turned, self.sizes(f"{output}.shape", 1, channels, height, width)], output)

    def finished(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The new model, without nodes and constants that nothing reads."""
        found = onnx.ModelProto()
        found.CopyFrom(model)
        needed, kept = {output.name for output in model.graph.output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants = [t for t in (*model.graph.initializer, *self.constants.values()) if t.name in needed]
        del found.graph.node[:], found.graph.initializer[:]
        found.graph.node.extend(reversed(kept))
        found.graph.initializer.extend(constants)
        found.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        return found


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """What a node says of itself, by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def layer_of(view: GraphView, node: onnx.NodeProto) -> Layer | None:
    """The layer that a node is; None where it is another node, or one that stays in floating point."""
    about = attributes(node)
    if node.op_type != "Conv" or about.get("group", 1) != 1 or set(about.get("dilations", [1])) != {1}:
        return None
    source, weight = (view.producer.get(name) for name in node.input[:2])
    if source is None or weight is None or source.op_type != DQ or weight.op_type != DQ:
        return None
    codes, quantize = weight.input[0], view.producer.get(source.input[0])
    if (
        quantize is None
        or not signed(view, quantize)
        or not signed(view, weight)
        or codes not in view.constants
    ):
        return None
    values = numpy_helper.to_array(view.constants[codes])
    bias = view.constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(values))
    return Layer(
        node.output[0], quantize.input[0], float(view.constant(quantize.input[1])[0]), codes, values,
        np.broadcast_to(view.constant(weight.input[1]), len(values)).astype(np.float32), bias.astype(np.float32),
        tuple(about.get("strides", (1, 1))), tuple(about.get("pads", (0, 0, 0, 0))),
    )  # fmt: skip


def signed(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node makes or reads signed codes around zero, as TensorRT asks."""
    if node.op_type not in (Q, DQ) or len(node.input) < 3:
        return False
    return view.tensor(node.input[2]).type == TensorProto.INT8 and not view.constant(node.input[2]).any()


def doubles(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node draws every pixel twice across and twice down."""
    about = attributes(node)
    asked = (about.get("mode"), about.get("nearest_mode"), about.get("coordinate_transformation_mode"))
    if node.op_type != "Resize" or asked != (b"nearest", b"floor", b"asymmetric"):
        return False
    before, after = (view.tensor(name).shape for name in (node.input[0], node.output[0]))
    return after == (*before[:2], 2 * before[2], 2 * before[3])


def turned_from(view: GraphView, name: str, order: Sequence[int]) -> str | None:
    """What a tensor is turned from; None where it does not come from a Transpose of this order."""
    node = view.producer.get(name)
    if node is None or node.op_type != "Transpose" or tuple(attributes(node)["perm"]) != tuple(order):
        return None
    return str(node.input[0])
