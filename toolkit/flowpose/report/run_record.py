"""`report.json`: what a run's report measured itself, beside what the manifests hold."""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt, field_validator

from flowpose.errors import ArtifactError
from flowpose.report.html import StageRow
from flowpose.spec.base import Spec
from flowpose.spec.manifest import Contestant, Digest, GateResult, Measurement

REPORT, LATENCY, SHEET, WORST, RECIPE = "report.json", "latency.json", "sheet.png", "worst.png", "recipe.yaml"
"""The files of a report beside the page."""


class Training(Spec):
    """How long a training's steps took.

    Attributes:
        iterations: of the whole training.
        counted: those that were timed, of the process that ended it; a resumed one counts fewer.
        seconds: of the counted ones.
    """

    iterations: PositiveInt
    counted: PositiveInt
    seconds: FiniteFloat

    @property
    def whole(self) -> float:
        """Seconds of all iterations at the pace of those that were counted."""
        return self.seconds / self.counted * self.iterations


class Worst(Spec):
    """A pair that the engine draws worst.

    Attributes:
        pair: its number among the pairs of the set.
        scores: metric -> value of the engine's picture.
        beside: row -> own-LPIPS of the other forms' pictures of the pair.
        why: what is wrong with it, and in which form it begins.
    """

    pair: NonNegativeInt
    scores: dict[str, FiniteFloat]
    beside: dict[str, FiniteFloat] = {}
    why: str


class LayerNoise(Spec):
    """What quantizing one layer alone costs: PSNR to the student, dB, its mean and 5th percentile."""

    layer: str
    psnr: FiniteFloat
    low: FiniteFloat


class RunRecord(Spec):
    """What `report.json` holds. Reports made before `format` was written lack what follows it.

    Attributes:
        recipe: its name.
        engine, graph: keys of the engine that was measured, and of the graph that it was made from.
        rows: the table of forms.
        choice, contest: as the engine's manifest.
        measurements: everything measured, the stages' and the report's own.
        ratios: stage -> `a/b` -> how many times as long.
        made: when, UTC.
        target: name of the target.
        data, pairs, seed: on what the forms were judged.
        gates: of all stages, as this run judged them.
        training: task -> pace; a task is called as its stage, with a second word where the stage has several.
        worst: worst first.
        predicted: rows of `flowpose predict`, the fastest form of each target and power mode.
        sensitivity: most sensitive layer first.
        commands: what makes all this again.
    """

    recipe: str
    engine: Digest | None = None
    graph: Digest | None = None
    rows: tuple[StageRow, ...] = ()
    choice: str | None = None
    contest: tuple[Contestant, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    ratios: dict[str, Any] = {}
    format: Literal[1] = 1
    made: str | None = None
    target: str | None = None
    data: str | None = None
    pairs: PositiveInt | None = None
    seed: NonNegativeInt | None = None
    gates: tuple[GateResult, ...] = ()
    training: dict[str, Training] = {}
    worst: tuple[Worst, ...] = ()
    predicted: tuple[dict[str, Any], ...] = ()
    sensitivity: tuple[LayerNoise, ...] = ()
    commands: tuple[str, ...] = ()

    @field_validator("rows")
    @classmethod
    def _finite(cls, rows: tuple[StageRow, ...]) -> tuple[StageRow, ...]:
        """What is no number was not measured."""
        return tuple(StageRow(*(_known(value) for value in astuple(row))) for row in rows)

    def row(self, stage: str | None) -> StageRow | None:
        """Returns the line of a form; None where it was not measured."""
        return next((each for each in self.rows if each.stage == stage), None)

    def seconds(self, stage: str) -> float | None:
        """Returns how long the trainings of a stage take at their pace; None where no pace was kept."""
        found = [each.whole for task, each in self.training.items() if task.split(" ")[0] == stage]
        return sum(found) if found else None

    def measured(self, stage: str, metric: str) -> Measurement | None:
        """Returns a form's measurement, the graphs' before that of a stage; None where it was not kept."""
        found = [m for m in self.measurements if (m.stage, m.metric) == (stage, metric)]
        return found[-1] if found else None


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(path: Path) -> RunRecord:
    """Returns what a `report.json` holds.

    Raises:
        ArtifactError: it cannot be read, or is no JSON.
        SpecError: it is no report; lists every problem.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        fix = "make it again: flowpose run RECIPE"
        raise ArtifactError(path, f"cannot be read ({error})", expected="a report.json", fix=fix) from error
    return RunRecord.parse(data, "report", source=path)
