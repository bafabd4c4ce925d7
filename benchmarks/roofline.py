"""The processor's numbers in FAMILIES (flowpose.bench.roofline), and how well they predict graphs of other models.

    python benchmarks/roofline.py peaks                      `cpu:` of a target, for the processor that this runs on
    python benchmarks/roofline.py graphs FOLDER              four small untrained models, in minutes: to fit on
    python benchmarks/roofline.py measure FOLDER people-128 --json FILE
    python benchmarks/roofline.py fit FILE --check people-128 --json benchmarks/results/roofline-cpu.json

`measure` runs every graph in every precision and backend on one thread, in turns with the loops of
`flowpose.bench.peaks`, and takes CPU time: on a machine that others share, a run that was interrupted costs no more of
it (what they leave in the caches does). `fit` searches the shares that explain the graphs that are not in --check, and
prints measured / predicted of both kinds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.peaks import COPIED, FORMS, OPERATIONS, copy_loop, product_loop
from flowpose.bench.roofline import FAMILIES, Family, Limits, Shares, cpu_limits, predict
from flowpose.export.costs import graph_costs
from flowpose.runtime.backend import open_backend
from flowpose.runtime.machine import machine
from flowpose.spec.costs import GraphCosts
from flowpose.spec.find import find
from flowpose.spec.reading import load_target

WARMUP, ROUNDS = 3, 40
BACKENDS = ("onnxruntime", "openvino")
STORED = Path(__file__).parent / "results" / "people-128-bench-backends.json"
SHORT = [
    *("data.identities=6", "data.pictures=3", "distill.pairs=4", "distill.intervals=2", "evaluate.pairs=4"),
    *("evaluate.teacher_steps=[1]", "evaluate.latency_steps=[2]", "export.references=false"),
    *(
        f"{run}.{setting}"
        for run in ("autoencoder.optim", "train.joints", "train.optim", "distill.optim", "features.optim")
        for setting in ("iterations=2", "batch=3", "warmup=1", "checkpoint_every=2")
    ),
]
MINI = [
    *(
        "autoencoder.widths=[16, 32, 64, 96]",
        "autoencoder.latents=40",
        "autoencoder.blocks=2",
        "model.size=mini",
    )
]
MODELS = {
    "tiny": [],
    "wide": ["image.height=128", "image.width=96"],
    "mini": [*MINI, "image.height=96", "image.width=64", "model.patch=1"],
    "big": [*MINI, "image.height=256", "image.width=176", "model.patch=2"],
}
"""Models to fit on -> what they have other than the recipe `tiny`."""


def put(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")


def make_graphs(folder: Path) -> None:
    for name, settings in MODELS.items():
        options = [part for each in (*SHORT, *settings) for part in ("--set", each)]
        command = [
            sys.executable,
            "-m",
            "flowpose.cli",
            "export",
            "tiny",
            "--out",
            str(folder / name),
            *options,
        ]
        subprocess.run(command, check=True)


def artifacts(places: Sequence[str]) -> dict[str, Artifact]:
    """Name -> artifact, of shipped models and of the folders that `graphs` makes."""
    found = {}
    for place in places:
        made = sorted(Path(place).glob("*/tiny/export-*/")) if Path(place).is_dir() else []
        found |= {path.parents[1].name: open_artifact(path) for path in made}
        if not made:
            found[Path(place).name] = open_artifact(find("models", place))
    return found


def rows(name: str, artifact: Artifact) -> list[dict[str, str]]:
    """Every graph, precision and backend; `file` is the general graph, which is what is counted."""
    found = []
    for spec, backend in itertools.product(artifact.manifest.graphs, BACKENDS):
        own = [
            g
            for g in artifact.manifest.graphs
            if (g.name, g.precision, g.backend) == (spec.name, spec.precision, backend)
        ]
        if spec.backend is None and spec.precision in ("fp32", "int8"):
            about = {"model": name, "graph": spec.name, "precision": spec.precision, "backend": backend}
            found.append({**about, "file": spec.file, "run": own[0].file if own else spec.file})
    return found


def loop(artifact: Artifact, row: dict[str, str]) -> Callable[[], object]:
    spec = next(each for each in artifact.manifest.graphs if each.file == row["file"])
    graph = open_backend(row["backend"]).open(artifact.path / row["run"], 1)
    kinds = {"u8": np.uint8, "f32": np.float32}
    random = np.random.default_rng(0)
    given = {each.name: random.uniform(0, 1, each.shape).astype(kinds[each.dtype]) for each in spec.inputs}
    return lambda: graph.run(given)


def cpu_times(actions: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of CPU time of each action, medians; they take turns, and each follows an untimed run of its own."""
    times: dict[str, list[float]] = {label: [] for label in actions}
    order = list(actions)
    for turn in range(WARMUP + rounds):
        for label in order:
            actions[label]()
            start = time.process_time_ns()
            actions[label]()
            if turn >= WARMUP:
                times[label].append((time.process_time_ns() - start) / 1e6)
        order.reverse()
    return {label: float(np.median(found)) for label, found in times.items()}


