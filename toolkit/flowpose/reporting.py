"""The report of a run: quality of every form of the model, latency beside the teacher, sheets, and the page.

Everything is drawn by the graphs that ship: the engine, the graphs and the references beside them. All latencies
come from one run in which the models take turns; the teacher is the same kind of network in the same backend, so
the ratios compare steps and precision, not frameworks.
"""

from __future__ import annotations

import datetime
import json
import math
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowpose import bench, image
from flowpose.artifact import Artifact, stage_key
from flowpose.comparison import Pairs, measurements, validation
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import SpecError
from flowpose.evaluate_command import OWN, compare, contact_sheet, contenders
from flowpose.half_made import move, temporary
from flowpose.job import Job
from flowpose.pose import Pose
from flowpose.report import StageRow
from flowpose.report.line import line_of, row_of
from flowpose.report.run_html import write_run
from flowpose.report.run_record import LATENCY, RECIPE, REPORT, SHEET, WORST, RunRecord, Training, Worst
from flowpose.report.waterfall import megabytes
from flowpose.report_command import Place, fastest, gather, sensitivity
from flowpose.runtime import Model, load, load_reference, reference_rows
from flowpose.spec.manifest import Measurement
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe
from flowpose.worst_cases import worst_cases

if TYPE_CHECKING:
    from flowpose.pipeline import Done, Run

PAGE = "report.html"
PACE = "pace.json"  # of a training, in its work folder
ROOT = Path("artifacts")  # where runs keep things unless they are told otherwise


def report_path(run: Run, engine: Artifact) -> Path:
    """Where the report of an engine lies; another evaluation spec is another report."""
    config = {"evaluate": run.recipe.evaluate, "gates": list(run.recipe.gates), "waive": dict(run.waive)}
    key = stage_key(engine.manifest.key, "report", config)
    return run.root / run.recipe.name / f"report-{key[:12]}"


def write_report(run: Run, done: Sequence[Done], path: Path) -> None:
    """Measures what is not measured yet and writes the page, sheet.png, worst.png, latency.json, report.json.

    `recipe.yaml` beside them is the recipe as it was carried out, with every `--set`.
    """
    by_stage = {each.stage: each.artifact for each in done}
    graph, engine = by_stage["export"], by_stage["compile"]
    measured = _measure(run, graph, engine)
    with temporary(path) as folder:
        image.write(folder / SHEET, measured.sheet)
        image.write(folder / WORST, measured.worst_sheet)
        _write_json(folder / LATENCY, measured.latency)
        _write_json(folder / RECIPE, run.recipe.model_dump(mode="json"))  # JSON is YAML
        _write_json(folder / REPORT, _record(run, done, path, measured).model_dump(mode="json"))
        write_run(folder / PAGE, gather(Place(engine, folder)))
        shutil.rmtree(path, ignore_errors=True)  # of a run before this one
        move(folder, path)


@dataclass(frozen=True, eq=False)
class _Measured:
    """What only a run with the models in memory can find out."""

    quality: Sequence[Measurement]
    latency: Mapping[str, Any]
    worst: Sequence[Worst]
    sheet: image.Picture
    worst_sheet: image.Picture
    pairs: Pairs


def _measure(run: Run, graph: Artifact, engine: Artifact) -> _Measured:
    pairs = validation(run.recipe, run.data)
    models = _models(graph, engine)
    teachers = [row for row in models if row.startswith("teacher-")]
    worst, worst_sheet = worst_cases(
        models, row_of(str(engine.manifest.precision)), (*teachers[-1:], OWN["fp32"]), pairs
    )
    return _Measured(
        quality=measurements(compare(models, pairs), _set(run, graph, pairs)),
        latency=_latency(run, {**_own(models), **_teachers(run, graph, engine)}, pairs),
        worst=worst, sheet=contact_sheet(models, pairs, run.recipe.evaluate.sheet), worst_sheet=worst_sheet,
        pairs=pairs,
    )  # fmt: skip


def _record(run: Run, done: Sequence[Done], path: Path, found: _Measured) -> RunRecord:
    engine = done[-1].artifact
    line = line_of(engine, [each.artifact for each in done])
    every = [m for each in done for m in each.artifact.manifest.measurements] + list(found.quality)
    return RunRecord(
        recipe=run.recipe.name, engine=engine.manifest.key, graph=engine.manifest.parent,
        rows=tuple(_rows(done, found.quality, found.latency)),
        choice=engine.manifest.card.get("choice"), contest=engine.manifest.contest, measurements=tuple(every),
        ratios=found.latency["ratios"], made=_now(), target=line.target, data=found.quality[0].set,
        pairs=len(found.pairs), seed=run.recipe.evaluate.seed,
        gates=tuple(gate for each in done for gate in each.gates), training=training(run, done),
        worst=tuple(found.worst),
        predicted=fastest(engine), sensitivity=sensitivity(line), commands=commands(run, line.target, path, engine),
    )  # fmt: skip


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def training(run: Run, done: Sequence[Done]) -> dict[str, Training]:
    """Task -> pace of every training of these stages whose work folder is still there."""
    work = run.root / run.recipe.name / "work"
    found: dict[str, Training] = {}
    for each in done:
        made = each.artifact.manifest
        part = dict(made.stage.get(each.stage, {}))
        folder = work / f"{each.stage}-{made.key[:12]}"
        for name, spec, place in (
            (f"{each.stage} joints", part.get("joints"), folder / "joints"),
            (each.stage, part.get("optim"), folder),
        ):
            if spec is not None and (place / PACE).is_file():
                pace = json.loads((place / PACE).read_text("utf-8"))
                found[name] = Training(
                    iterations=spec["iterations"], counted=pace["iterations"], seconds=pace["seconds"]
                )
    return found


