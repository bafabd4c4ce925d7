"""Weights of a byte: how graphs that are only compared with are kept small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.export.files import HALF_FROM

LEVELS = 127


def stored_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large fp32 weights of MatMul, Gemm and Conv kept as int8 codes and a scale an output channel.

    Arithmetic stays fp32: a Cast and a Mul widen the codes, which onnxruntime and OpenVINO fold when they load the
    graph. A DequantizeLinear would say the same, but onnxruntime (1.23 and later) turns one before a MatMul into
    MatMulNBits, another kernel with another rounding.

    The nearest code is at most half a scale away, 0.4 % of the channel's largest weight.
    """
    graph = model.graph
    for name, axis in _weights(graph).items():
        tensor = next(each for each in graph.initializer if each.name == name)
        codes, scale = coded(numpy_helper.to_array(tensor), axis)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(codes, f"{name}.codes"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        for node in (
            helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name], name=f"{name}.scaled"),
            helper.make_node(
                "Cast", [f"{name}.codes"], [f"{name}.wide"], name=f"{name}.widen", to=TensorProto.FLOAT
            ),
        ):
            graph.node.insert(0, node)
    return model


def coded(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(codes int8 of the weight's shape, scale f32 that broadcasts over it): one scale a slice along `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def _weights(graph: onnx.GraphProto) -> dict[str, int]:
    """Name -> axis of the output channels, of constants that are large weights wherever they are used."""
    large = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= HALF_FROM
    }
    uses: dict[str, set[int | None]] = {}
    for node in _nodes(graph):
        for place, name in enumerate(node.input):
            if name in large:
                uses.setdefault(name, set()).add(_channels(node) if place == 1 else None)
    return {name: axis for name, (axis, *more) in uses.items() if axis is not None and not more}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _channels(node: onnx.NodeProto) -> int | None:
    """The axis of the output channels in the weight of a node, None where it is no layer."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1 if node.op_type == "MatMul" else None
