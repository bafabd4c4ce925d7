"""The report of a run: quality of every form of the model, latency beside the teacher, and a contact sheet.

All latencies come from one run in which the models take turns. The teacher's graphs hold the same kind of
network in the same backend, so the ratios compare steps and precision, not frameworks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowpose import bench, image
from flowpose.artifact import Artifact, find_by_key, open_artifact, stage_key
from flowpose.pose import Pose
from flowpose.report import StageRow, draw_pose, sheet, write_html
from flowpose.runtime import Model, load
from flowpose.spec.manifest import Measurement

if TYPE_CHECKING:
    from flowpose.evaluate import Pairs
    from flowpose.pipeline import Done, Run

Images = NDArray[np.uint8]
COLUMNS = ("source", "pose", "truth", "teacher", "student fp32", "student int8")


def report_path(run: Run, engine: Artifact) -> Path:
    """Where the report of an engine lies; another evaluation spec is another report."""
    config = {"evaluate": run.recipe.evaluate, "gates": list(run.recipe.gates), "waive": dict(run.waive)}
    key = stage_key(engine.manifest.key, "report", config)
    return run.root / run.recipe.name / f"report-{key[:12]}"


def write_report(run: Run, done: Sequence[Done], path: Path) -> None:
    """Measures what is not measured yet and writes report.html, sheet.png, latency.json and report.json."""
    by_stage = {each.stage: each.artifact for each in done}
    engine = by_stage["compile"]
    students = _students(by_stage["export"], engine)
    teachers = {
        f"teacher-{steps}": _teacher(run, by_stage["train"], engine, steps)
        for steps in run.recipe.evaluate.latency_steps
    }
    quality, picture = _quality(run, by_stage, students)
    latency = _latency(run, {**students, **teachers})
    rows = _rows(done, quality, latency)
    measurements = [m for each in done for m in each.artifact.manifest.measurements] + list(quality)
    with _whole(path) as folder:
        image.write(folder / "sheet.png", picture)
        _write_json(folder / "latency.json", latency)
        write_html(
            folder / "report.html", f"flowpose {run.recipe.name}", rows, {" | ".join(COLUMNS): picture},
            gates=[gate for each in done for gate in each.gates], measurements=measurements,
            history=engine.manifest.history,
            facts={"engine": str(engine.path), "choice": engine.manifest.card["choice"]},
        )  # fmt: skip
        summary = {
            "recipe": run.recipe.name,
            "engine": engine.manifest.key,
            "rows": [asdict(row) for row in rows],
            "measurements": [m.model_dump() for m in measurements],
            "ratios": latency["ratios"],
        }
        _write_json(folder / "report.json", summary)


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


def _students(graph: Artifact, engine: Artifact) -> dict[str, Model]:
    """The student in both precisions, in the engine's backend; the engine itself where it is that precision."""
    made: dict[str, Model] = {}
    for precision in ("int8", "fp32"):
        if precision == engine.manifest.precision:
            made[f"student {precision}"] = load(engine.path)
        else:
            backend, threads = engine.manifest.backend, _threads(engine)
            made[f"student {precision}"] = load(
                graph.path, precision=precision, backend=backend, threads=threads
            )
    return made


def _threads(engine: Artifact) -> int:
    return int(engine.manifest.stage["threads"])


def _teacher(run: Run, teacher: Artifact, engine: Artifact, steps: int) -> Model:
    """The teacher's graph at that many evaluations, in the engine's backend."""
    from flowpose.export import export_teacher, teacher_job
    from flowpose.flow import end_dense

    job = teacher_job(run.recipe, teacher, run.root, end_dense(steps), "euler", run.data)
    found = find_by_key(run.root, job.key)
    graph = open_artifact(found) if found else export_teacher(job, end_dense(steps), "euler")
    return load(graph.path, backend=engine.manifest.backend, threads=_threads(engine))


def _drawer(model: Model) -> Callable[[Images, NDArray[np.float32]], Images]:
    """A runtime model as something that evaluation can draw with."""

    def draw(sources: Images, keypoints: NDArray[np.float32]) -> Images:
        pairs = zip(sources, keypoints, strict=True)
        return np.stack([model.infer(source, _pose(pose, model)) for source, pose in pairs])

    return draw


def _pose(keypoints: NDArray[np.float32], model: Model) -> Pose:
    return Pose.of(keypoints, "coco-wholebody-133", model.size)


def _quality(
    run: Run, artifacts: Mapping[str, Artifact], models: Mapping[str, Model]
) -> tuple[tuple[Measurement, ...], Images]:
    """Scores of everything on the same pairs, and the contact sheet."""
    from flowpose.evaluate import baselines, drawer, measure, teacher_rows, validation
    from flowpose.job import Job
    from flowpose.model.weights import load_generator

    export = artifacts["export"]
    job = Job(recipe=run.recipe, stage="export", key=export.manifest.key, root=run.root, data=run.data)
    teacher, student = load_generator(artifacts["train"]), load_generator(artifacts["distill"])
    compiled = [(label, _drawer(model)) for label, model in models.items()]
    quality = (
        *baselines(job),
        *teacher_rows(job, teacher),
        *measure(job, [("student", drawer(student)), *compiled]),
    )
    pairs = validation(run.recipe, run.data)
    return quality, _sheet(run.recipe.evaluate.sheet, pairs, drawer(teacher), models)


def _sheet(
    count: int,
    pairs: Pairs,
    teacher: Callable[[Images, NDArray[np.float32]], Images],
    models: Mapping[str, Model],
) -> Images:
    sources, poses = pairs.sources[:count], pairs.keypoints[:count]
    height, width = sources.shape[1:3]
    columns = [
        sources,
        [draw_pose(pose, height, width) for pose in poses],
        pairs.truths[:count],
        teacher(sources, poses),
        _drawer(models["student fp32"])(sources, poses),
        _drawer(models["student int8"])(sources, poses),
    ]
    return sheet(list(zip(*columns, strict=True)), COLUMNS)


def _latency(run: Run, models: Mapping[str, Model]) -> dict[str, Any]:
    """All models' frame and source latencies, alternating; as JSON data."""
    from flowpose.evaluate import validation

    pairs = validation(run.recipe, run.data)
    model = next(iter(models.values()))
    poses = [_pose(pose, model) for pose in pairs.keypoints[:8]]
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
    precision = label.rpartition(" ")[2] if label.startswith("student ") else None
    steps = (
        int(label.rpartition("-")[2])
        if label.startswith("teacher-")
        else (1 if label.startswith("student") else None)
    )
    frame = sizes.get(f"size_frame.{precision}")
    return StageRow(
        stage=label,
        steps=steps,
        precision=precision or ("fp32" if steps else None),
        megabytes=frame + sizes["size_source"] if frame else None,
        ms_p50=timing["p50"] if timing else None,
        ms_p95=timing["p95"] if timing else None,
        sharpness=found.get("sharpness"),
        psnr=found.get("psnr"),
        ssim=found.get("ssim"),
        own_lpips=found.get("own_lpips"),
        pose=found.get("pose"),
    )