def commands(run: Run, target: str | None, path: Path, engine: Artifact) -> tuple[str, ...]:
    """What makes a run again: with the shipped recipe where that is the same, else with the one kept in the report."""
    recipe = run.recipe.name if _shipped(run.recipe) else str(path / RECIPE)
    parts = ["flowpose", "run", recipe]
    parts += ["--target", target] if target else []
    parts += ["--out", str(run.root)] if run.root != ROOT else []
    parts += [part for root in run.data if run.data != DEFAULT_ROOTS for part in ("--data", str(root))]
    parts += [part for metric, why in run.waive.items() for part in ("--waive", f"{metric}={why}")]
    there = shlex.quote(str(engine.path))
    after = (
        "verify {}",
        "bench {}",
        f"evaluate {{}} --split {run.recipe.evaluate.split}",
        "report {} --html report.html",
    )
    return (shlex.join(parts), *(f"flowpose {each.format(there)}" for each in after))


def _shipped(recipe: Recipe) -> bool:
    try:
        return load_recipe(recipe.name) == recipe
    except SpecError:
        return False


def _set(run: Run, graph: Artifact, pairs: Pairs) -> str:
    job = Job(recipe=run.recipe, stage="export", key=graph.manifest.key, root=run.root, data=run.data)
    return f"{job.set_name}/{pairs.split}"


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _threads(engine: Artifact) -> int:
    return int(engine.manifest.stage["threads"])


def _models(graph: Artifact, engine: Artifact) -> dict[str, Model]:
    """Row -> model in the engine's backend; the engine itself in the row of its precision."""
    models = contenders(graph, engine.manifest.backend, _threads(engine))
    return {**models, row_of(str(engine.manifest.precision)): load(engine.path)}


def _own(models: Mapping[str, Model]) -> dict[str, Model]:
    """The student in its precisions, which are timed."""
    return {name: model for name, model in models.items() if model.times is None}


def _teachers(run: Run, graph: Artifact, engine: Artifact) -> dict[str, Model]:
    """The teacher at each number of evaluations that is to be timed."""
    rows = [f"teacher-{steps}" for steps in run.recipe.evaluate.latency_steps]
    there = [row for row in rows if row in reference_rows(graph.manifest)]
    for row in sorted({*rows} - {*there}):
        run.say(f"report: {row} is not one of the graph's references, so it is not timed")
    backend, threads = engine.manifest.backend, _threads(engine)
    return {row: load_reference(graph.path, row, backend=backend, threads=threads) for row in there}


def _latency(run: Run, models: Mapping[str, Model], pairs: Pairs) -> dict[str, Any]:
    """All models' frame and source latencies, alternating, with every duration; as JSON data."""
    size = next(iter(models.values())).size
    poses = [Pose.of(pose, "coco-wholebody-133", size) for pose in pairs.keypoints[:8]]
    measured = bench.measure(
        models,
        pairs.sources[0],
        poses,
        n=run.recipe.evaluate.latency_runs,
        warmup=5,
        stages=("source", "frame"),
    )
    return json.loads(bench.to_json(measured, raw=True))  # type: ignore[no-any-return]


def _rows(done: Sequence[Done], quality: Sequence[Measurement], latency: Mapping[str, Any]) -> list[StageRow]:
    """One row a form of the model, baselines first."""
    labels = dict.fromkeys(m.stage for m in quality)
    times = {s["label"]: s for s in latency["stages"] if s["stage"] == "frame"}
    sizes = {
        m.metric: m.value for each in done for m in each.artifact.manifest.measurements if m.unit == "MB"
    }
    labels.update(dict.fromkeys(times))
    return [_row(label, quality, times.get(label), sizes) for label in labels]


def _row(
    label: str,
    measurements: Sequence[Measurement],
    timing: Mapping[str, Any] | None,
    sizes: Mapping[str, float],
) -> StageRow:
    found = {m.metric: m.value for m in measurements if m.stage == label and math.isfinite(m.value)}
    precision = PRECISIONS.get(label)
    steps = _steps(label)
    return StageRow(
        stage=label,
        steps=steps,
        precision=precision or ("fp32" if steps else None),
        megabytes=megabytes(label, sizes),
        ms_p50=timing["p50"] if timing else None,
        ms_p95=timing["p95"] if timing else None,
        **{name: found.get(name) for name in QUALITY},
    )


QUALITY = ("spectrum_top", "grid", "psnr", "ssim", "own_lpips", "pck", "jitter")
REDUCED = ("int8", "fp16", "fp8")  # rows that go by their precision
PRECISIONS = {**{row: precision for precision, row in OWN.items()}, **{each: each for each in REDUCED}}


def _steps(label: str) -> int | None:
    """Evaluations of the network in a row, None for what is no network."""
    if label in ("l1", *REDUCED):
        return 1
    kind, _, steps = label.partition("-")
    return int(steps) if kind in ("teacher", "student") else None
