"""Frames a second of several sessions: one call of `infer_batch`, against one `Session.infer` after the other.

    python benchmarks/session_batch.py people-128 --json benchmarks/results/people-128-batch.json

On all cores, in turns, every second round in reverse order. `parallel` is the backend's `run_many` (a core a frame),
`turn` a run after the other on all threads. Bytes are compared on the way. For a quiet machine: with others on a core,
the threads of one frame wait for the one that is held up, and the ratio comes out too high.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from session import resident_mb

import flowpose
from flowpose import samples
from flowpose.runtime.machine import machine
from flowpose.runtime.model import Model
from flowpose.runtime.session import Session
from flowpose.runtime.timing import alternate


def ways(model: Model, count: int) -> dict[str, Callable[[], list[Any]]]:
    people = [model.session(samples.source(name)) for name in samples.PEOPLE]
    sessions: list[Session] = list(islice(cycle(people), count))
    poses = list(islice(cycle(samples.motion().poses), count))
    return {
        "turn": lambda: [session.infer(pose) for session, pose in zip(sessions, poses, strict=True)],
        "parallel": lambda: model.infer_batch(sessions, poses),
    }


def first_call(model: Model) -> dict[str, float]:
    """What the first call of `infer_batch` opens: seconds, and MB more in memory."""
    batch = ways(model, 2 * model.threads)
    batch["turn"]()
    before, begun = resident_mb(), time.perf_counter()
    batch["parallel"]()
    return {"seconds": time.perf_counter() - begun, "mb": resident_mb() - before}


def measured(model: Model, count: int, rounds: int) -> dict[str, Any]:
    found = ways(model, count)
    pictures = [np.stack(way()).astype(np.int16) for way in found.values()]
    apart = np.abs(pictures[0] - pictures[1])
    times = alternate(found, rounds=rounds, warmup=2)
    rates = {label: count * 1000 / timing.percentile(50) for label, timing in times.items()}
    ratios = np.array(times["turn"].ms) / np.array(times["parallel"].ms)
    return {
        "backend": model.backend, "precision": model.precision, "threads": model.threads, "count": count,
        "rounds": rounds, "frames_a_second": rates,
        "most_levels_apart": int(apart.max()), "bytes_apart": float((apart > 0).mean()),
        "ratio": {f"p{share}": float(np.percentile(ratios, share)) for share in (25, 50, 75)},
        "ms": {label: [round(each, 3) for each in timing.ms] for label, timing in times.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 3, 4, 8])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--backends", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp32"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for backend in asked.backends:
        for precision in asked.precisions:
            model = flowpose.load(asked.model, backend=backend, precision=precision, threads=asked.threads)
            first = first_call(model)
            for count in asked.counts:
                row = {**measured(model, count, asked.rounds), "first_call": first}
                rows.append(row)
                rates = "  ".join(f"{label} {rate:6.1f}" for label, rate in row["frames_a_second"].items())
                sys.stdout.write(
                    f"{backend:12} {precision:5} {model.threads} threads, {count} sessions: {rates} frames/s, "
                    f"ratio {row['ratio']['p50']:.2f}, at most {row['most_levels_apart']} levels apart\n"
                )
                sys.stdout.flush()
    if asked.json:
        about = {"model": asked.model, "key": model.manifest.key, "machine": asdict(machine())}
        report = {**about, "load": os.getloadavg(), "rows": rows}
        asked.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
