"""What `flowpose report` does: the page of a run again, from its artifacts and its report.json; nothing is measured."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpose import image
from flowpose.artifact import Artifact, find_by_key, open_artifact
from flowpose.bundle_record import RECORD as BUNDLE
from flowpose.errors import ArtifactError, IntegrityError, SpecError
from flowpose.image import Picture
from flowpose.job import stage_keys
from flowpose.predict_command import predict_model
from flowpose.report.line import Line, Stage, line_of, sibling_keys
from flowpose.report.run_html import Findings
from flowpose.report.run_record import (
    LATENCY,
    REPORT,
    SHEET,
    WORST,
    LayerNoise,
    RunRecord,
    read_record,
)
from flowpose.report.waterfall import Expected
from flowpose.spec.find import find
from flowpose.spec.reading import load_calibration, load_recipe

MODEL = "model"  # folder of the graph in an unpacked bundle
SENSITIVITY = "sensitivity.json"  # of a quantized student
SHEET_TEXT = "source, pose, truth, and what the forms make of them: teacher, student, engine; the first pairs"
WORST_TEXT = "the pairs that the engine draws worst by own-LPIPS, worst first"


@dataclass(frozen=True)
class Place:
    """What is reported on: an artifact, and the folder or file of its report; None where there is none."""

    artifact: Artifact
    report: Path | None


def find_place(name: str | Path, measured: Path | None = None) -> Place:
    """Returns the artifact that a name or folder means, and where its report lies.

    Args:
        name: a shipped model's name; the folder of an artifact, of a report (`report-...`) or of an unpacked bundle.
        measured: a report's folder or its `report.json`, where it is not beside the artifact.

    Raises:
        SpecError: no such model.
        ArtifactError: no artifact; a report whose engine is gone, or one of another model.
        IntegrityError: the artifact was changed.
    """
    folder = find("models", name)
    if (folder / REPORT).is_file():
        engine = read_record(folder / REPORT).engine
        found = find_by_key(folder.absolute().parents[1], engine) if engine else None
        if found is None:
            fix = "give the engine: flowpose report ENGINE --measured " + shlex.quote(str(folder))
            raise ArtifactError(folder, "its engine is not beside it", got=str(engine)[:12], fix=fix)
        return Place(open_artifact(found), folder)
    artifact = open_artifact(folder / MODEL if (folder / BUNDLE).is_file() else folder)
    return Place(artifact, measured if measured is not None else _report_beside(artifact))


def _report_beside(artifact: Artifact) -> Path | None:
    """The newest report of an engine in the folder of its recipe."""
    found = [
        (record.made or "", path.parent)
        for path in sorted(artifact.path.absolute().parent.glob(f"report-*/{REPORT}"))
        if (record := read_record(path)).engine == artifact.manifest.key
    ]
    return max(found)[1] if found else None


def gather(place: Place, target: str | None = None) -> Findings:
    """Returns everything that a page shows, of what is there.

    Args:
        place: of the artifact and its report.
        target: for which a frame's time is predicted where nothing was measured; an engine's own without it.

    Raises:
        ArtifactError: the report is of another model, or cannot be read.
        SpecError: no such target.
    """
    line = line_of(place.artifact, at_hand(place.artifact))
    folder = place.report if place.report is None or place.report.is_dir() else place.report.parent
    record = _record(place, line)
    predicted = record.predicted or fastest(place.artifact)
    more = {
        "predicted": predicted, "sensitivity": record.sensitivity or sensitivity(line),
        "commands": record.commands or commands(line, place.artifact.path),
    }  # fmt: skip
    failed = dict(_failed(place.artifact, line))
    return Findings(
        line=line, record=record.model_copy(update=more), latency=_latency(folder),
        pictures=_picture(folder, SHEET, SHEET_TEXT), worst={**_picture(folder, WORST, WORST_TEXT), **failed},
        expected=expected(place.artifact, target or line.target),
    )  # fmt: skip


def _record(place: Place, line: Line) -> RunRecord:
    """The report's record; an empty one without a report."""
    if place.report is None:
        return RunRecord(recipe=line.head.name)
    file = place.report / REPORT if place.report.is_dir() else place.report
    record = read_record(file)
    keys = {stage.key for stage in line.stages}
    kind = line.head.kind
    other = (kind == "engine" and record.engine not in keys) or (
        kind == "graph" and record.graph is not None and record.graph not in keys
    )
    if record.recipe != line.head.name or other:
        own = record.graph if kind == "graph" else record.engine
        got = f"{record.recipe}, {kind} {str(own)[:12]}"
        expected = f"{line.head.name}, {line.head.kind} {line.head.key[:12]}"
        raise ArtifactError(file, "is the report of another model", got=got, expected=expected)
    return record


