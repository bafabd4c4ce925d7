"""What a measurement found: as a record, as JSON, as a table."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.table import Table

from flowpose.bench.records import Latency
from flowpose.runtime.machine import Machine
from flowpose.runtime.timing import Timing

POINTS = ("p50", "p90", "p95", "p99")
RATIOS = ("p50", "p95")


@dataclasses.dataclass(frozen=True)
class StageTiming:
    """Timing of one stage of one model.

    Attributes:
        label: the model's name in the measurement.
        stage: source (the source graph), frame (the frame graph), session (a pose in, a picture out, the
            source encoded before), infer (a picture and a pose in, a picture out, nothing kept).
        timing: every duration, milliseconds.
    """

    label: str
    stage: str
    timing: Timing


@dataclasses.dataclass(frozen=True)
class Report:
    """A measurement.

    Attributes:
        machine: where it was made.
        models: label -> backend, precision, threads, path and key.
        stages: the timings.
        peak_memory_mb: most memory resident in the measuring process, with all models loaded, MB.
        warmup: untimed runs before each stage.
    """

    machine: Machine
    models: dict[str, dict[str, Any]]
    stages: tuple[StageTiming, ...]
    peak_memory_mb: float
    warmup: int

    def timing(self, label: str, stage: str) -> Timing:
        """Returns the timing of a model's stage; KeyError if it was not measured."""
        for found in self.stages:
            if (found.label, found.stage) == (label, stage):
                return found.timing
        raise KeyError((label, stage))


def percentiles(timing: Timing) -> dict[str, float | None]:
    """Returns n, mean, p50, p90, p95, p99 (ms; None where no sample lies above it, as in `Latency`) and fps."""
    found = Latency.of(timing.ms)
    points = {name: getattr(found, name) for name in ("n", "mean", *POINTS)}
    return {**points, "fps": 1000 / found.mean if found.mean > 0 else 0.0}


def ratios(report: Report, stage: str = "frame") -> dict[str, dict[str, float]]:
    """Returns how many times as long one model takes as another: `{"a/b": {"p50": 2.1, "p95": 2.0}}` for all
    pairs; without p95 where there are too few samples for one.

    Args:
        report: a measurement.
        stage: the stage to compare; models without it are left out.
    """
    found = {s.label: _told(s.timing) for s in report.stages if s.stage == stage}
    pairs = [(a, b) for a in found for b in found if a != b]
    return {
        f"{a}/{b}": {p: found[a][p] / found[b][p] for p in RATIOS if p in found[a].keys() & found[b].keys()}
        for a, b in pairs
    }


def _told(timing: Timing) -> dict[str, float]:
    return {name: value for name, value in percentiles(timing).items() if value is not None}


def to_json(report: Report, *, raw: bool = False) -> str:
    """Returns the report as a JSON document: machine, models, stages, ratios per stage, memory.

    Args:
        report: a measurement.
        raw: put every single duration in too.
    """
    stages = []
    for found in report.stages:
        entry: dict[str, Any] = {"label": found.label, "stage": found.stage, **percentiles(found.timing)}
        stages.append({**entry, "ms": found.timing.ms} if raw else entry)
    names = dict.fromkeys(found.stage for found in report.stages)
    data = {
        "machine": dataclasses.asdict(report.machine),
        "models": report.models,
        "warmup": report.warmup,
        "stages": stages,
        "ratios": {name: ratios(report, name) for name in names},
        "peak_memory_mb": report.peak_memory_mb,
    }
    return json.dumps(data, indent=1)


def table(report: Report) -> Table:
    """Returns the report as a table for the terminal."""
    machine, count = report.machine, max((len(s.timing.ms) for s in report.stages), default=0)
    threads = sorted({str(m["threads"]) for m in report.models.values() if "threads" in m})
    caption = f"{machine.cpu}, {' and '.join(threads)} threads, n = {count}, warm-up {report.warmup}, "
    caption += f"peak memory {report.peak_memory_mb:.0f} MB; milliseconds"
    made = Table(title="Latency", caption=caption)
    made.add_column("model")
    made.add_column("stage")
    for name in ("mean", *POINTS, "fps"):
        made.add_column(name, justify="right")
    for found in report.stages:
        told = _told(found.timing)
        numbers = [f"{told[name]:.2f}" if name in told else "-" for name in ("mean", *POINTS)]
        made.add_row(found.label, found.stage, *numbers, f"{told['fps']:.1f}")
    return made
