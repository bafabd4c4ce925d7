"""What one run of a graph costs, step by step, for `costs.json`: `flowpose predict` reads it where no onnx is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import TensorProto

from flowpose.export.anatomy import LAYERS, anatomy
from flowpose.export.graph_view import DQ, GraphView, Q
from flowpose.spec.base import canonical
from flowpose.spec.costs import Amount, Costs, Fused, GraphCosts, Kind, Step
from flowpose.spec.manifest import GraphSpec

FREE = frozenset(("Constant", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Operators that give the same numbers another shape; a DequantizeLinear is free where only layers take the codes."""

POINTWISE = frozenset(
    (
        *(
            "Abs",
            "Add",
            "And",
            "Cast",
            "Clip",
            "Div",
            "Equal",
            "Erf",
            "Exp",
            "Gelu",
            "Greater",
            "HardSigmoid",
        ),
        *("LeakyRelu", "Less", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round"),
        *("Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh", "Where", Q, DQ),
    )
)
"""Operators that compute number by number."""

PARTS = frozenset(("Gather", "GridSample", "Slice", "Split"))
"""Operators that read of their first operand only what they give."""

KINDS: Mapping[str, Kind] = MappingProxyType(
    {"Conv": "conv", "ConvTranspose": "conv", "Gemm": "matmul", "MatMul": "matmul"}
)
CODES = frozenset(
    (
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL),
        *(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2),
    )
)
FLOATS = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16))


def costs(folder: Path, graphs: Iterable[GraphSpec]) -> Costs:
    """What the graph files in a folder cost; one with operators of a backend's own is left out.

    Raises:
        ArtifactError: a graph's shapes are not fixed, or it holds a graph of its own.
    """
    files = dict.fromkeys(graph.file for graph in graphs)
    models = {file: onnx.load(folder / file, load_external_data=False) for file in files}
    own = {
        file
        for file, model in models.items()
        if any(each.domain not in ("", "ai.onnx") for each in model.opset_import)
    }
    return Costs(
        graphs=tuple(graph_costs(onnx.load(folder / file), file) for file in files if file not in own)
    )


def costs_text(folder: Path, graphs: Iterable[GraphSpec]) -> bytes:
    """The bytes of `costs.json` of the graph files in a folder."""
    return canonical(costs(folder, graphs))


def graph_costs(model: onnx.ModelProto, file: str) -> GraphCosts:
    """What one run of a graph of fixed shapes costs, whose batch is 1; `file` is what it and errors call it."""
    reading = _Reading(model, file)
    halves = any(reading.view.tensor(output).type == TensorProto.FLOAT16 for output in reading.layers)
    steps = tuple(reading.step(node, fused) for node, fused in reading.grouped())
    return GraphCosts(file=file, width=2 if halves else 4, steps=steps, alive=reading.most_alive())