def peak_loops(folder: Path) -> dict[str, Callable[[], object]]:
    loops: dict[str, Callable[[], object]] = {"copy": copy_loop(1)}
    for backend, forms in FORMS.items():
        for precision in forms:
            loops[f"peak {backend} {precision}"] = product_loop(folder, backend, precision, 1)
    return loops


def rates(ms: dict[str, float]) -> dict[str, Any]:
    """Operations a second of the faster backend, and GB/s, from the times of the loops."""
    peaks = {
        precision: max(OPERATIONS / ms[f"peak {backend} {precision}"] * 1e3 for backend in FORMS)
        for precision in ("fp32", "int8")
    }
    return {"peaks": peaks, "bandwidth": 2 * COPIED / ms["copy"] * 1e3 / 1e9}


def print_peaks() -> None:
    with TemporaryDirectory() as folder:
        found = rates(cpu_times(peak_loops(Path(folder)), 200))
    about = machine()
    tools = ", ".join(f"{tool} {about.versions[tool]}" for tool in FORMS)
    put("cpu:\n  peaks: {" + ", ".join(f"{name}: {rate:.3g}" for name, rate in found["peaks"].items()) + "}")
    put(f"  bandwidth: {found['bandwidth']:.3g}")
    put(f"# {about.cpu}, one thread, {tools}, CPU time, medians of 200")


def measure(places: Sequence[str]) -> dict[str, Any]:
    found = artifacts(places)
    every = [row for name, artifact in found.items() for row in rows(name, artifact)]
    costs = {}
    with TemporaryDirectory() as folder:
        actions = peak_loops(Path(folder))
        for row in every:
            row["label"] = f"{row['model']} {row['graph']} {row['precision']} {row['backend']}"
            actions[row["label"]] = loop(found[row["model"]], row)
            costs[f"{row['model']}/{row['file']}"] = counted(found[row["model"]], row["file"])
        ms = cpu_times(actions)
    return {
        "machine": vars(machine()), "models": {name: each.manifest.key for name, each in found.items()},
        "threads": 1, "n": ROUNDS, "clock": "CPU time", **rates(ms),
        "by": {label: OPERATIONS / each * 1e3 for label, each in ms.items() if label.startswith("peak")},
        "rows": [{**row, "ms": ms[row["label"]]} for row in every], "costs": costs,
    }  # fmt: skip


def counted(artifact: Artifact, file: str) -> dict[str, Any]:
    import onnx

    return graph_costs(onnx.load(artifact.path / file), file).model_dump(mode="json")


NAMES = ("conv", "matmul", "narrow", "conv8", "matmul8", "memory", "launch_us")


def family(start: Family, values: Sequence[float]) -> Family:
    conv, matmul, narrow, conv8, matmul8, memory, launch = values
    return replace(
        start,
        floats=Shares(conv, matmul, narrow),
        codes=Shares(conv8, matmul8, narrow),
        memory=memory,
        launch_us=launch,
    )


