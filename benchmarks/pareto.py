"""Shapes of the student: milliseconds a frame against own-LPIPS, at equal training, and which of them nothing beats.

    python benchmarks/pareto.py make --iterations 300 --json benchmarks/results/people-128-pareto.json
    python benchmarks/pareto.py measure --json benchmarks/results/people-128-pareto.json --table docs/performance-log.md

`make` distills every shape from the recipe's teacher (the recipe's own distillation, --iterations long, without the
finish), quantizes and exports it; what exists is not made again. `measure` runs all graphs in turns on a machine that
does nothing else: each label's frame after another's, INT8 and fp32, in one process. Scores are means over the recipe's
val pairs against the truth, of the student before quantization; `int8_psnr` is how near INT8 stays to it. A shape is on
the front where no other one is both faster (INT8, the faster backend) and nearer to the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

from page_tables import put

import flowpose
from flowpose import samples
from flowpose.artifact import Artifact
from flowpose.bench.report import percentiles
from flowpose.pipeline import Run
from flowpose.runtime.machine import machine
from flowpose.runtime.timing import Action, alternate
from flowpose.spec.costs import COSTS, Costs
from flowpose.spec.reading import load_recipe

Settings = Mapping[str, Any]
SHAPES: Mapping[str, Settings] = {
    "whole": {},
    "whole, two evaluations": {"steps": 2},
    "blocks 0, 1, 3": {"student": {"kind": "pruned", "blocks": [0, 1, 3]}},
    "blocks 0, 3": {"student": {"kind": "pruned", "blocks": [0, 3]}},
    "decoder 12, 24, 48, 64": {"student": {"kind": "pruned", "decoder": [12, 24, 48, 64]}},
    "decoder 8, 16, 32, 64": {"student": {"kind": "pruned", "decoder": [8, 16, 32, 64]}},
    "blocks 0, 3, decoder 8, 16, 32, 64": {
        "student": {"kind": "pruned", "blocks": [0, 3], "decoder": [8, 16, 32, 64]}
    },
    "edge 192": {"student": {"kind": "edge", "width": 192, "blocks": 1}},
}
SCORES = ("own_lpips", "psnr", "spectrum_top", "pck", "identity")
RUNS = (("int8", "openvino"), ("int8", "onnxruntime"), ("fp32", "openvino"), ("fp32", "onnxruntime"))
COLUMNS = ("gmac", "int8_ms", "fp32_ms", "times", *SCORES, "int8_psnr", "front")


def overrides(recipe: str, shape: Settings, iterations: int) -> list[str]:
    """What makes the recipe a short run of one shape."""
    base = load_recipe(recipe)
    own = base.distill.model_dump(mode="json", exclude={"student"})
    edge = shape.get("student", {}).get("kind") == "edge"  # it has no transformer's blocks
    keep = [name for name in base.quantize.keep if not (edge and name.startswith("flow.blocks"))]
    optim = {**own.pop("optim"), "iterations": iterations, "warmup": min(20, iterations // 4)}
    distill = json.dumps({**own, "steps": 1, "middle": None, **shape, "optim": optim})
    return [
        f"distill={distill}", "finish=null", "regressor=null", "teacher_finish=null", "gates=[]",
        "quantize.floor=null", f"quantize.keep={json.dumps(keep)}", "export.references=false",
    ]  # fmt: skip


def made(options: argparse.Namespace, shape: Settings) -> dict[str, Any]:
    """Where the graphs of one shape are, its scores and its costs."""
    recipe = load_recipe(options.recipe, overrides(options.recipe, shape, options.iterations))
    begun = time.perf_counter()
    done = {each.stage: each for each in Run(recipe=recipe, root=options.out, say=print).stages("export")}
    label = "student-2" if shape.get("steps") == 2 else "student-1"
    distilled, quantized, graph = (done[stage].artifact for stage in ("distill", "quantize", "export"))
    costs = Costs.model_validate_json(graph.file(COSTS).read_bytes())
    frame = next(each for each in costs.graphs if Path(each.file).stem == "frame.fp32")
    return {
        "path": os.path.relpath(graph.path),
        "key": graph.manifest.key,
        "seconds": None if done["distill"].skipped else round(time.perf_counter() - begun, 1),
        "gmac": frame.macs / 1e9,
        "int8_psnr": measurement(quantized, "quantize", "psnr_to_student"),
        **{score: measurement(distilled, label, score) for score in SCORES},
    }


def measurement(artifact: Artifact, label: str, metric: str) -> float:
    """One number of a manifest."""
    found = [m.value for m in artifact.manifest.measurements if (m.stage, m.metric) == (label, metric)]
    if not found:
        sys.exit(f"{artifact.path}: no measurement {label}.{metric}")
    return float(found[0])


def turns(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Action]]:
    """A frame of every shape in every precision and backend; sources are encoded before."""
    motion = samples.motion()
    for row in rows:
        for precision, backend in RUNS:
            model = flowpose.load(row["path"], backend=backend, precision=precision)
            session, poses = model.session(motion.source), cycle(motion.poses)
            yield f"{row['shape']}|{precision}|{backend}", lambda s=session, p=poses: s.infer(next(p))


def measured(rows: list[dict[str, Any]], rounds: int, warmup: int) -> None:
    """Puts the times, the ratio to the first shape and the front into the rows."""
    timings = alternate(dict(turns(rows)), rounds=rounds, warmup=warmup, settle=1)
    for row in rows:
        own = {
            f"{precision}.{backend}": timings[f"{row['shape']}|{precision}|{backend}"]
            for precision, backend in RUNS
        }
        row["ms"] = {name: percentiles(timing) for name, timing in own.items()}
        row["samples_ms"] = {name: [round(ms, 3) for ms in timing.ms] for name, timing in own.items()}
        for precision in ("int8", "fp32"):
            row[f"{precision}_ms"] = min(
                found["p50"] for name, found in row["ms"].items() if name.startswith(precision)
            )
    for row in rows:
        row["times"] = row["int8_ms"] / rows[0]["int8_ms"]
        row["front"] = not any(
            other["int8_ms"] < row["int8_ms"] and other["own_lpips"] < row["own_lpips"] for other in rows
        )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| shape | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(row[name]) for name in COLUMNS]
        lines.append(f"| {row['shape']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: bool | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("make", "measure"))
    parser.add_argument("--recipe", default="people-128")
    parser.add_argument("--out", type=Path, default=Path("artifacts"))
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--only", action="append", choices=tuple(SHAPES), help="shapes to make; all")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    report = json.loads(options.json.read_text()) if options.json.is_file() else {"rows": []}
    if options.what == "make":
        make(options, report)
        return
    measured(report["rows"], options.rounds, options.warmup)
    report["measured_on"] = {**asdict(machine()), "rounds": options.rounds, "load": os.getloadavg()[0]}
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.table:
        put(options.table, "pareto.py", table(report["rows"]))
    sys.stdout.write(table(report["rows"]))


def make(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Makes the shapes, and keeps the report after each of them."""
    there = {row["shape"]: row for row in report["rows"]}
    for name, shape in SHAPES.items():
        if options.only and name not in options.only:
            continue
        row = made(options, shape)
        row["seconds"] = row["seconds"] or there.get(name, {}).get("seconds")
        there[name] = {"shape": name, **row}
        found = load_recipe(options.recipe).distill.optim
        report |= {
            "recipe": options.recipe, "iterations": options.iterations, "batch": found.batch, "seed": found.seed,
            "made_on": asdict(machine()), "rows": [there[each] for each in SHAPES if each in there],
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
