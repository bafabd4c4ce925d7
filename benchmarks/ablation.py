"""The ablation: distillation methods, z*, students and pose conditionings on one recipe, at equal budgets.

    python benchmarks/ablation.py --iterations 150 --json FILE.json --table docs/ablation.md

Every student starts from the recipe's teacher, which is made first where it is missing. All see the same number
of conditions; a finish takes its iterations from the same budget. What exists is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from page_tables import put

from flowpose.artifact import Artifact
from flowpose.job import Stage
from flowpose.pipeline import Run
from flowpose.runtime.machine import machine
from flowpose.spec.reading import load_recipe

Settings = Mapping[str, Any]
COLUMNS = ("psnr", "ssim", "own_lpips", "kid", "spectrum_top", "grid", "pck", "identity")
TRUTH: Settings = {"method": "trajectory", "solved": 0.0}
PAIRS = {"pairs": 256, "solved": 0.5}

METHODS: Mapping[str, Settings] = {
    "truth only, z* zero": TRUTH,
    "truth only, z* fixed": {**TRUTH, "noise": "fixed"},
    "trajectory, z* zero": {"method": "trajectory", **PAIRS},
    "trajectory, z* fixed": {"method": "trajectory", "noise": "fixed", **PAIRS},
    "bootstrap, z* fixed": {"method": "bootstrap", "noise": "fixed"},
    "flow map, z* fixed": {"method": "flowmap", "noise": "fixed", "steps": 2},
    "truth only, two steps": {**TRUTH, "steps": 2},
    "truth only, detail": {**TRUTH, "detail": True},
    "edge student": {**TRUTH, "student": {"kind": "edge"}},
}
FINISHED: Mapping[str, tuple[Settings, Settings]] = {
    "truth only + adversarial": (TRUTH, {}),
    "trajectory + adversarial": ({"method": "trajectory", **PAIRS}, {}),
    "flow map + adversarial": ({"method": "flowmap", "noise": "fixed", "steps": 2}, {}),
    "truth only, detail + adversarial": (
        {**TRUTH, "detail": True},
        {"share": 0.3, "texture": 0.5, "steady": 1.0},
    ),
}
POSES = ("limb-field", "skeleton-latent")


def optim(iterations: int, batch: int, lr: float, seed: int) -> Settings:
    """The optimization of every variant."""
    return {
        "iterations": iterations, "batch": batch, "lr": lr, "warmup": min(20, iterations // 4), "ema": 0.98,
        "precision": "bf16", "seed": seed, "checkpoint_every": iterations,
    }  # fmt: skip


def variants(iterations: int, batch: int, seed: int) -> Iterator[tuple[str, list[str], Stage]]:
    """(name, overrides of the recipe, the stage that makes it)."""
    whole = optim(iterations, batch, 5e-4, seed)
    half = optim(iterations // 2, batch, 5e-4, seed)
    end = optim(iterations - iterations // 2, batch, 2e-4, seed)
    off = ["finish=null", "regressor=null", "gates=[]"]
    for name, settings in METHODS.items():
        yield name, [f"distill={json.dumps({**settings, 'optim': whole})}", *off], "distill"
    yield (
        "L1 regressor",
        [f"regressor={json.dumps({'optim': whole})}", "finish=null", "gates=[]"],
        "regressor",
    )
    for name, (settings, own) in FINISHED.items():
        finish = json.dumps({**own, "optim": end})
        over = [
            f"distill={json.dumps({**settings, 'optim': half})}",
            f"finish={finish}",
            "regressor=null",
            "gates=[]",
        ]
        yield name, over, "finish"


def teachers(iterations: int, batch: int, seed: int) -> Iterator[tuple[str, list[str], Stage]]:
    """Teachers that differ in how the pose enters, both trained from the start."""
    run = optim(iterations, batch, 1e-3, seed)
    for pose in POSES:
        over = [
            f"model.pose={pose}",
            f"train.optim={json.dumps(run)}",
            f"train.joints.iterations={2 * iterations}",
            "evaluate.teacher_steps=[1, 16]",
            "gates=[]",
        ]
        # A drawn skeleton is not matched with the source, so students could carry nothing.
        plain = [] if pose == "limb-field" else ["distill.detail=false", "regressor=null"]
        yield f"teacher, {pose}", over + plain, "train"


def measured(artifact: Artifact) -> Iterator[tuple[str, dict[str, float]]]:
    """(label, metric -> value) of everything the artifact's stage drew, baselines left out."""
    labels = dict.fromkeys(m.stage for m in artifact.manifest.measurements)
    for label in labels:
        values = {m.metric: m.value for m in artifact.manifest.measurements if m.stage == label}
        if label not in ("truth", "copy-source") and all(column in values for column in COLUMNS):
            yield label, {column: values[column] for column in COLUMNS}


def carried_out(recipe: str, variant: tuple[str, list[str], Stage], root: Path) -> list[dict[str, Any]]:
    """The rows of one variant; `seconds` is None where it was there already."""
    name, overrides, stage = variant
    begun = time.perf_counter()
    run = Run(recipe=load_recipe(recipe, overrides), root=root, say=print)
    done = {each.stage: each for each in run.stages(stage)}
    made = done[stage]
    fresh = any(
        not done[each].skipped for each in ("train", "regressor", "distill", "finish") if each in done
    )
    seconds = round(time.perf_counter() - begun, 1) if fresh else None
    return [
        {"variant": name, "row": label, **values, "seconds": seconds, "key": made.artifact.manifest.key}
        for label, values in measured(made.artifact)
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ("variant", "row", *COLUMNS, "seconds")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row[name] if isinstance(row[name], str) else _number(row[name]) for name in head]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="people-128")
    parser.add_argument("--out", type=Path, default=Path("artifacts"))
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--teacher-iterations", type=int, default=0, help="0 leaves the teachers out")
    parser.add_argument("--only", choices=("students", "teachers"), help="one table of the two")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    students = options.only != "teachers"
    todo = list(variants(options.iterations, options.batch, options.seed)) if students else []
    if options.teacher_iterations and options.only != "students":
        todo += list(teachers(options.teacher_iterations, 24, options.seed))
    before = json.loads(options.json.read_text())["rows"] if options.json.is_file() else []
    spent = {(row["variant"], row["key"]): row["seconds"] for row in before}
    rows: list[dict[str, Any]] = []
    for variant in todo:
        for row in carried_out(options.recipe, variant, options.out):
            row["seconds"] = row["seconds"] or spent.get((row["variant"], row["key"]))
            rows.append(row)
        report = {
            "recipe": options.recipe, "iterations": options.iterations, "batch": options.batch,
            "teacher_iterations": options.teacher_iterations, "seed": options.seed, "device": asdict(machine()),
            "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.table:
        put(options.table, "ablation.py", table(rows))
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
