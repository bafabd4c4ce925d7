"""The demo: a shipped model on shipped samples, on photographs where there are some, and on a motion."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flowpose import bench, image, samples
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.pose import Pose
from flowpose.pose_files import read_poses
from flowpose.report import draw_pose, sheet, write_video
from flowpose.runtime import Model, load, load_reference, reference_rows
from flowpose.runtime.loading import DEFAULT_MODEL, precisions

__all__ = ["TEACHERS", "DemoResult", "LatencyRow", "run_demo"]

Picture = NDArray[np.uint8]
Say = Callable[[str], None]

TEACHERS: Mapping[str, str] = MappingProxyType(
    {
        "teacher, 16 evaluations": "teacher-16",
        "teacher, 50 evaluations": "teacher-50",
    }
)
"""Label -> reference of the model: its teacher, at so many evaluations of its network for each frame; those that
are not shipped are listed as not measured."""

STUDENT_RUNS, STUDENT_WARMUP = 100, 10
TURNS, TURNS_WARMUP = (
    20,
    2,
)  # of students and teachers together: 50 evaluations take a second or so on two cores


@dataclass(frozen=True)
class LatencyRow:
    """What one frame costs a model: the frame graph alone, all models taking turns in one process.

    Attributes:
        label: which model.
        p50, p95: milliseconds; None where it was not measured.
        ratio: its p50 divided by that of the first row, None where it was not measured.
        note: why it was not measured.
    """

    label: str
    p50: float | None = None
    p95: float | None = None
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        files: everything written.
        latency: a row for each model; the first is the student in the precision that `load` takes.
        seconds: duration of the whole demo.
    """

    files: tuple[Path, ...]
    latency: tuple[LatencyRow, ...]
    seconds: float


def run_demo(
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    data: Sequence[Path] = DEFAULT_ROOTS,
    threads: int | None = None,
    turns: int = TURNS,
    say: Say = print,
) -> DemoResult:
    """Writes contact-sheet.png, real.png, motion.mp4, motion.gif and latency.json, and returns what it made.

    Args:
        out: the folder to write to; made if it is missing.
        model: name or directory of the student; every precision that it has is shown.
        data: folders that may hold `real/` with photographs; without one real.png is left out.
        threads: CPU threads for each run; as `flowpose.load` takes them when None.
        turns: timed runs of each model in the comparison.
        say: given each line of text.

    Raises:
        FlowposeError: what loading a model, running it or writing a file raises.
    """
    began, folder = time.perf_counter(), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    students = _students(model, threads)
    first = next(iter(students.values()))
    height, width = first.size
    say(f"{model}: {height} x {width} (height x width), {first.backend}, {first.threads} threads")
    files = [
        _written("people of the test split", _samples(students, folder / "contact-sheet.png"), say),
        *_photographs(students, folder / "real.png", data, say),
        *_motion(students, folder, say),
    ]
    rows, document = _latencies(students, threads, turns, say)
    latency = folder / "latency.json"
    latency.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    files.append(_written("latencies", latency, say))
    seconds = time.perf_counter() - began
    say(f"done in {seconds:.0f} s")
    return DemoResult(tuple(files), rows, seconds)


def _students(model: str | Path, threads: int | None) -> dict[str, Model]:
    """Precision -> model; first the one that `load` takes by itself."""
    first = load(model, threads=threads)
    rest = precisions(first.manifest) if first.manifest.kind == "graph" else ()
    others = {p: load(model, precision=p, threads=threads) for p in rest if p != first.precision}
    return {first.precision: first, **others}


def _samples(students: Mapping[str, Model], file: Path) -> Path:
    rows = [_row(students, pair.source, pair.pose, pair.truth) for pair in samples.pairs()]
    return image.write(file, sheet(rows, ["source", "pose", "truth", *students]))


def _row(students: Mapping[str, Model], source: Picture, pose: Pose, truth: Picture) -> list[Picture]:
    """Source, skeleton, truth, and what each student makes, all of the model's size."""
    model = next(iter(students.values()))
    drawn = draw_pose(model.keypoints(pose, model.size), *model.size)
    made = [student.infer(source, pose) for student in students.values()]
    return [image.fit(source, *model.size), drawn, image.fit(truth, *model.size), *made]


