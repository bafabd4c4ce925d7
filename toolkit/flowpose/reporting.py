"""The report of a run: quality of every form of the model, latency beside the teacher, and a contact sheet.

Everything is drawn by the graphs that ship: the engine, the graphs and the references beside them. All latencies
come from one run in which the models take turns; the teacher is the same kind of network in the same backend, so
the ratios compare steps and precision, not frameworks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowpose import bench, image
from flowpose.artifact import Artifact, stage_key
from flowpose.comparison import Pairs, measurements, validation
from flowpose.compile import EXCLUDED
from flowpose.evaluate_command import COLUMNS, OWN, compare, contact_sheet, contenders
from flowpose.job import Job
from flowpose.pose import Pose
from flowpose.report import Evidence, StageRow, write_html
from flowpose.runtime import Model, load, load_reference, reference_rows
from flowpose.spec.manifest import Measurement

if TYPE_CHECKING:
    from flowpose.pipeline import Done, Run


def report_path(run: Run, engine: Artifact) -> Path:
    """Where the report of an engine lies; another evaluation spec is another report."""
    config = {"evaluate": run.recipe.evaluate, "gates": list(run.recipe.gates), "waive": dict(run.waive)}
    key = stage_key(engine.manifest.key, "report", config)
    return run.root / run.recipe.name / f"report-{key[:12]}"


def write_report(run: Run, done: Sequence[Done], path: Path) -> None:
    """Measures what is not measured yet and writes report.html, sheet.png, latency.json and report.json."""
    by_stage = {each.stage: each.artifact for each in done}
    graph, engine = by_stage["export"], by_stage["compile"]
    pairs = validation(run.recipe, run.data)
    models = _models(graph, engine)
    quality = measurements(compare(models, pairs), _set(run, graph, pairs))
    picture = contact_sheet(models, pairs, run.recipe.evaluate.sheet)
    latency = _latency(run, {**_own(models), **_teachers(run, graph, engine)}, pairs)
    rows = _rows(done, quality, latency)
    every = [m for each in done for m in each.artifact.manifest.measurements] + list(quality)
    with _whole(path) as folder:
        image.write(folder / "sheet.png", picture)
        _write_json(folder / "latency.json", latency)
        write_html(
            folder / "report.html", f"flowpose {run.recipe.name}", rows, {" | ".join(COLUMNS): picture},
            evidence=Evidence(
                contest=engine.manifest.contest, gates=[gate for each in done for gate in each.gates],
                measurements=every, history=engine.manifest.history,
            ),
            facts={"engine": str(engine.path), **_why(engine)},
        )  # fmt: skip
        summary = {
            "recipe": run.recipe.name,
            "engine": engine.manifest.key,
            "rows": [asdict(row) for row in rows],
            "choice": engine.manifest.card["choice"],
            "contest": [each.model_dump() for each in engine.manifest.contest],
            "measurements": [m.model_dump() for m in every],
            "ratios": latency["ratios"],
        }
        _write_json(folder / "report.json", summary)


def _why(engine: Artifact) -> dict[str, str]:
    """The sentence of the choice, and what could not take part in it."""
    return {k: text for k, text in engine.manifest.card.items() if k == "choice" or k.startswith(EXCLUDED)}


def _set(run: Run, graph: Artifact, pairs: Pairs) -> str:
    job = Job(recipe=run.recipe, stage="export", key=graph.manifest.key, root=run.root, data=run.data)
    return f"{job.set_name}/{pairs.split}"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place when the block ends well."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _threads(engine: Artifact) -> int:
    return int(engine.manifest.stage["threads"])


def _models(graph: Artifact, engine: Artifact) -> dict[str, Model]:
    """Row -> model in the engine's backend; the engine itself in the row of its precision."""
    models = contenders(graph, engine.manifest.backend, _threads(engine))
    precision = str(engine.manifest.precision)
    return {**models, OWN.get(precision, precision): load(engine.path)}


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
    """All models' frame and source latencies, alternating; as JSON data."""
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
    return json.loads(bench.to_json(measured))  # type: ignore[no-any-return]


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
    found = {m.metric: m.value for m in measurements if m.stage == label}
    precision = PRECISIONS.get(label)
    steps = _steps(label)
    frame = sizes.get(f"size_frame.{precision}")
    return StageRow(
        stage=label,
        steps=steps,
        precision=precision or ("fp32" if steps else None),
        megabytes=frame + sizes["size_source"] if frame else _reference_size(label, sizes),
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


def _reference_size(label: str, sizes: Mapping[str, float]) -> float | None:
    """MB of the two graphs of a reference; the student's two steps share its own source graph."""
    kind = label.partition("-")[0]
    frame = sizes.get(f"size_{kind}.frame")
    return frame + sizes.get(f"size_{kind}.source", sizes["size_source"]) if frame else None