def at_hand(artifact: Artifact) -> list[Artifact]:
    """Returns the artifacts behind one, and those beside it in a line, that lie below the same root."""
    manifest, root = artifact.manifest, artifact.path.absolute().parents[1]
    if not artifact.path.absolute().name.endswith(manifest.key[:12]):
        return []  # shipped or unpacked: nothing of its line lies around it
    keys = [*(each.key for each in manifest.history), *sibling_keys(manifest).values()]
    found = [find_by_key(root, key) for key in keys]
    return [open_artifact(path, verify=False) for path in found if path is not None]


def sensitivity(line: Line) -> tuple[LayerNoise, ...]:
    """Returns what quantizing each layer alone costs, from the quantized student where that is at hand."""
    stage = line.of("quantize")
    if stage is None or stage.path is None or not (stage.path / SENSITIVITY).is_file():
        return ()
    rows = json.loads((stage.path / SENSITIVITY).read_text("utf-8"))["layers"]
    return tuple(LayerNoise.parse({k: row[k] for k in LayerNoise.model_fields}, SENSITIVITY) for row in rows)


def fastest(artifact: Artifact) -> tuple[dict[str, Any], ...]:
    """Returns the fastest prediction of each target in the mode that it starts in and in its fastest.

    Of an artifact without graphs, or whose graphs nothing can count here, there are none.
    """
    rows = _forecast(artifact, None)
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda each: float(each["frame_ms"])):
        best.setdefault((row["target"], row["mode"]), row)
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in best.values():
        kept.setdefault((row["target"], "first"), row)
        if row["default"]:
            kept[row["target"], "default"] = row
    chosen = {(row["target"], row["mode"]): row for row in kept.values()}
    return tuple(chosen[key] for key in sorted(chosen))


def _forecast(artifact: Artifact, target: str | None) -> list[dict[str, Any]]:
    if not artifact.manifest.graphs:
        return []
    try:
        return list(predict_model(str(artifact.path), target, measured=False).plain["targets"])
    except ArtifactError:  # no costs.json, and no package that counts: the page says nothing then
        return []


def expected(artifact: Artifact, target: str | None) -> Expected | None:
    """Returns what a frame should take on a target, by precision; None without a target."""
    if target is None:
        return None
    rows = [row for row in _forecast(artifact, target) if row["default"]]
    best = {row["precision"]: row["frame_ms"] for row in sorted(rows, key=lambda r: -float(r["frame_ms"]))}
    return Expected(target, best) if best else None


def commands(line: Line, path: Path) -> tuple[str, ...]:
    """Returns what makes a line again, told from its artifacts alone: as far as a recipe of its name has its keys."""
    target = f" --target {shlex.quote(line.target)}" if line.target else ""
    run = f"flowpose run {shlex.quote(line.head.name)}{target}"
    note = (
        "" if _same_keys(line) else "   # not these keys: the recipe of this name differs, or is not shipped"
    )
    there = shlex.quote(str(path))
    after = [f"flowpose verify {there}", f"flowpose bench {there}"] if line.head.graphs else []
    return (run + note, *after, f"flowpose report {there} --html report.html")


def _same_keys(line: Line) -> bool:
    """Whether the shipped recipe of a line's name makes these keys."""
    try:
        recipe = load_recipe(line.head.name)
        calibration = load_calibration(recipe.quantize.calibration).model_dump(mode="json")
        keys = stage_keys(recipe, calibration)
    except (SpecError, IntegrityError):
        return False
    own: Sequence[Stage] = [stage for stage in line.stages if stage.name in keys]
    return bool(own) and all(keys[stage.name] == stage.key for stage in own)  # type: ignore[index]


def _latency(folder: Path | None) -> dict[str, Any] | None:
    if folder is None or not (folder / LATENCY).is_file():
        return None
    return dict(json.loads((folder / LATENCY).read_text("utf-8")))


def _picture(folder: Path | None, name: str, text: str) -> dict[str, Picture]:
    return {text: image.read(folder / name)} if folder is not None and (folder / name).is_file() else {}


def _failed(artifact: Artifact, line: Line) -> Iterator[tuple[str, Picture]]:
    """The sheets that stopped gates left in the folder of the recipe, with what they are about."""
    folder = artifact.path.absolute().parent / "failed"
    for stage in line.stages:
        for gate in stage.gates:
            file = folder / f"{stage.name}-{stage.key[:12]}-{gate.metric}.png"
            if not gate.passed and file.is_file():
                yield _why(stage, gate.metric, gate.value, gate.limit), image.read(file)


def _why(stage: Stage, metric: str, value: float, limit: float) -> str:
    return f"{stage.name}: the pairs that are worst in {metric}, {value:.4g} with the limit {limit:.4g}; worst first"
