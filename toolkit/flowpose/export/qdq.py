"""Q/DQ graphs as the backends want them: weights as int8 constants, linear layers as 1x1 convolutions.

Linear layers: OpenVINO's INT8 matrix product on AVX2 without VNNI is no faster than its fp32 one; its INT8
1x1 convolution is 2.6 x as fast, and the transposes around it cost nothing, as its convolutions keep channels last.
One thread of such an EPYC, frame graph of six blocks of 192 channels at 128 x 88: 26 ms with MatMul, 18.5 ms
with Conv, 28.5 ms in fp32. onnxruntime gives the same frames for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flowpose.errors import ParityError

Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass
class _Graph:
    """A graph while it is rewritten: producers, consumers and constants by name."""

    model: onnx.ModelProto

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.producer = {name: node for node in graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def value(self, name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(self.constants[name])

    def add(self, name: str, values: NDArray[np.generic]) -> str:
        """A new constant, and its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.constants[name] = tensor
        self.model.graph.initializer.append(tensor)
        return name

    def kind(self, name: str) -> str:
        return self.producer[name].op_type if name in self.producer else ""


def with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with every `constant -> Q -> DQ` replaced by `int8 constant -> DQ`: a byte a weight."""
    return with_weight_codes(model, lambda steps: np.clip(np.rint(steps), -128, 127).astype(np.int8))


def with_weight_codes(
    model: onnx.ModelProto, coded: Callable[[NDArray[np.float32]], NDArray[np.generic]]
) -> onnx.ModelProto:
    """The same with codes of any type: `coded` gives those of a weight that was divided by its scales."""
    graph = _Graph(model)
    for node in [n for n in model.graph.node if n.op_type == Q and n.input[0] in graph.constants]:
        name, scale = node.input[0], graph.value(node.input[1])
        weight, axis = graph.value(name), _axis(node)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        graph.add(node.output[0], coded(weight / (scale.reshape(shape) if scale.ndim else scale)))
        model.graph.node.remove(node)
    return _without_unused(model)


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 1)


def with_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with INT8 `MatMul + Add` as 1x1 convolutions over tokens laid out as [1, C, 1, N]."""
    graph = _Graph(model)
    replaced: set[str] = set()
    made: dict[str, list[onnx.NodeProto]] = {}
    tokens = _token_counts(model)
    for node in model.graph.node:
        if (
            node.op_type == "MatMul"
            and graph.kind(node.input[0]) == DQ
            and graph.kind(node.input[1]) == "Transpose"
            and _is_layer(graph, node)
        ):
            bias = _bias(graph, node)
            made[(bias or node).output[0]] = _convolution(graph, node, bias, tokens)
            replaced |= {node.output[0], *(bias.output if bias else ())}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += made.get(node.output[0], [] if node.output[0] in replaced else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _without_unused(model)


def _is_layer(graph: _Graph, product: onnx.NodeProto) -> bool:
    """Whether a product's second operand is no activation: q k^T of attention has quantized ones on both sides."""
    second = graph.producer[graph.producer[product.input[1]].input[0]]
    return second.op_type != DQ or graph.kind(second.input[0]) != Q


def _bias(graph: _Graph, product: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Add of a constant that follows a product, None where there is none."""
    users = graph.consumers.get(product.output[0], [])
    if (
        len(users) == 1
        and users[0].op_type == "Add"
        and any(name in graph.constants for name in users[0].input)
    ):
        return users[0]
    return None


def _token_counts(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor name -> its number of tokens, for tensors f32[1, N, C] of known shape."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    return {name: shape[1] for name, shape in shapes.items() if len(shape) == 3 and shape[0] == 1}


def _convolution(
    graph: _Graph, product: onnx.NodeProto, bias: onnx.NodeProto | None, tokens: dict[str, int]
) -> list[onnx.NodeProto]:
    """Nodes that compute `x W^T + b` of one layer; the Q and DQ of x are made anew behind the transpose."""
    dequantize = graph.producer[product.input[0]]
    quantize = graph.producer[dequantize.input[0]]
    weight = graph.producer[graph.producer[product.input[1]].input[0]]
    if weight.op_type != DQ or weight.input[0] not in graph.constants:
        raise ParityError(
            product.name, "not a product with a quantized weight", got=weight.op_type, expected=DQ
        )
    at, codes = product.output[0], graph.value(weight.input[0])
    outputs, inputs = codes.shape
    count = tokens[quantize.input[0]]
    graph.add(f"{at}.codes", codes.reshape(outputs, inputs, 1, 1))
    graph.add(f"{at}.rows", np.array([1, 1, count, inputs]))
    graph.add(f"{at}.tokens", np.array([1, count, outputs]))
    terms = [f"{at}.dx", f"{at}.w"]
    if bias is not None:
        terms.append(next(name for name in bias.input if name in graph.constants))
    node = helper.make_node
    return [
        node(DQ, [f"{at}.codes", *weight.input[1:]], [f"{at}.w"], name=f"{at}.w", axis=0),
        node("Reshape", [quantize.input[0], f"{at}.rows"], [f"{at}.x4"], name=f"{at}.x4"),
        node("Transpose", [f"{at}.x4"], [f"{at}.xt"], name=f"{at}.xt", perm=[0, 3, 1, 2]),
        node(Q, [f"{at}.xt", *quantize.input[1:]], [f"{at}.qx"], name=f"{at}.qx"),
        node(DQ, [f"{at}.qx", *dequantize.input[1:]], [f"{at}.dx"], name=f"{at}.dx"),
        node("Conv", terms, [f"{at}.y"], name=f"{at}.conv", kernel_shape=[1, 1]),
        node("Transpose", [f"{at}.y"], [f"{at}.yt"], name=f"{at}.yt", perm=[0, 2, 3, 1]),
        node("Reshape", [f"{at}.yt", f"{at}.tokens"], [(bias or product).output[0]], name=f"{at}.tokens"),
    ]


def _without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without nodes and constants that nothing reads."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    return model
