"""The JSON document of `flowpose bench`: everything that a run of it found; schema.json describes it."""

from __future__ import annotations

from typing import Any, Literal

from flowpose.bench.records import (
    ClosedLoop,
    ColdStarts,
    FrameParts,
    Observed,
    OpenLoop,
    Verdict,
)
from flowpose.bench.roofline import AgainstRoofline
from flowpose.runtime.machine import Machine
from flowpose.spec.base import Spec

SAMPLES = "ms"  # the key of raw samples, in any part of the document

Ratios = dict[str, dict[str, float]]
"""`a/b` -> how many times as long a takes as b, at p50 and p95."""


class ModelFacts(Spec):
    """A model that was measured; `size` is (height, width)."""

    name: str
    backend: str
    precision: str
    threads: int
    size: tuple[int, int]
    path: str
    key: str


class StageLatency(Spec):
    """A stage of a model (source, frame, session, infer), all models taking turns; ms, and fps at the mean.

    A percentile is None where too few samples lie above it, as in `Latency`.
    """

    label: str
    stage: str
    n: int
    mean: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    fps: float
    ms: tuple[float, ...] = ()


class BenchDocument(Spec):
    """What `flowpose bench --json` prints.

    Attributes:
        schema_version: of this layout; a change that a reader would misread raises it.
        model: path of the artifact.
        target: name of it.
        verdict: what the numbers are worth.
        machine: where they were measured.
        models: label -> model.
        warmup: runs before each stage that were not timed.
        stages: latencies in turns.
        ratios: of the frame graph; `by_stage`: of every stage.
        peak_memory_mb: most memory that the process had, all models loaded, MB.
        roofline: label -> the frame graph beside the prediction for the target.
        cold_start: fresh processes; None where none were started.
        frame_parts: where a frame's time goes.
        closed_loops, open_loops: the scenarios that were asked for.
        observed: the machine from the first stage to the last scenario.
    """

    schema_version: Literal[1] = 1
    model: str
    target: str
    verdict: Verdict
    machine: Machine
    models: dict[str, ModelFacts]
    warmup: int
    stages: tuple[StageLatency, ...]
    ratios: Ratios
    by_stage: dict[str, Ratios]
    peak_memory_mb: float
    roofline: dict[str, AgainstRoofline]
    cold_start: ColdStarts | None
    frame_parts: tuple[FrameParts, ...]
    closed_loops: tuple[ClosedLoop, ...]
    open_loops: tuple[OpenLoop, ...]
    observed: Observed

    def plain(self, *, raw: bool = False) -> dict[str, Any]:
        """Returns the document as JSON data; `raw` leaves every single sample in it."""
        data: dict[str, Any] = self.model_dump(mode="json")
        return data if raw else _without_samples(data)


def _without_samples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_samples(each) for key, each in value.items() if key != SAMPLES}
    return [_without_samples(each) for each in value] if isinstance(value, list) else value
