"""What one run of each graph of an artifact costs, step by step: `costs.json`, which is read where no onnx is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator
from typing_extensions import Self

from ..errors import ArtifactError
from .base import Precision, Spec

COSTS = "costs.json"
WIDTHS: Mapping[Precision, int] = MappingProxyType({"fp32": 4, "fp16": 2, "int8": 1, "fp8": 1})
"""Bytes of a number in each precision."""

Kind = Literal["conv", "matmul", "other"]
Fused = Literal["layer", "chain"]


class Amount(Spec):
    """How many numbers, by what they are: their bytes depend on where they run.

    Attributes:
        floats: of floating point, as wide as the graph computes.
        codes: of 8 bits: INT8, FP8, truth values.
        wholes: indices and other whole numbers of 8 bytes.
    """

    floats: NonNegativeInt = 0
    codes: NonNegativeInt = 0
    wholes: NonNegativeInt = 0

    @property
    def count(self) -> int:
        """How many numbers in all."""
        return self.floats + self.codes + self.wholes

    def bytes(self, width: int) -> int:
        """Returns the bytes that they take where a float takes `width`."""
        return self.floats * width + self.codes + self.wholes * 8

    @classmethod
    def total(cls, amounts: Iterable[Amount]) -> Amount:
        """Returns all of them together."""
        floats, codes, wholes = 0, 0, 0
        for each in amounts:
            floats, codes, wholes = floats + each.floats, codes + each.codes, wholes + each.wholes
        return cls.model_construct(
            floats=floats, codes=codes, wholes=wholes
        )  # sums of numbers that were checked


class Step(Spec):
    """A node of a graph that takes time. Nodes that only give numbers another shape are none.

    Attributes:
        name: the layer's, as recipes call it, or the node's.
        op: the ONNX operator.
        kind: convolution, product of matrices, or another.
        macs: multiply-accumulates of one run; 0 for others.
        int8: whether it computes with INT8 codes; `fp8` with FP8 codes.
        inner: multiply-accumulates of one number of the result (K of a product); 0 for others.
        columns: numbers of the result that one row of inputs gives (N of a product, output channels of a group); 0
            for others.
        weights: what it reads that no input changes.
        reads: what it reads of other steps' results; without what the step before hands over where it is fused.
        writes: its result.
        fused: `layer`: arithmetic number by number on the result of the step before, which is a layer or fused to
            one, and which nothing else reads. `chain`: the same behind a step of kind other. A backend that fuses
            runs it inside the step before.
    """

    name: str
    op: str
    kind: Kind
    macs: NonNegativeInt = 0
    int8: bool = False
    fp8: bool = False
    inner: NonNegativeInt = 0
    columns: NonNegativeInt = 0
    weights: Amount = Amount()
    reads: Amount = Amount()
    writes: Amount = Amount()
    fused: Fused | None = None


class GraphCosts(Spec):
    """One run of one graph file.

    Attributes:
        file: of the artifact.
        width: bytes of the floats that the file computes with: 4, or 2.
        steps: in an order in which they can run; a fused one directly behind the one that it is fused to.
        alive: the numbers that are alive at once where they take most bytes.
    """

    file: str = Field(min_length=1)
    width: Literal[2, 4]
    steps: tuple[Step, ...]
    alive: Amount = Amount()

    @model_validator(mode="after")
    def _behind_another(self) -> Self:
        for before, step in pairwise((None, *self.steps)):
            if step is not None and step.fused and before is None:
                raise ValueError(f"{step.name} is the first step and fused, expected one before it")
        return self

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(step.macs for step in self.steps)

    @property
    def int8_share(self) -> float:
        """Of all multiply-accumulates, 0..1, computed with 8-bit codes."""
        return sum(step.macs for step in self.steps if step.int8 or step.fp8) / max(self.macs, 1)

    @property
    def weights(self) -> Amount:
        """All weights."""
        return Amount.total(step.weights for step in self.steps)

    @cached_property
    def grouped(self) -> dict[frozenset[Fused], tuple[Group, ...]]:
        """What `groups` has found so far, by what is fused."""
        return {}

    def groups(self, fuses: frozenset[Fused]) -> tuple[Group, ...]:
        """Returns what a backend that fuses so runs as one, in order."""
        if fuses not in self.grouped:
            self.grouped[fuses] = tuple(self._groups(fuses))
        return self.grouped[fuses]

    def _groups(self, fuses: frozenset[Fused]) -> Iterator[Group]:
        before: Step | None = None
        group: list[Step] = []
        for step in self.steps:
            if group and step.fused not in fuses:
                yield _group(before, group)
                before, group = group[-1], []
            group.append(step)
        if group:
            yield _group(before, group)


@dataclass(frozen=True)
class Group:
    """Steps that a backend runs as one.

    Attributes:
        steps: the first, and those that are fused to it.
        weights: what they read that no input changes.
        moved: what they read and write besides; what they hand to each other goes not through memory.
    """

    steps: tuple[Step, ...]
    weights: Amount
    moved: Amount


def _group(before: Step | None, steps: list[Step]) -> Group:
    """Returns the group of steps that come after the step `before`, whose result the first takes where it is fused."""
    handed = before.writes if before is not None and steps[0].fused else Amount()
    return Group(
        steps=tuple(steps),
        weights=Amount.total(step.weights for step in steps),
        moved=Amount.total((handed, *(step.reads for step in steps), steps[-1].writes)),
    )


class Costs(Spec):
    """What `costs.json` holds.

    Attributes:
        format: version of this layout.
        graphs: a run of each graph file; a backend's own graph costs what the general one does, and has no entry.
    """

    format: Literal[1] = 1
    graphs: tuple[GraphCosts, ...]

    def of(self, file: str, where: object) -> GraphCosts:
        """Returns the costs of a graph file; ArtifactError, with `where`, if they are not known."""
        for graph in self.graphs:
            if graph.file == file:
                return graph
        known = ", ".join(graph.file for graph in self.graphs) or "no files"
        raise ArtifactError(where, f"{COSTS} lacks a graph", got=file, expected=f"one of {known}")