class _Reading:
    """Turns the nodes of a graph into steps.

    Attributes:
        layers: as `anatomy` describes them, by the first output of their nodes.
        nodes: those that take time, in the graph's order.
        place: where each of them stands, by its first output.
        makers, takers: by a node's first output, the nodes among them that it takes numbers of, and that take its.
    """

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self.view = GraphView(model, file)
        made = [
            node.output[0]
            for node in self.view.nodes
            if node.op_type in LAYERS and self.view.roots(node.output[0]) is None
        ]
        self.layers = dict(zip(made, anatomy(model, file).layers, strict=True))
        self.nodes = [node for node in self.view.nodes if not self._free(node)]
        self.place = {node.output[0]: at for at, node in enumerate(self.nodes)}
        self.makers = {node.output[0]: self._made_by(node) for node in self.nodes}
        self.takers: dict[str, list[onnx.NodeProto]] = {node.output[0]: [] for node in self.nodes}
        for node in self.nodes:
            for source in {each.output[0] for each in self.makers[node.output[0]]}:
                self.takers[source].append(node)

    def _free(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes no time: a new shape, a constant's value, codes that only layers take."""
        if node.op_type in FREE or self.view.roots(node.output[0]) is not None:
            return True
        return node.op_type == DQ and self._to_layers(node.output[0])

    def _to_layers(self, name: str) -> bool:
        """Whether dequantized codes go to quantized layers alone, moved at most."""
        takers = self.view.consumers.get(name, [])
        return bool(takers) and all(
            self.layers[each.output[0]].quantized
            if each.output[0] in self.layers
            else self.view.moves(each) and self._to_layers(each.output[0])
            for each in takers
        )

    def _operands(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are no constants."""
        return [name for name in node.input if name and self.view.roots(name) is None]

    def _made_by(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        found = [self._maker(name) for name in self._operands(node)]
        return [each for each in found if each is not None]

    def _maker(self, name: str) -> onnx.NodeProto | None:
        """The node that made a tensor's numbers, past those that take no time; None for a graph's input."""
        node = self.view.producer.get(name)
        while node is not None and self._free(node):
            node = self.view.producer.get(node.input[0])
        return node

    def _amount(self, name: str, count: int | None = None) -> Amount:
        """A tensor's numbers (or so many of its kind) as they lie in memory: codes that only layers take as codes."""
        found, source = self.view.tensor(name), self.view.dequantizer(name)
        if (source is not None and self._to_layers(source.output[0])) or found.type in CODES:
            return Amount(codes=found.count if count is None else count)
        if found.type in FLOATS:
            return Amount(floats=found.count if count is None else count)
        return Amount(wholes=found.count if count is None else count)

    def grouped(self) -> Iterator[tuple[onnx.NodeProto, Fused | None]]:
        """Yields every node, with each fused one behind the one that it is fused to, and how it is fused."""
        behind = {node.output[0]: self._follower(node) for node in self.nodes}
        fused = {node.output[0] for node in behind.values() if node is not None}
        for node in self.nodes:
            if node.output[0] in fused:
                continue
            yield node, None
            kind: Fused = "layer" if node.output[0] in self.layers else "chain"
            follower = behind[node.output[0]]
            while follower is not None:
                yield follower, kind
                follower = behind[follower.output[0]]

    def _follower(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The only node that takes a node's result, where it computes number by number and waits for no later one."""
        takers = self.takers[node.output[0]]
        if len(takers) != 1 or takers[0].op_type not in POINTWISE or len(node.output) != 1:
            return None
        (taker,) = takers
        places = [self.place[each.output[0]] for each in self.makers[taker.output[0]]]
        last = max(places) == self.place[node.output[0]] and places.count(max(places)) == 1
        as_many = self.view.tensor(taker.output[0]).count == self.view.tensor(node.output[0]).count
        return taker if last and as_many else None

    def step(self, node: onnx.NodeProto, fused: Fused | None) -> Step:
        """A node as a step; fused ones read nothing of the node before."""
        output = node.output[0]
        about: dict[str, object] = {"name": node.name or output, "op": node.op_type, "kind": "other"}
        if output in self.layers:
            about |= self._product(node)
        reads = Amount.total(self._read(node, name) for name in self._read_names(node, fused))
        writes = Amount.total(self._amount(name) for name in node.output if name)
        return Step.model_validate(
            {**about, "reads": reads, "writes": writes, "weights": self._weights(node), "fused": fused}
        )

    def _read_names(self, node: onnx.NodeProto, fused: Fused | None) -> list[str]:
        """The operands that a step reads from memory."""
        names = self._operands(node)
        if fused is None:
            return names
        latest = max(self.place[each.output[0]] for each in self.makers[node.output[0]])
        return [
            name
            for name in names
            if (maker := self._maker(name)) is None or self.place[maker.output[0]] != latest
        ]

    def _read(self, node: onnx.NodeProto, name: str) -> Amount:
        if node.op_type in PARTS and name == node.input[0]:
            made = sum(self.view.tensor(each).count for each in node.output)
            return self._amount(name, min(made, self.view.tensor(name).count))
        return self._amount(name)

    def _weights(self, node: onnx.NodeProto) -> Amount:
        """The constants that a step reads; shapes and axes are not worth counting."""
        layer = self.layers.get(node.output[0])
        found = []
        for name in node.input:
            if name and self.view.roots(name) is not None and self.view.tensor(name).type in (FLOATS | CODES):
                codes = layer is not None and layer.quantized and self.view.dequantizer(name) is not None
                found.append(
                    Amount.model_validate({"codes" if codes else "floats": self.view.tensor(name).count})
                )
        return Amount.total(found)

    def _product(self, node: onnx.NodeProto) -> dict[str, object]:
        layer, made = self.layers[node.output[0]], self.view.tensor(node.output[0])
        groups = next((each.i for each in node.attribute if each.name == "group"), 1)
        columns = made.shape[1] // groups if KINDS[node.op_type] == "conv" else made.shape[-1]
        return {
            "name": layer.name, "kind": KINDS[node.op_type], "macs": layer.macs,
            "int8": layer.precision == "int8", "fp8": layer.precision == "fp8",
            "inner": layer.macs // made.count, "columns": columns,
        }  # fmt: skip

    def most_alive(self) -> Amount:
        """The inputs and results that are alive at once where they take most bytes, in fp32."""
        last = {
            self._origin(name): self.place[node.output[0]]
            for node in self.nodes
            for name in self._operands(node)
        }
        alive = {name: self._amount(name) for name in last if name not in self.view.producer}
        most = Amount.total(alive.values())
        for at, node in enumerate(self.nodes):
            alive[node.output[0]] = Amount.total(self._amount(name) for name in node.output if name)
            most = max(most, Amount.total(alive.values()), key=lambda each: each.bytes(4))
            alive = {name: amount for name, amount in alive.items() if last.get(name, at) > at}
        return most

    def _origin(self, name: str) -> str:
        """What a tensor's numbers are kept under: the first output of the node that made them, or the graph's input."""
        node = self.view.producer.get(name)
        if node is None:
            return name
        return self._origin(node.input[0]) if self._free(node) else node.output[0]
