"""The manifest of an artifact: what it is, what made it, what it takes and gives, how good it is, its files.

Nothing about an artifact is told from a file name, a path or the command line; everything stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from .base import Precision, Spec

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"

ArtifactKind = Literal["autoencoder", "model", "student", "quantized", "graph", "engine"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[float, Field(ge=0, le=1)]


def _ascend(times: Sequence[float]) -> bool:
    return all(later > earlier for earlier, later in pairwise(times))


class ImageSize(Spec):
    """Height and width of the model's pictures, pixels."""

    height: PositiveInt
    width: PositiveInt


class PoseSpec(Spec):
    """The pose format that the model takes, and how many joints it has."""

    format: str = Field(min_length=1)
    joints: PositiveInt


class TensorSpec(Spec):
    """An input or output of a graph; `low` and `high` bound its values where that is known."""

    name: str = Field(min_length=1)
    dtype: Literal["u8", "f32", "f16", "i8", "i64"]
    shape: tuple[NonNegativeInt, ...]
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class GraphSpec(Spec):
    """One graph: its file, its precision and its tensors.

    Attributes:
        backend: the only backend that runs it, in place of the graph of the same name and precision that all run; None
            for that one.
        file: an ONNX graph, or what compile built of one for the backend.
    """

    name: Literal["source", "frame"]
    precision: Precision
    backend: str | None = None
    file: str
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)


class Measurement(Spec):
    """One measured number.

    Attributes:
        metric: what was measured, such as `psnr` or `latency_p95`.
        value: the number, in `unit`.
        n: over how many samples.
        set: the data it was measured on, such as `people/val`.
        against: what it was compared with, such as `truth` or `teacher`.
        device: the machine, where the number depends on it.
        stage: the stage that measured it.
    """

    metric: str = Field(min_length=1)
    value: FiniteFloat
    unit: str = ""
    n: NonNegativeInt
    set: str
    against: str | None = None
    device: str = ""
    stage: str = ""


class GateResult(Spec):
    """A limit of the recipe or the target's budget, the value measured, and whether it held.

    Attributes:
        limit: in the measurement's unit, also where the recipe gives a factor of another measurement, `of`.
        waived: why a failure was let pass.
        by: who sets the limit; a recipe's are judged again in every run.
    """

    stage: str
    metric: str
    limit: FiniteFloat
    value: FiniteFloat
    passed: bool
    waived: str | None = None
    of: str | None = None
    by: Literal["target", "recipe"] = "target"


class Ancestor(Spec):
    """An artifact that this one was made from, with what was measured then."""

    kind: ArtifactKind
    name: str
    key: Digest
    stage: dict[str, Any]
    measurements: tuple[Measurement, ...] = ()
    gates: tuple[GateResult, ...] = ()


