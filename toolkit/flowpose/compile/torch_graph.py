"""From the ONNX file in an artifact to a PyTorch module that computes the same, for the compilers that start from one.

The graph is the artifact's, node by node: nothing is trained, traced or approximated here. What depends on constants
alone is computed once, so stored halves and codes become weights and sizes become numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from flowpose.compile.torch_node import FIX, Node, Operator
from flowpose.compile.torch_operators import OPERATORS
from flowpose.compile.torch_places import places
from flowpose.compile.torch_quantized import RENDERINGS, Rendering
from flowpose.errors import BackendError

SHAPE = "Shape"
OPSETS = (17, 20)  # first and last whose operators torch_operators knows
DTYPES: Mapping[int, torch.dtype] = MappingProxyType(
    {
        TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16, TensorProto.DOUBLE: torch.float64,
        TensorProto.UINT8: torch.uint8, TensorProto.INT8: torch.int8, TensorProto.INT32: torch.int32,
        TensorProto.INT64: torch.int64, TensorProto.BOOL: torch.bool,
    }
)  # fmt: skip
"""ONNX type -> PyTorch's."""


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: as in the file.
        dtype: as in the file: bytes at the edges, whatever the module computes in.
        shape: sizes.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """A node to be run: its operator, where its operands are, and what its outputs are called."""

    node: Node
    operator: Operator
    operands: tuple[Any, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """An operand: a tensor that was made before, or a constant of the module."""

    name: str
    constant: bool


class TorchGraph(nn.Module):
    """The graph as a module: constants are buffers, and `forward` runs step after step.

    Args:
        inputs, outputs: of the graph; `forward` takes and returns tensors in this order.
        steps: in order.
        results: where the outputs are.
        constants: the buffers, by name.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        steps: Sequence[Step],
        results: Sequence[Named],
        constants: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.steps, self._results = tuple(steps), tuple(results)
        self._buffer = {name: f"constant{i}" for i, name in enumerate(constants)}
        for name, value in constants.items():
            self.register_buffer(self._buffer[name], value)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        made = {value.name: tensor for value, tensor in zip(self.inputs, given, strict=True)}
        for step in self.steps:
            found = step.operator.run(step.node, [self._operand(each, made) for each in step.operands])
            if len(step.outputs) == 1:
                made[step.outputs[0]] = found
            else:
                made.update(zip(step.outputs, found, strict=True))
        return tuple(self._operand(each, made) for each in self._results)

    def _operand(self, operand: Any, made: Mapping[str, Tensor]) -> Any:
        if not isinstance(operand, Named):
            return operand
        return self.get_buffer(self._buffer[operand.name]) if operand.constant else made[operand.name]


def torch_module(
    path: Path, dtype: torch.dtype = torch.float32, *, rendering: Rendering = "plain", edges: bool = True
) -> TorchGraph:
    """Returns the graph of an ONNX file as a module that computes the same, in eval mode on the CPU.

    Args:
        path: a source or frame graph, or any graph of fixed shapes with one sample a run.
        dtype: what fp32 becomes. float16 is the form for GPUs: weights, features and their arithmetic in halves, places
            (see `torch_places`) in 32 bits, inputs and outputs as they are.
        rendering: what Q and DQ become.
        edges: with False the pictures are levels 0..255 in f32 at inputs and outputs, for compilers without bytes.

    Raises:
        BackendError: not an ONNX file, a shape that is not fixed, or a node that torch_operators does not render; says
            which.
        MissingDependency: the rendering is `tensorrt` and its operator is not registered.
    """
    model = _read(path)
    if not edges:
        _without_bytes(model)
    _check(model, path)
    module = _Builder(model, path, dtype, rendering).module()
    _try(module, path)
    return module


def _try(module: TorchGraph, path: Path) -> None:
    """Runs a module on tensors without numbers: what an operator refuses is found here, and other sizes than ONNX's."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        made = module(*(torch.empty(each.shape, dtype=each.dtype) for each in module.inputs))
    for value, tensor in zip(module.outputs, made, strict=True):
        if tuple(tensor.shape) != value.shape or tensor.dtype != value.dtype:
            got, expected = (f"{each.dtype} {list(each.shape)}" for each in (tensor, value))
            raise BackendError(
                f"{path}: {value.name}", "PyTorch makes another output", got=got, expected=expected
            )


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise BackendError(path, f"not an ONNX file ({error})") from error


def _check(model: onnx.ModelProto, path: Path) -> None:
    """Raises BackendError for another opset, or an operator that is not in the table."""
    known = OPERATORS.keys() | RENDERINGS["plain"].keys() | {SHAPE}
    for node in model.graph.node:
        if node.op_type not in known or node.domain not in ("", "ai.onnx"):
            got = f"{node.domain}{':' if node.domain else ''}{node.op_type}"
            raise BackendError(
                f"{path}: {_title(node)}", "an operator that is not rendered in PyTorch", got=got,
                expected=f"one of {', '.join(sorted(known))}", fix=FIX,
            )  # fmt: skip
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx") and not OPSETS[0] <= each.version <= OPSETS[1]:
            expected = f"{OPSETS[0]} to {OPSETS[1]}"
            raise BackendError(path, "another opset", got=each.version, expected=expected)


def _title(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _without_bytes(model: onnx.ModelProto) -> None:
    """Turns pictures at inputs and outputs into f32, and the Casts there into nothing."""
    edges = [*model.graph.input, *model.graph.output]
    names = {value.name for value in edges if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for value in edges:
        if value.name in names:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type == "Cast" and names.intersection((*node.input, *node.output)):
            node.op_type = "Identity"
            del node.attribute[:]


def _values(model: onnx.ModelProto, path: Path) -> dict[str, Value]:
    """What shape inference tells of every tensor."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise BackendError(path, f"shapes cannot be inferred ({str(error).splitlines()[0]})") from error
    return {each.name: _value(each, path) for each in (*graph.input, *graph.value_info, *graph.output)}


def _value(info: onnx.ValueInfoProto, path: Path) -> Value:
    kind = info.type.tensor_type
    if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        got = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
        raise BackendError(
            f"{path}: {info.name}", "a shape that is not fixed", got=got, expected="fixed sizes"
        )
    if kind.elem_type not in DTYPES:
        got = TensorProto.DataType.Name(kind.elem_type)
        raise BackendError(f"{path}: {info.name}", "a type that PyTorch graphs do not have", got=got)
    return Value(info.name, DTYPES[kind.elem_type], tuple(dim.dim_value for dim in kind.shape.dim))


def _tensor(proto: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(proto)))


class _Builder:
    """Folds what is constant, and gives every node that remains its operands in the type that it computes in."""

    def __init__(self, model: onnx.ModelProto, path: Path, dtype: torch.dtype, rendering: Rendering) -> None:
        self.graph, self.path, self.dtype = model.graph, path, dtype
        self.values = _values(model, path)
        self.table = {**OPERATORS, **RENDERINGS[rendering]}
        self.known = {tensor.name: _tensor(tensor) for tensor in self.graph.initializer}
        inputs = frozenset(value.name for value in self.graph.input) - self.known.keys()
        self.inputs = [self.values[value.name] for value in self.graph.input if value.name in inputs]
        self.exact = places(self.graph.node, inputs) if dtype == torch.float16 else frozenset[str]()
        self.types = {value.name: value.dtype for value in self.inputs}
        self.steps: list[Step] = []
        self.constants: dict[str, Tensor] = {}

    def module(self) -> TorchGraph:
        """Returns the module."""
        with torch.no_grad():
            for proto in self.graph.node:
                self._take(proto)
        outputs = [self.values[value.name] for value in self.graph.output]
        results = [self._tensor(value.name, value.dtype) for value in outputs]
        return TorchGraph(self.inputs, outputs, self.steps, results, self.constants).eval()

    def _take(self, proto: onnx.NodeProto) -> None:
        """Computes a node now if it can be, else makes it a step."""
        if proto.op_type == SHAPE:  # sizes are known whatever the numbers will be
            self.known[proto.output[0]] = torch.tensor(self.values[proto.input[0]].shape)
            return
        operator, node = self.table[proto.op_type], self._node(proto)
        names = [*proto.input]
        operator.check(node, [i for i, name in enumerate(names) if name])
        outputs = tuple(proto.output)
        if operator.folds and len(node.constants) == sum(map(bool, names)):
            found = operator.run(node, [self.known.get(name) for name in names])
            self.known.update(zip(outputs, (found,) if len(outputs) == 1 else found, strict=True))
            return
        given = tuple(self._operand(operator, node, i, name) for i, name in enumerate(names))
        self.steps.append(Step(node, operator, given, outputs))
        self.types.update(zip(outputs, node.made, strict=True))

    def _node(self, proto: onnx.NodeProto) -> Node:
        constants = {i: self.known[name].numpy() for i, name in enumerate(proto.input) if name in self.known}
        folded = len(constants) == sum(map(bool, proto.input)) and self.table[proto.op_type].folds
        dtype = torch.float32 if folded or proto.output[0] in self.exact else self.dtype
        made = [self.values[name].dtype for name in proto.output]
        return Node(
            where=f"{self.path}: {_title(proto)}",
            op=proto.op_type,
            attributes={each.name: _attribute(each) for each in proto.attribute},
            constants=constants,
            dtype=dtype,
            made=tuple(dtype if each is torch.float32 else each for each in made),
        )

    def _operand(self, operator: Operator, node: Node, i: int, name: str) -> Any:
        if not name or i in operator.static:
            return None
        if node.holds(i) and i in operator.numbers and node.constants[i].ndim == 0:
            return node.numbers(i)[0]
        own = self.known[name].dtype if node.holds(i) else self.values[name].dtype
        return self._tensor(name, node.dtype if own is torch.float32 and i not in operator.exact else own)

    def _tensor(self, name: str, dtype: torch.dtype) -> Named:
        """A tensor in a type, converted once however many take it."""
        if name in self.known:
            title = f"{name} {dtype}"
            self.constants.setdefault(title, self.known[name].to(dtype))
            return Named(title, constant=True)
        if self.types[name] is dtype:
            return Named(name, constant=False)
        title = f"{name} {dtype}"
        if title not in self.types:
            node = Node(f"{self.path}: {name}", "Cast", {}, {}, dtype, (dtype,))
            self.steps.append(Step(node, self.table["Cast"], (Named(name, constant=False),), (title,)))
            self.types[title] = dtype
        return Named(title, constant=False)


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    return _tensor(value) if isinstance(value, onnx.TensorProto) else value
