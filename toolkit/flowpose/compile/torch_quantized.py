"""Two ways to say QuantizeLinear and DequantizeLinear in PyTorch; which one is right depends on who compiles it.

Codes are int8 and zero points 0, a scale a tensor or a channel, as flowpose's graphs have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from flowpose.compile.torch_node import Node, Operands, Operator
from flowpose.errors import MissingDependency

Rendering = Literal["plain", "tensorrt"]
"""plain: divide, round and clamp; weights are widened once, when the module is built. Inductor makes no integer kernels
of it. PyTorch's own operators (quantized_decomposed) are no faster on a CPU: 112 against 106 ms for people-128's INT8
frame, and 107 in fp32 (medians of 40 in turns, 1 thread of an EPYC that others used as well). tensorrt: one operator
for Q and DQ, which Torch-TensorRT's converter turns into both."""

LOW, HIGH = -128, 127  # int8


def quantize_op() -> Any:
    """Returns `tensorrt::quantize_op`, the operator that Torch-TensorRT converts to a Q/DQ pair.

    Raises:
        MissingDependency: ModelOpt, which registers it, has not been imported.
    """
    if not hasattr(torch.ops.tensorrt, "quantize_op"):
        raise MissingDependency(
            "torch.ops.tensorrt.quantize_op", "is not registered",
            fix="pip install nvidia-modelopt, then import modelopt.torch.quantization",
        )  # fmt: skip
    return torch.ops.tensorrt.quantize_op.default


def _checked(node: Node, x: Operands) -> None:
    """Raises BackendError for other codes than int8 with zero points of 0; ONNX means uint8 where no type is said."""
    codes = node.constants.get(2, x[0] if node.op == "DequantizeLinear" else None)
    kind = "uint8" if codes is None else str(codes.dtype).removeprefix("torch.")
    if node.holds(2) and node.constants[2].any():
        raise node.fault("has zero points", got="others than 0", expected="0")
    if kind != "int8" and (node.holds(2) or node.op == "QuantizeLinear"):
        raise node.fault("has other codes", got=kind, expected="int8")


def _spread(node: Node, scale: Tensor, rank: int) -> Tensor:
    """Scales, one a channel, as they are multiplied with a tensor of so many axes."""
    sizes = [1] * rank
    sizes[node.attributes.get("axis", 1)] = scale.numel()
    return scale.reshape(sizes)


def _step(node: Node, x: Operands) -> Tensor | float:
    """What a code is worth: a number, or a tensor that fits the operand."""
    scale = node.constants[1]
    return float(scale) if scale.size == 1 else _spread(node, x[1].to(node.dtype), x[0].dim())


def _plain_codes(node: Node, x: Operands) -> Tensor:
    """The codes as whole floating numbers: making bytes of them would cost a pass and save nothing."""
    _checked(node, x)
    return torch.clamp(torch.round(x[0] / _step(node, x)), LOW, HIGH)


def _plain_values(node: Node, x: Operands) -> Tensor:
    _checked(node, x)
    found: Tensor = x[0].to(node.dtype) * _step(node, x)
    return found


def _rounded(node: Node, x: Operands) -> Tensor:
    """A tensor rounded to what its codes are worth: Q and DQ at once."""
    _checked(node, x)
    scale = x[1] if node.constants[1].size == 1 else _spread(node, x[1], x[0].dim())
    found: Tensor = quantize_op()(x[0], scale * HIGH, 8, 0, False, False)
    return found


def _rounded_values(node: Node, x: Operands) -> Tensor:
    """What Q has rounded already, as it is; stored weights are rounded here, so that the graph has their scales."""
    if 0 not in node.constants:
        found: Tensor = x[0].to(node.dtype)
        return found
    return _rounded(node, (_plain_values(node, x), *x[1:]))


def _pair(quantize: Any, dequantize: Any, *, folds: bool) -> Mapping[str, Operator]:
    fields: dict[str, Any] = {"attributes": {"axis": None}, "exact": frozenset((1, 2)), "folds": folds}
    return MappingProxyType(
        {"QuantizeLinear": Operator(quantize, **fields), "DequantizeLinear": Operator(dequantize, **fields)}
    )


RENDERINGS: Mapping[Rendering, Mapping[str, Operator]] = MappingProxyType(
    {
        "plain": _pair(_plain_codes, _plain_values, folds=True),
        "tensorrt": _pair(_rounded, _rounded_values, folds=False),
    }
)
"""Rendering -> what the two operators are."""
