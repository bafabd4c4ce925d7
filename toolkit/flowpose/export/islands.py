"""Float islands: stretches of a quantized graph that are computed in floating point, between two quantized layers.

Each costs a conversion to floating point before it and one to codes behind it, so they are what a backend's fusions and
a recipe's `keep` patterns are judged by.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import TensorProto

from flowpose.export.graph_view import DQ, GraphView, Q

FLOATS = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16))
FUSED = frozenset(("Add", "Clip", "LeakyRelu", "Relu"))
"""What a quantized layer's kernel does to its own result: an activation, or a constant added to it as its bias."""
_LAYER, _CODES = "<layer>", "<codes>"  # where numbers come from that no node of floating point made


def float_islands(view: GraphView, quantized: Collection[str]) -> int:
    """The number of float islands of a graph.

    An island is a largest connected group of nodes that compute floating-point numbers and lie on a way from a
    quantized layer's result, or from dequantized codes, to a QuantizeLinear. Nodes that only move numbers connect
    groups and belong to none. A layer's own activation and bias (FUSED, straight behind it) are part of the layer.

    Args:
        view: the graph.
        quantized: first outputs of the layers that are computed in 8 bits.
    """
    flow = _Flow(view, frozenset(quantized))
    between = flow.entered & flow.leaving()
    group = {name: name for name in between}

    def top(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for name in between:
        for source in flow.sources[name] & between:
            group[top(source)] = top(name)
    return sum(group[name] == name for name in between)


class _Flow:
    """Which floating-point nodes feed which, past all that only moves numbers.

    Attributes:
        sources: node (by its first output) -> the nodes, _LAYER and _CODES that it takes numbers from.
        entered: nodes that take numbers from a quantized layer or from codes, at once or through others.
        taken: nodes whose numbers a QuantizeLinear takes.
    """

    def __init__(self, view: GraphView, quantized: frozenset[str]) -> None:
        self.view, self.quantized = view, quantized
        self.sources: dict[str, frozenset[str]] = {}
        self.entered: set[str] = set()
        self.taken: set[str] = set()
        self.origins: dict[str, frozenset[str]] = {}
        for node in view.nodes:
            if view.roots(node.output[0]) is None:
                made = self._made(node)
                self.origins |= dict.fromkeys(node.output, made)

    def _made(self, node: onnx.NodeProto) -> frozenset[str]:
        """Where the numbers come from that a node gives; takes note of nodes that compute in floating point."""
        came = frozenset[str]().union(*(self.origins.get(name, frozenset()) for name in node.input))
        if node.op_type == Q:
            self.taken |= came - {_LAYER, _CODES}
            return frozenset()
        if node.op_type == DQ:
            return frozenset((_CODES,))
        if node.output[0] in self.quantized or self._fused(node, came):
            return frozenset((_LAYER,))
        if self.view.moves(node) or self.view.tensor(node.output[0]).type not in FLOATS:
            return came
        self.sources[node.output[0]] = came
        if came & {_LAYER, _CODES} or came & self.entered:
            self.entered.add(node.output[0])
        return frozenset((node.output[0],))

    def _fused(self, node: onnx.NodeProto, came: frozenset[str]) -> bool:
        computed = [name for name in node.input if name and self.view.roots(name) is None]
        return node.op_type in FUSED and came == {_LAYER} and len(computed) == 1

    def leaving(self) -> set[str]:
        """Nodes whose numbers reach a QuantizeLinear, at once or through others."""
        found = set(self.taken)
        for name in reversed(self.sources):
            if name in found:
                found |= self.sources[name] - {_LAYER, _CODES}
        return found
