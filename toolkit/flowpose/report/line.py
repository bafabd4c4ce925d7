"""The stages behind an artifact, as manifests tell of them: what every table and drawing of a report starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from flowpose.artifact import Artifact
from flowpose.spec.judging import Gate
from flowpose.spec.manifest import Ancestor, GateResult, Manifest, Measurement

STAGES: tuple[str, ...] = get_args(Gate.model_fields["stage"].annotation)
"""All that a line may have, in their order, the engine's last."""

STUDENT = "student-1"  # the row of the student at one evaluation, in floating point
SIBLINGS = ("regressor", "teacher_finish")  # no ancestors of a graph, which names their keys


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage, as its manifest tells, or the history of a later one.

    Attributes:
        name: one of STAGES, or the kind of what was made otherwise.
        kind: of the artifact; empty where only its key is known.
        config: what made it, resolved.
        built_with: tool -> version; empty where only a history tells of it.
        path: where its artifact lies; None where it is not at hand.
    """

    name: str
    key: str
    kind: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()
    gates: Sequence[GateResult] = ()
    built_with: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Line:
    """An artifact and the stages behind it, in their order."""

    head: Manifest
    stages: tuple[Stage, ...]

    def of(self, *names: str) -> Stage | None:
        """Returns the first stage of these names that the line has."""
        found = {each.name: each for each in self.stages}
        return next((found[name] for name in names if name in found), None)

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """All limits, in the order of the stages."""
        return tuple(gate for each in self.stages for gate in each.gates)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Everything that the stages measured."""
        return tuple(measured for each in self.stages for measured in each.measurements)

    @property
    def sizes(self) -> dict[str, float]:
        """MB of the files of the graphs, by the name of their measurement."""
        return {m.metric: m.value for m in self.measurements if m.unit == "MB"}

    @property
    def target(self) -> str | None:
        """Name of the target of an engine."""
        return str(self.head.target["name"]) if self.head.target and "name" in self.head.target else None

    @property
    def own_row(self) -> str | None:
        """Row of the form that an engine runs, or that a graph is made for: its least precision; None before export."""
        if self.head.kind == "engine":
            return row_of(str(self.head.precision))
        frames = [each.precision for each in self.head.graphs if each.name == "frame"]
        reduced = [each for each in frames if each not in ("fp32", "fp16")]
        return row_of((reduced or frames)[-1]) if frames else None


def row_of(precision: str) -> str:
    """Returns the row of the student's own frame graph in a precision."""
    return STUDENT if precision == "fp32" else precision


def precision_of(row: str) -> str:
    """Returns the precision of the frame graph of a row of the student's."""
    return "fp32" if row == STUDENT else row


def line_of(artifact: Artifact, others: Sequence[Artifact] = ()) -> Line:
    """Returns the stages behind an artifact.

    Args:
        artifact: the last one.
        others: artifacts of the same line that are at hand; they tell more than a history, and of gates what was judged
            last. Those of other lines are left out.
    """
    manifest = artifact.manifest
    at_hand = {each.manifest.key: each for each in (*others, artifact)}
    known = {each.key: _from_history(each) for each in manifest.history}
    known |= {key: Stage(name=name, key=key) for name, key in sibling_keys(manifest).items()}
    known[manifest.key] = _from_manifest(artifact)
    stages = [_from_manifest(at_hand[key]) if key in at_hand else each for key, each in known.items()]
    return Line(manifest, tuple(sorted(stages, key=_place)))


def sibling_keys(manifest: Manifest) -> dict[str, str]:
    """Returns stage -> key of what stands beside a graph to be compared with it and is not among its ancestors."""
    found: dict[str, str] = {}
    for config in _configs(manifest):
        found |= {name: str(config[f"{name}_key"]) for name in SIBLINGS if f"{name}_key" in config}
    return found


def _configs(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    yield from (each.stage for each in manifest.history)
    yield manifest.stage


def _place(stage: Stage) -> int:
    return STAGES.index(stage.name) if stage.name in STAGES else len(STAGES)


def _name(kind: str, config: Mapping[str, Any]) -> str:
    return "compile" if kind == "engine" else str(config.get("name", kind))


def _from_history(own: Ancestor) -> Stage:
    return Stage(
        name=_name(own.kind, own.stage), key=own.key, kind=own.kind, config=own.stage,
        measurements=own.measurements, gates=own.gates,
    )  # fmt: skip


def _from_manifest(artifact: Artifact) -> Stage:
    own = artifact.manifest
    return Stage(
        name=_name(own.kind, own.stage), key=own.key, kind=own.kind, config=own.stage,
        measurements=own.measurements, gates=own.gates, built_with=own.built_with, path=artifact.path,
    )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What the gates say together."""

    kind: Literal["met", "waived", "failed", "none"]
    text: str


def verdict(gates: Iterable[GateResult]) -> Verdict:
    """Returns what all gates say together: one that failed and was not waived decides."""
    results = tuple(gates)
    failed = [each for each in results if not each.passed and each.waived is None]
    waived = [each for each in results if not each.passed and each.waived is not None]
    if not results:
        return Verdict("none", "no gate was set")
    if failed:
        names = ", ".join(f"{each.stage} {each.metric}" for each in failed)
        return Verdict("failed", f"{len(failed)} of {len(results)} gates failed: {names}")
    if waived:
        names = ", ".join(f"{each.stage} {each.metric}" for each in waived)
        return Verdict("waived", f"{len(results) - len(waived)} of {len(results)} gates met, waived: {names}")
    return Verdict("met", f"all {len(results)} gates met" if len(results) > 1 else "the gate is met")
