"""A long session: what the source costs, what is spent outside the graph, and whether memory stays flat.

    python benchmarks/session.py people-128 --frames 1000 --json benchmarks/results/people-128-session.json

Every frame is timed twice over: the whole of `session.infer`, and within it the graph's own run; the rest is glue (the
pose checked, fitted and converted, and the calls). Both in wall time and in CPU time of the process: the latter hardly
changes where others use the machine, too. Memory is the process's resident set, and its slope over the frames, with
the standard error of a straight line through them. The first frames (--warmup) are drawn before and not counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

import flowpose
from flowpose import samples
from flowpose.runtime.backend import Graph, Tensors
from flowpose.runtime.machine import machine
from flowpose.runtime.model import Model

EVERY = 10  # frames from one reading of the memory to the next
WALL, CPU = time.perf_counter_ns, time.process_time_ns
LIMITS = {"source_share": 0.005, "glue_share": 0.05}


class Watched:
    """A graph that notes how long its last run took, wall and CPU, ns."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.wall, self.cpu = graph, 0, 0

    def run(self, inputs: Tensors) -> dict[str, Any]:
        wall, cpu = WALL(), CPU()
        found = self.graph.run(inputs)
        self.wall, self.cpu = WALL() - wall, CPU() - cpu
        return found


def resident_mb() -> float:
    """Pages of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def frames(model: Model, source: np.ndarray, poses: Iterator[Any], count: int) -> dict[str, Any]:
    """Times of the source and of every frame, ms, and the memory, MB."""
    watched = Watched(model._frame)
    model._frame = watched  # type: ignore[assignment]
    model.forget()
    wall, cpu = WALL(), CPU()
    session = model.session(source)
    encoded = ((WALL() - wall) / 1e6, (CPU() - cpu) / 1e6)
    rows = np.zeros((count, 4))  # whole and graph, wall; whole and graph, CPU
    memory = []
    for i in range(count):
        pose = next(poses)
        wall, cpu = WALL(), CPU()
        session.infer(pose)
        rows[i] = [WALL() - wall, watched.wall, CPU() - cpu, watched.cpu]
        if i % EVERY == 0:
            memory.append(resident_mb())
    model._frame = watched.graph
    return {"source": encoded, "rows": rows / 1e6, "memory": np.array(memory)}


def percentiles(values: np.ndarray) -> dict[str, float]:
    points = {f"p{share:g}": float(np.percentile(values, share)) for share in (50, 90, 95, 99)}
    return {"mean": float(values.mean()), **points}


def line(values: np.ndarray) -> dict[str, Any]:
    """Slope of a straight line through readings, MB in a thousand frames, and its standard error."""
    at = np.arange(len(values)) * EVERY / 1000
    slope, start = np.polyfit(at, values, 1)
    rest = values - (slope * at + start)
    error = np.sqrt((rest**2).sum() / (len(values) - 2) / ((at - at.mean()) ** 2).sum())
    return {
        "first_mb": float(values[0]), "last_mb": float(values[-1]), "highest_mb": float(values.max()),
        "slope_mb_per_1000": float(slope), "standard_error": float(error), "every": EVERY,
    }  # fmt: skip


def measured(model: Model, asked: argparse.Namespace) -> dict[str, Any]:
    motion = samples.motion()
    poses = cycle(motion.poses)
    warm = model.session(motion.source)
    for _ in range(asked.warmup):
        warm.infer(next(poses))
    del warm
    gc.collect()
    found = frames(model, motion.source, poses, asked.frames)
    rows, (wall, cpu) = found["rows"], found["source"]
    glue = rows[:, [0, 2]] - rows[:, [1, 3]]
    return {
        "frames": asked.frames, "warmup": asked.warmup, "precision": model.precision, "backend": model.backend,
        "threads": model.threads, "poses": f"{len(motion.poses)} of coco-wholebody-133, round and round",
        "context_bytes": model.kept.bytes,
        "source": {"wall_ms": wall, "cpu_ms": cpu},
        "source_share": {"wall": wall / (wall + rows[:, 0].sum()), "cpu": cpu / (cpu + rows[:, 2].sum())},
        "frame_ms": {"wall": percentiles(rows[:, 0]), "cpu": percentiles(rows[:, 2])},
        "glue_us": {"wall": percentiles(glue[:, 0] * 1000), "cpu": percentiles(glue[:, 1] * 1000)},
        "glue_share": {
            "wall": float(np.median(glue[:, 0]) / np.median(rows[:, 0])),
            "cpu": float(glue[:, 1].sum() / rows[:, 2].sum()),
        },
        "memory": line(found["memory"]),
        "memory_mb": found["memory"].round(3).tolist(),
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    memory, share = row["memory"], row["source_share"]
    return (
        f"{row['backend']} {row['precision']}, {row['threads']} thread(s), {row['frames']} frames: "
        f"frame {row['frame_ms']['wall']['p50']:.2f} ms (CPU {row['frame_ms']['cpu']['p50']:.2f}), "
        f"source {share['wall']:.3%} (CPU {share['cpu']:.3%}), "
        f"glue {row['glue_us']['wall']['p50']:.0f} us = {row['glue_share']['wall']:.2%} "
        f"(CPU {row['glue_share']['cpu']:.2%}), memory {memory['first_mb']:.1f} -> {memory['last_mb']:.1f} MB, "
        f"{memory['slope_mb_per_1000']:+.3f} +- {memory['standard_error']:.3f} MB in 1000 frames\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--backends", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp32"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for backend in asked.backends:
        for precision in asked.precisions:
            model = flowpose.load(asked.model, backend=backend, precision=precision, threads=asked.threads)
            rows.append(measured(model, asked))
            sys.stdout.write(said(rows[-1]))
            sys.stdout.flush()
    limits = [row for row in rows for share in LIMITS if max(row[share].values()) > LIMITS[share]]
    if asked.json:
        about = {"model": asked.model, "key": model.manifest.key, "machine": asdict(machine())}
        report = {**about, "limits": LIMITS, "rows": rows}
        asked.json.write_text(json.dumps(report) + "\n")
    sys.exit(f"{len(limits)} beyond its limit" if limits else 0)


if __name__ == "__main__":
    main()