class Reference(Spec):
    """A model to compare with, kept beside a graph: its source graph and its any-step frame graph.

    Attributes:
        name: what it is.
        source, frame: files; the frame graph also takes `times`, and makes a step from each to the next.
        context: shape of its context, which need not be that of the model's own.
        grids: row of the table, such as `teacher-16` -> the times of its steps, 0.0 first and 1.0 last.
    """

    name: Literal["teacher", "l1", "student"]
    source: str
    frame: str
    context: tuple[PositiveInt, ...] = Field(min_length=1)
    grids: dict[str, tuple[Time, ...]] = Field(min_length=1)

    @field_validator("grids")
    @classmethod
    def _whole_way(cls, grids: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for row, times in grids.items():
            if len(times) < 2 or (times[0], times[-1]) != (0.0, 1.0) or not _ascend(times):
                raise ValueError(f"{row} is no grid, got {list(times)}, expected times from 0.0 up to 1.0")
        return grids


class Contestant(Spec):
    """A backend and a precision that took turns with the others when those of an engine were chosen.

    Attributes:
        p50, p95: milliseconds a frame.
        n: timed frames.
        ratio: its p50 in units of that of the one that was chosen.
        chosen: whether the engine runs it.
        reason: why it was, or was not.
        int8_layers, float_layers: convolutions and products of matrices that the backend ran in 8 bits, and in more.
        conversions: steps that it ran only to change a type or a layout; None, as the two above, where not known.
    """

    backend: str = Field(min_length=1)
    precision: Precision
    p50: FiniteFloat
    p95: FiniteFloat
    n: PositiveInt
    ratio: FiniteFloat
    chosen: bool
    reason: str
    int8_layers: NonNegativeInt | None = None
    float_layers: NonNegativeInt | None = None
    conversions: NonNegativeInt | None = None


class Golden(Spec):
    """Files with recorded inputs and the outputs they must give."""

    inputs: str
    outputs: str


class Manifest(Spec):
    """What `manifest.json` holds.

    Attributes:
        format: version of this layout.
        kind: the stage's product.
        name: the recipe's name.
        key: digest of the parent's key, the stage and its configuration.
        parent: key of the artifact this was made from; None for the first.
        stage: the resolved configuration that made it.
        image: size of the model's pictures.
        pose: the pose format that the model takes.
        times: the flow times of the model's steps, ascending, 0 is noise and 1 is data; may be empty.
        graphs: the ONNX graphs; none before export.
        golden: recorded inputs and outputs.
        references: models to compare with (graph artifacts only; compiling leaves them behind).
        backend: the backend of an engine.
        precision: the precision that an engine runs.
        target: full copy of the target of an engine.
        built_for: what the files that an engine's backend built depend on, such as `tensorrt`, `sm`, `sms` and
            `power_mode`; empty where it runs the ONNX graphs.
        contest: what was timed when backend and precision of an engine were chosen, that one first; engines made
            before there were contests have none.
        built_with: tool -> version.
        measurements, gates: of this artifact.
        history: its ancestors, oldest first.
        files: path relative to the artifact, with `/` -> sha256; `manifest.json` itself is not among them.
        card: licence, data, flaws and what else a user of the model should read.
        self_sha256: digest of the other fields, written when the artifact is sealed; empty before.
    """

    format: Literal[1] = FORMAT
    kind: ArtifactKind
    name: str = Field(min_length=1)
    key: Digest
    parent: Digest | None = None
    stage: dict[str, Any]
    image: ImageSize
    pose: PoseSpec
    times: tuple[Time, ...] = ()
    graphs: tuple[GraphSpec, ...] = ()
    golden: Golden | None = None
    references: tuple[Reference, ...] = ()
    backend: str | None = None
    precision: Precision | None = None
    target: dict[str, Any] | None = None
    built_for: dict[str, str] = {}
    contest: tuple[Contestant, ...] = ()
    built_with: dict[str, str] = {}
    measurements: tuple[Measurement, ...] = ()
    gates: tuple[GateResult, ...] = ()
    history: tuple[Ancestor, ...] = ()
    files: dict[str, Digest] = {}
    card: dict[str, str] = {}
    self_sha256: Digest | Literal[""] = ""

    @field_validator("times")
    @classmethod
    def _ascending(cls, times: tuple[float, ...]) -> tuple[float, ...]:
        if not _ascend(times):
            raise ValueError(f"not ascending, got {list(times)}, expected times from 0 (noise) to 1 (data)")
        return times

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or name == MANIFEST:
                raise ValueError(f"not inside the artifact, got {name!r}, expected a relative path")
        return files

    @model_validator(mode="after")
    def _listed(self) -> Self:
        """A sealed manifest lists every file that it speaks of; a draft has no list yet."""
        named = set(self.run_files())
        named |= {file for each in self.references for file in (each.source, each.frame)}
        missing = sorted(named - set(self.files)) if self.files or self.self_sha256 else []
        if missing:
            raise ValueError(f"named by graphs, golden or references but not among the files, got {missing}")
        return self

    @model_validator(mode="after")
    def _one_reference_a_row(self) -> Self:
        rows = [row for each in self.references for row in each.grids]
        twice = sorted({row for row in rows if rows.count(row) > 1})
        if twice or (rows and self.kind != "graph"):
            got = f"{twice} twice" if twice else f"references in kind {self.kind}"
            raise ValueError(f"wrong references, got {got}, expected each row once, in a graph")
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        chosen = [(each.backend, each.precision) for each in self.contest if each.chosen]
        if self.contest and chosen != [(self.backend, self.precision)]:
            expected = f"{self.backend} in {self.precision} alone"
            raise ValueError(f"wrong contest, got {chosen} as chosen, expected {expected}")
        return self

    def run_files(self) -> tuple[str, ...]:
        """Returns the files that running and replaying the model needs; those of references only are not."""
        golden = (self.golden.inputs, self.golden.outputs) if self.golden else ()
        return tuple(dict.fromkeys((*(graph.file for graph in self.graphs), *golden)))

    def takes_halves(self) -> bool:
        """Returns whether `flowpose halve` can add fp16 graphs: to a graph with an fp32 or INT8 frame, once."""
        frames = {graph.precision for graph in self.graphs if graph.name == "frame"}
        halved = any(graph.precision == "fp16" for graph in self.graphs)
        return self.kind == "graph" and not halved and bool(frames & {"fp32", "int8"})