def fit(data: dict[str, Any], check: Sequence[str], backend: str) -> dict[str, Any]:
    """Coordinate search in logarithms for the least squared log of measured / predicted, with a weak pull to 0.5."""
    limits = Limits("cpu", data["peaks"], data["bandwidth"] * 1e9)
    start = FAMILIES["cpu", backend]
    costs = {name: GraphCosts.parse(each, name) for name, each in data["costs"].items()}
    every = [row for row in data["rows"] if row["backend"] == backend]
    fitted = [row for row in every if row["model"] not in check]

    def ratio(row: dict[str, Any], values: Sequence[float]) -> float:
        graph = costs[f"{row['model']}/{row['file']}"]
        return float(row["ms"]) / predict(graph, limits, family(start, values)).ms

    def loss(values: Sequence[float]) -> float:
        prior = sum(np.log(value / 0.5) ** 2 for value in values[:6]) * 0.01
        return float(sum(np.log(ratio(row, values)) ** 2 for row in fitted) + prior)

    values = [0.7, 0.7, 0.2, 0.6, 0.6, 0.5, 3.0]
    for factor in (2.0, 1.4, 1.2, 1.1, 1.05):
        better = True
        while better:
            better = False
            for at, by in itertools.product(range(len(values)), (factor, 1 / factor)):
                other = [*values]
                other[at] = min(values[at] * by, 1.0) if at < 5 else values[at] * by
                if loss(other) < loss(values) * 0.999:
                    values, better = other, True
    put(backend, {name: round(value, 3) for name, value in zip(NAMES, values, strict=True)})
    shipped = [getattr(start.floats, each) for each in NAMES[:3]]
    shipped += [start.codes.conv, start.codes.matmul, start.memory, start.launch_us]
    found = [
        {
            **{key: row[key] for key in ("model", "graph", "precision", "backend")},
            "use": "check" if row["model"] in check else "fitted", "measured_ms": row["ms"],
            "measured_over_fit": ratio(row, values), "measured_over_families": ratio(row, shipped),
        }
        for row in every
    ]  # fmt: skip
    for each, row in zip(found, every, strict=True):
        put(
            f"  {each['use']:7} {row['label']:40} {row['ms']:8.2f} ms  measured / fit {each['measured_over_fit']:.2f}"
        )
        put(f"  {'':57} measured / FAMILIES {each['measured_over_families']:.2f}")
    return {
        "fit": dict(zip(NAMES, values, strict=True)),
        "rows": found,
        "two_threads": two_threads(costs, backend),
    }


def two_threads(costs: dict[str, GraphCosts], backend: str) -> list[dict[str, Any]]:
    """The stored latencies of people-128 on two threads, beside what FAMILIES predicts with target cpu's peaks."""
    stored, found = json.loads(STORED.read_text()), []
    limits = cpu_limits(load_target("cpu"), 2)
    for each in stored["stages"]:
        precision, name = each["label"].split()
        file = "source.onnx" if each["stage"] == "source" else f"frame.{precision}.onnx"
        if name == backend and each["stage"] in ("source", "frame"):
            expected = predict(costs[f"people-128/{file}"], limits, FAMILIES["cpu", backend]).ms
            found.append(
                {
                    "label": f"{each['stage']} {each['label']}",
                    "measured_ms": each["p50"],
                    "ratio": each["p50"] / expected,
                }
            )
            put(
                f"  two {found[-1]['label']:30} {each['p50']:8.2f} ms  measured / FAMILIES {found[-1]['ratio']:.2f}"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("peaks", "graphs", "measure", "fit"))
    parser.add_argument("places", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", nargs="*", default=["people-128"])
    asked = parser.parse_args()
    if asked.action == "peaks":
        print_peaks()
    elif asked.action == "graphs":
        make_graphs(Path(asked.places[0]))
    elif asked.action == "measure":
        text = json.dumps(measure(asked.places), indent=1)
        asked.json.write_text(text) if asked.json else put(text)
    else:
        data = json.loads(Path(asked.places[0]).read_text())
        results = {backend: fit(data, asked.check, backend) for backend in BACKENDS}
        if asked.json:
            about = {
                key: data[key]
                for key in ("machine", "models", "threads", "n", "clock", "peaks", "by", "bandwidth")
            }
            asked.json.write_text(json.dumps({**about, "backends": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
