"""A node of an ONNX graph as PyTorch code sees it, and what an operator is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray

from flowpose.errors import BackendError

Values = tuple[object, ...] | None
"""What an attribute may be; None means anything."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node whose constants are known.

    Attributes:
        where: its file and name, for errors.
        op: ONNX operator.
        attributes: by name; texts are bytes.
        constants: operand -> its value, of the operands that are constants; NumPy, which no tracer sees.
        dtype: type of the floating numbers that it computes with.
        made: types of its outputs.
    """

    where: str
    op: str
    attributes: Mapping[str, Any]
    constants: Mapping[int, NDArray[Any]]
    dtype: torch.dtype
    made: tuple[torch.dtype, ...]

    def holds(self, operand: int) -> bool:
        """Returns whether an operand is there and constant."""
        return operand in self.constants

    def numbers(self, operand: int) -> list[Any]:
        """Returns the numbers of a constant operand, in a row."""
        return list(self.constants[operand].reshape(-1).tolist())

    def ints(self, operand: int) -> list[int]:
        """Returns the numbers of a constant operand of sizes or axes."""
        return [int(each) for each in self.numbers(operand)]

    def fault(self, what: str, *, got: object, expected: object) -> BackendError:
        """Returns the error that this node cannot be rendered."""
        return BackendError(self.where, f"{self.op} {what}", got=got, expected=expected, fix=FIX)


FIX = "take another backend (backend=onnxruntime), or add it to flowpose/compile/torch_operators.py"
Operands = Sequence[Any]
"""A tensor an operand; a number for a constant that the operator takes as one; None where nothing is given."""


@dataclass(frozen=True)
class Operator:
    """An operator in PyTorch.

    Attributes:
        run: takes a node and its operands; returns a tensor, or one an output.
        attributes: name -> the values that `run` is right for; any other attribute or value is refused.
        static: operands that must be constants, for they decide shapes. `run` finds them in the node alone.
        needs: operands that must be constants and that `run` computes with.
        numbers: operands that are given as a number where they are a constant without dimensions.
        exact: operands that keep the type that the graph gives them, whatever the node computes with.
        folds: whether a node of constants is computed once, when the module is built.
    """

    run: Callable[[Node, Operands], Any]
    attributes: Mapping[str, Values] = field(default_factory=lambda: MappingProxyType({}))
    static: frozenset[int] = frozenset()
    needs: frozenset[int] = frozenset()
    numbers: frozenset[int] = frozenset()
    exact: frozenset[int] = frozenset()
    folds: bool = True

    def check(self, node: Node, operands: Sequence[int]) -> None:
        """Raises BackendError where the node says what `run` does not do, or leaves a static operand to the inputs.

        Args:
            node: to be rendered.
            operands: numbers of those that it has.
        """
        for name, value in node.attributes.items():
            if name not in self.attributes:
                expected = ", ".join(self.attributes) or "no attribute"
                raise node.fault("has an unknown attribute", got=name, expected=expected)
            allowed = self.attributes[name]
            if allowed is not None and value not in allowed:
                raise node.fault(f"has another {name}", got=value, expected=" or ".join(map(str, allowed)))
        computed = [i for i in operands if i in self.static | self.needs and not node.holds(i)]
        if computed:
            raise node.fault("computes its shapes", got=f"operand {computed[0]}", expected="a constant")
