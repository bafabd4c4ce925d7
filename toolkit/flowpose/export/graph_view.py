"""A graph to read: every tensor's shape and type, who makes and who takes it, and the constants that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flowpose.errors import ArtifactError

Q, DQ = "QuantizeLinear", "DequantizeLinear"
MOVES = frozenset(
    (
        *(
            "Cast",
            "Concat",
            "DepthToSpace",
            "Expand",
            "Flatten",
            "Gather",
            "Identity",
            "Pad",
            "Reshape",
            "Slice",
        ),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    )
)
"""Operators that only carry numbers to another place or type; a Resize to the nearest pixel is one too."""


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor without its values.

    Attributes:
        type: a number of TensorProto.DataType.
        shape: sizes; empty for a single number.
    """

    type: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that they take, at a whole number of bytes each."""
        return self.count * int(helper.tensor_dtype_to_np_dtype(self.type).itemsize)


class GraphView:
    """A graph of fixed shapes, with its tensors, producers, consumers and constants by name.

    Args:
        model: its nodes in an order in which they can run, as ONNX asks.
        where: what errors call it.

    Raises:
        ArtifactError: shapes cannot be told, or a node holds a graph of its own: how often it runs stands nowhere.
    """

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        self.where = where
        self.nodes = tuple(model.graph.node)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            self._take_constants(node)
        self._tensors: dict[str, Tensor] = _tensors(model, where) | {
            name: Tensor(tensor.data_type, tuple(tensor.dims)) for name, tensor in self.constants.items()
        }
        self._roots = self._rooted()

    def _take_constants(self, node: onnx.NodeProto) -> None:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                raise ArtifactError(
                    self.where, "cannot be counted", got=f"{node.op_type} {node.name} with a graph of its own",
                    expected="one graph", fix="inspect a source or frame graph of a student",
                )  # fmt: skip
            if node.op_type == "Constant" and attribute.name == "value":
                self.constants[node.output[0]] = attribute.t

    def _rooted(self) -> dict[str, frozenset[str]]:
        """Tensor -> names of the constants that it is made of, for tensors that depend on nothing else."""
        found = {name: frozenset((name,)) for name in self.constants}
        for node in self.nodes:
            inputs = [name for name in node.input if name]
            if all(name in found for name in inputs):
                roots = frozenset[str]().union(*(found[name] for name in inputs))
                found |= {name: roots for name in node.output if name not in found}
        return found

    def tensor(self, name: str) -> Tensor:
        """Shape and type of a tensor; ArtifactError where inference did not find them."""
        if name not in self._tensors:
            raise ArtifactError(self.where, "a tensor's shape is not known", got=name, expected="fixed sizes")
        return self._tensors[name]

    def roots(self, name: str) -> frozenset[str] | None:
        """Names of the constants that a tensor is made of; None for anything that depends on an input."""
        return self._roots.get(name)

    def constant(self, name: str) -> NDArray[np.float64]:
        """The values of a constant that is at most moved or widened, flat.

        Raises:
            ArtifactError: it is computed, from inputs or from several constants.
        """
        roots = sorted(self.roots(name) or ())
        if len(roots) != 1:
            raise ArtifactError(self.where, "is computed", got=name, expected="one constant")
        return np.asarray(numpy_helper.to_array(self.constants[roots[0]]), np.float64).reshape(-1)

    def moves(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes nothing: it only carries numbers."""
        if node.op_type == "Resize":
            modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
            return modes in ([], [b"nearest"])  # nearest is ONNX's default
        return node.op_type in MOVES

    def dequantizer(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that a tensor comes from, moved at most; None where it comes from something else."""
        node = self.producer.get(name)
        while node is not None and node.op_type != "Concat" and self.moves(node):
            node = self.producer.get(node.input[0])
        return node if node is not None and node.op_type == DQ else None


def _tensors(model: onnx.ModelProto, where: str) -> dict[str, Tensor]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        what = f"shapes cannot be inferred ({str(error).splitlines()[0]})"
        raise ArtifactError(
            where, what, fix="flowpose export, which writes graphs of fixed shapes"
        ) from error
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = Tensor(kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim))
    return found