def _photographs(students: Mapping[str, Model], file: Path, data: Sequence[Path], say: Say) -> list[Path]:
    """The first photograph put into the poses of the others; nothing where there are none."""
    found = [root / "real" for root in data if (root / "real" / "keypoints.json").is_file()]
    if not found:
        say("photographs: none in " + " or ".join(str(root / "real") for root in data) + ", left out")
        return []
    entries = json.loads((found[0] / "keypoints.json").read_text("utf-8"))
    names = {entry["id"]: entry["file_name"] for entry in entries["images"]}
    pictures = [image.read(found[0] / names[entry["image_id"]]) for entry in entries["annotations"]]
    poses = read_poses(found[0] / "keypoints.json")
    rows = [_row(students, pictures[0], p, truth) for p, truth in zip(poses[1:], pictures[1:], strict=True)]
    image.write(file, sheet(rows, ["source", "pose", "truth", *students]))
    return [_written("a real person", file, say)]


def _motion(students: Mapping[str, Model], folder: Path, say: Say) -> list[Path]:
    precision, model = next(iter(students.items()))
    moving = samples.motion()
    session, still = model.session(moving.source), image.fit(moving.source, *model.size)
    frames = []
    for pose in moving.poses:
        drawn = draw_pose(model.keypoints(pose, model.size), *model.size)
        frames.append(sheet([[still, drawn, session.infer(pose)]], ["source", "pose", precision]))
    files = [write_video(folder / name, frames, moving.rate) for name in ("motion.mp4", "motion.gif")]
    return [_written(f"a motion of {len(frames)} frames", file, say) for file in files]


def _latencies(
    students: Mapping[str, Model],
    threads: int | None,
    turns: int,
    say: Say,
) -> tuple[tuple[LatencyRow, ...], dict[str, Any]]:
    """The rows, and the JSON document that holds everything behind them."""
    source, poses = samples.source("sweater"), [pair.pose for pair in samples.pairs()]
    first = next(iter(students.values()))
    there = reference_rows(first.manifest)
    absent = {
        label: f"{first.manifest.name}'s {reference} is not shipped"
        for label, reference in TEACHERS.items()
        if reference not in there
    }
    models = {f"student, 1 evaluation, {precision}": model for precision, model in students.items()}
    alone = bench.measure(models, source, poses, n=STUDENT_RUNS, warmup=STUDENT_WARMUP)
    for label, reference in TEACHERS.items():
        if label not in absent:
            models[f"{label}, fp32"] = load_reference(first.path, reference, threads=threads)
    together = bench.measure(models, source, poses, n=turns, warmup=TURNS_WARMUP, stages=("frame",))
    rows = (
        *_rows(together, tuple(models)),
        *(LatencyRow(label, note=f"not measured: {why}") for label, why in absent.items()),
    )
    say(_text(_comparison(rows, together, turns)))
    for row in rows:
        if row.note:
            say(f"{row.label}: {row.note}")
    say(_text(bench.table(alone)))
    document = {
        "comparison": [asdict(row) for row in rows],
        "turns": json.loads(bench.to_json(together, raw=True)),
        "student": json.loads(bench.to_json(alone)),
        "source": "sample 'sweater'",
        "poses": len(poses),
    }
    return rows, document


def _rows(report: bench.Report, labels: Sequence[str]) -> tuple[LatencyRow, ...]:
    base = report.timing(labels[0], "frame").percentile(50)
    rows = []
    for label in labels:
        timing = report.timing(label, "frame")
        half = timing.percentile(50)
        rows.append(LatencyRow(label, half, timing.percentile(95), half / base))
    return tuple(rows)


def _comparison(rows: Sequence[LatencyRow], report: bench.Report, turns: int) -> Table:
    models = next(iter(report.models.values()))
    caption = f"{report.machine.cpu}, {models['backend']}, {models['threads']} threads, n = {turns}, in turns"
    made = Table(title="One frame (the frame graph alone)", caption=caption)
    made.add_column("model")
    for name in ("ms p50", "ms p95", "times the first"):
        made.add_column(name, justify="right")
    for row in rows:
        if row.p50 is None or row.p95 is None or row.ratio is None:
            made.add_row(row.label, "-", "-", "not measured")
        else:
            made.add_row(row.label, f"{row.p50:.2f}", f"{row.p95:.2f}", f"{row.ratio:.2f}")
    return made


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=110)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _written(what: str, file: Path, say: Say) -> Path:
    say(f"{what}: {file}")
    return file
