"""Everything that is done on a GPU that is lent for minutes: checks, a training to fit, its evaluation, latency.

    PYTHONPATH=toolkit python3 benchmarks/gpu.py --recipe people-256-gpu --minutes 9 --data /tmp/data --out "$OUT"
    # and then again with --resume
    python benchmarks/gpu.py --unpack FOLDER --root artifacts      # here: FOLDER is what came back
    python benchmarks/gpu.py --smoke --out /tmp/smoke              # the same phases, micro sizes, on the CPU

Each phase runs in its own process with its own share of the time and leaves JSON, whatever becomes of the others.
benchmarks/README.md has the sequence of calls.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_checks
import gpu_engines
import gpu_latency
import gpu_parts
import numpy as np
import torch
from gpu_training import Note, Order, made, say, train

from flowpose import image
from flowpose.artifact import open_artifact
from flowpose.comparison import Draw, copy_source, row, truth_row, validation
from flowpose.evaluate import BATCH, teacher_grid, teacher_middle
from flowpose.job import Stage
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures, to_tensor
from flowpose.model.weights import STUDENT_GRID, STUDENT_SOLVER, load_generator
from flowpose.report import draw_pose, sheet
from flowpose.runtime.machine import machine

BUDGETS: Mapping[str, float] = {
    "checks": 0.1,
    "train": 0.54,
    "packing": 0.04,
    "evaluation": 0.06,
    "latency": 0.12,
    "engines": 0.12,
}
"""Phase -> its share of the call; what an earlier one leaves over goes to the next."""

PRIORITY: tuple[Stage, ...] = ("finish", "train", "distill", "autoencoder", "regressor")
"""What is packed first."""

TEACHER_STEPS = 16
SHEET_ROWS, LOG_BYTES = 8, 1 << 20
MICRO = (
    *(
        "data.identities=8",
        "data.pictures=3",
        "image.height=48",
        "image.width=32",
        "evaluate.pairs=2",
        "evaluate.sheet=2",
    ),
    *("autoencoder.widths=[8, 8, 8, 16]", "autoencoder.latents=4", "autoencoder.crop=16", "distill.pairs=8"),
    *("evaluate.teacher_steps=[1]", "distill.intervals=2", "distill.steps=2", "distill.middle=0.5"),
    *(f"{stage}={{optim: {{iterations: 2, batch: 6, lr: 1e-3}}}}" for stage in ("regressor", "finish")),
    *(f"{stage}.optim.batch=6" for stage in ("autoencoder", "train", "distill")),
    *("train.joints.batch=6", "train.joints.iterations=4", "train.joints.warmup=1"),
)


def device_here() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def described() -> dict[str, Any]:
    """The machine, and its GPU where it has one."""
    about: dict[str, Any] = {
        **asdict(machine()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        about["gpu"] = {"name": found.name, "memory_gib": round(found.total_memory / 2**30, 1),
                        "multiprocessors": found.multi_processor_count, "cuda": torch.version.cuda}  # fmt: skip
    return about


def checks(order: Order, note: Note) -> None:
    """Correctness; see gpu_checks."""
    seed, rows = secrets.randbelow(2**31), []
    recipe = order.loaded()
    with tempfile.TemporaryDirectory() as folder:
        for each in gpu_checks.checked(recipe, Path(folder), seed, device_here()):
            rows.append(each)
            note({"device": described(), "seed": seed, "size": recipe.image.model_dump(), "rows": rows,
                  "passed": all(row["passed"] for row in rows)})  # fmt: skip


def packing(order: Order, note: Note) -> None:
    """The artifacts as tar parts; see gpu_parts."""
    there = made(order)
    note(gpu_parts.pack([there[stage] for stage in PRIORITY if stage in there], order.out))


def rows_of(order: Order, device: torch.device) -> dict[str, Generator]:
    """Row -> generator on the device, as the training stages call them."""
    there, rows = made(order), {}
    if "regressor" in there:
        rows["l1"] = load_generator(open_artifact(there["regressor"])).on_grid(STUDENT_GRID, STUDENT_SOLVER)
    if "train" in there:
        artifact = open_artifact(there["train"])
        teacher, middle = load_generator(artifact), teacher_middle(artifact)
        for steps in sorted({*order.loaded().evaluate.teacher_steps, TEACHER_STEPS}):
            rows[f"teacher-{steps}"] = teacher.on_grid(teacher_grid(steps, middle), "euler")
    last = there.get("finish", there.get("distill"))
    if last:
        student, times = load_generator(open_artifact(last)), open_artifact(last).manifest.times
        rows["student-1"] = student.on_grid(STUDENT_GRID, STUDENT_SOLVER)
        if len(times) > 2:
            rows[f"student-{len(times) - 1}"] = student.on_grid(times, STUDENT_SOLVER)
    return {name: generator.to(device) for name, generator in rows.items()}


def drawer(generator: Generator, device: torch.device) -> Draw:
    """A generator as a Draw, in batches on the device."""

    @torch.no_grad()
    def draw(sources: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        parts = [slice(i, i + BATCH) for i in range(0, len(sources), BATCH)]
        poses = torch.from_numpy(np.ascontiguousarray(keypoints, np.float32)).to(device)
        return np.concatenate(
            [to_pictures(generator(to_tensor(sources[p], device), poses[p])) for p in parts]
        )

    return draw


def evaluation(order: Order, note: Note) -> None:
    """The table on val, and a contact sheet; in fp32 without TF32."""
    torch.backends.cudnn.allow_tf32 = False
    device, recipe = device_here(), order.loaded()
    pairs = validation(recipe, order.roots)
    draws = {name: drawer(each, device) for name, each in rows_of(order, device).items()}
    few = slice(0, SHEET_ROWS)
    poses = [draw_pose(pose, *pairs.sources.shape[1:3]) for pose in pairs.keypoints[few]]
    shown = {name: draw(pairs.sources[few], pairs.keypoints[few]) for name, draw in draws.items()}
    columns = {"source": pairs.sources[few], "pose": poses, "truth": pairs.truths[few], **shown}
    image.write(order.out / "sheet.png", sheet(list(zip(*columns.values(), strict=True)), list(columns)))
    rows = [truth_row(pairs).plain(), row("copy-source", copy_source, pairs).plain()]
    for name, draw in draws.items():
        rows.append(row(name, draw, pairs).plain())
        note(
            {"split": pairs.split, "n": len(pairs), "device": described(), "precision": "fp32", "rows": rows}
        )


def latency(order: Order, note: Note) -> None:
    """Frames of the student beside those of the teacher; see gpu_latency. fp32 is without TF32."""
    torch.backends.cudnn.allow_tf32 = False
    device = device_here()
    generators, weights = rows_of(order, device), "trained"
    recipe = order.loaded()
    pairs = validation(recipe, order.roots)
    if not {"student-1", "teacher-16"} <= set(generators):
        with tempfile.TemporaryDirectory() as folder:
            there = gpu_checks.world(recipe, Path(folder), 0)
        student = gpu_checks.student_of(there, recipe.distill).to(device)
        generators, weights = {"student-1": student, "teacher-16": there.teacher.to(device)}, "random"
    contenders = {
        "student-1": (generators["student-1"], STUDENT_GRID),
        "teacher-16": (generators["teacher-16"], teacher_grid(TEACHER_STEPS)),
    }
    few = slice(0, 2 if order.smoke else 8)
    sources, poses = (torch.from_numpy(each[few]).to(device) for each in (pairs.sources, pairs.keypoints))
    rounds, rows = (3, 1) if order.smoke else (200, 20), []
    for each in gpu_latency.measured(contenders, sources, poses, *rounds):
        rows.append(each)
        note({"device": described(), "weights": weights, "size": recipe.image.model_dump(), "rows": rows,
              "not_measured": [] if device.type == "cuda" else ["graph", "compile", "compile-graph"]})  # fmt: skip


def engines(order: Order, note: Note) -> None:
    """The shipped model compiled for this machine; see gpu_engines."""
    with tempfile.TemporaryDirectory() as folder:
        note({"device": described(), **gpu_engines.engine_of(Path(folder), smoke=order.smoke)})


PHASES: Mapping[str, Callable[[Order, Note], None]] = {
    "checks": checks, "train": train, "packing": packing, "evaluation": evaluation, "latency": latency,
    "engines": engines,
}  # fmt: skip


def carry(order: Order, name: str) -> None:
    """A phase in its own process: what it prints goes to the log, what it notes into its JSON."""
    log = os.open(order.work / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    file, begun = order.work / f"phase-{name}.json", time.perf_counter()
    known: dict[str, Any] = {"finished": False}

    def note(found: Mapping[str, Any]) -> None:
        known.update(found, seconds=round(time.perf_counter() - begun, 1))
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(known, indent=1) + "\n")
        fresh.replace(file)

    try:
        note({})
        PHASES[name](order, note)
        note({"finished": True})
    except BaseException:
        note({"error": traceback.format_exc()})
        raise


def collect(order: Order, names: Sequence[str], stopped: Mapping[str, str]) -> dict[str, Any]:
    """Writes results.json and the end of the log to `out`, from the phases that left something; the results."""
    files = {name: order.work / f"phase-{name}.json" for name in PHASES}
    results: dict[str, Any] = {"order": {**asdict(order), "phases": list(names)}, "stopped": dict(stopped)}
    results |= {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    (order.out / "results.json").write_text(json.dumps(results, indent=1, default=str) + "\n")
    log = order.work / "log.txt"
    if log.exists():
        (order.out / "log.txt").write_bytes(log.read_bytes()[-LOG_BYTES:])
    return results


def carried(order: Order, names: Sequence[str]) -> dict[str, Any]:
    """The results of the phases, each ended when its time is over."""
    context, begun, stopped = multiprocessing.get_context("fork"), time.monotonic(), dict[str, str]()
    total, until, results = sum(BUDGETS[name] for name in names), 0.0, collect(order, names, {})
    for name in names:
        until += BUDGETS[name] / total
        left = 60 * order.minutes * until - (time.monotonic() - begun)
        process = context.Process(target=carry, args=(order, name))
        process.start()
        process.join(max(1.0, left))
        if process.is_alive():
            process.kill()
            process.join()
            stopped[name] = f"after its {left:.0f} s"
        elif process.exitcode:
            stopped[name] = f"failed with {process.exitcode}"
        results = collect(order, names, stopped)
        say(f"{name}: {stopped.get(name, 'done')}, {time.monotonic() - begun:.0f} s so far")
    return results


def summary(results: Mapping[str, Any]) -> list[str]:
    """The lines that are printed last."""
    failed = [r for r in results.get("checks", {}).get("rows", ()) if not r["passed"]]
    lines = [f"FAILED {r['subject']} {r['output']} {r['mode']}: {r['error']} > {r['limit']}" for r in failed]
    for each in results.get("evaluation", {}).get("rows", ()):
        numbers = (f"{name} {found['value']:.3f}" for name, found in each["metrics"].items())
        lines += [f"{each['name']}: {'  '.join(numbers)}"]
    for r in results.get("latency", {}).get("rows", ()):
        if "failed" in r:
            lines.append(f"{r['name']} {r['mode']} {r['precision']}: FAILED {r['failed'].splitlines()[0]}")
            continue
        wrong = "" if r["passed"] else "  WRONG"
        lines.append(
            f"{r['name']} {r['mode']} {r['precision']}: p50 {r['p50']:.3f} p95 {r['p95']:.3f} ms{wrong}"
        )
    return lines


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="people-128")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a change to the recipe"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument(
        "--training", type=float, help="minutes of training in all calls; its share of this one"
    )
    parser.add_argument("--data", type=Path, help="the folder that holds the data sets' folders")
    parser.add_argument("--work", type=Path, default=Path("/tmp/flowpose-gpu"), help="kept between calls")
    parser.add_argument(
        "--resume", type=Path, nargs="?", const=True, help="go on with what is in DIR (or in --work)"
    )
    parser.add_argument(
        "--artifacts", type=Path, help="artifacts to start from, such as train.start's teacher"
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out/gpu")))
    parser.add_argument("--phases", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--smoke", action="store_true", help="micro sizes, whatever time they take")
    parser.add_argument("--unpack", type=Path, metavar="DIR", help="put the parts in DIR together, and end")
    parser.add_argument("--root", type=Path, default=Path("artifacts"), help="where --unpack puts artifacts")
    return parser.parse_args()


def ordered(asked: argparse.Namespace) -> Order:
    """The order, with its folders made."""
    work: Path = asked.resume if isinstance(asked.resume, Path) else asked.work
    if asked.smoke:
        work = Path(tempfile.mkdtemp(prefix="flowpose-gpu-"))
    elif bool(asked.resume) != (work / "log.txt").exists():
        wrong = "nothing to go on with" if asked.resume else "an earlier call's: --resume, or another --work"
        sys.exit(f"{work}: {wrong}")
    for folder in (work, asked.out):
        folder.mkdir(parents=True, exist_ok=True)
    if asked.artifacts:
        shutil.copytree(asked.artifacts, work / "artifacts", dirs_exist_ok=True)
    share = BUDGETS["train"] / sum(BUDGETS[name] for name in asked.phases) if "train" in asked.phases else 0.0
    return Order(
        recipe="tiny" if asked.smoke else asked.recipe, sets=(*(MICRO if asked.smoke else ()), *asked.set),
        minutes=60.0 if asked.smoke else asked.minutes, data=asked.data, smoke=asked.smoke, out=asked.out, work=work,
        training=0.0 if asked.smoke else asked.training or asked.minutes * share,
    )  # fmt: skip


def main() -> None:
    asked = read_arguments()
    if asked.unpack:
        for path in gpu_parts.unpack(asked.unpack, asked.root):
            say(str(path))
        return
    order = ordered(asked)
    results = carried(order, asked.phases)
    for line in summary(results):
        say(line)
    if order.smoke:
        shutil.rmtree(order.work)  # made by this call
    if results["stopped"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
