"""Cold starts: what the first picture costs a program that has just begun, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from flowpose.bench.records import ColdStarts, samples_needed
from flowpose.runtime.fresh import run_fresh

# Times are seconds since the interpreter began to run this; the memory is the process's peak.
PROGRAM = """
import time
start = time.perf_counter()
import flowpose
imported = time.perf_counter()
import json, sys
import numpy as np
name, options = json.loads(sys.argv[1])
model = flowpose.load(name, **options)
loaded = time.perf_counter()
height, width = model.size
rows = np.zeros((17, 3), np.float32)
rows[:, 0], rows[:, 1], rows[:, 2] = np.linspace(.3, .7, 17) * width, np.linspace(.1, .9, 17) * height, 1
model.infer(np.full((height, width, 3), 128, np.uint8), rows)
done = time.perf_counter()
from flowpose.runtime.machine import peak_memory_mb
times = {"import_s": imported - start, "load_s": loaded - imported, "first_infer_s": done - loaded}
print(json.dumps({**times, "peak_memory_mb": peak_memory_mb()}))
"""


@dataclass(frozen=True)
class ColdStart:
    """A fresh process: seconds to import flowpose, to load a model, to its first picture; peak MB."""

    import_s: float
    load_s: float
    first_infer_s: float
    peak_memory_mb: float


def cold_start(
    name_or_path: str | Path,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    verify: bool = True,
) -> ColdStart:
    """Returns what a fresh Python process needs to load a model and make one picture; arguments as for
    `load`.

    Raises:
        BackendError: that process failed; holds the end of what it said.
    """
    options = {"backend": backend, "precision": precision, "threads": threads, "verify": verify}
    return ColdStart(**run_fresh(name_or_path, PROGRAM, str(name_or_path), options))


PARTS = ("import_s", "load_s", "first_infer_s", "peak_memory_mb")
LEGEND = "fresh processes, {n} of them, one after the other; seconds, medians"


def cold_starts(
    found: Sequence[ColdStart], label: str, *, backend: str, precision: str, threads: int
) -> ColdStarts:
    """Returns several cold starts of one model as a record; the rest says of which model.

    Args:
        found: one or more, in their order.
        label, backend, precision, threads: of the model.
    """
    runs = {part: tuple(float(getattr(each, part)) for each in found) for part in PARTS}
    enough = len(found) >= samples_needed(95)
    return ColdStarts(
        label=label, backend=backend, precision=precision, threads=threads, n=len(found),
        **{part: float(np.median(values)) for part, values in runs.items()}, runs=runs,
        p95={part: float(np.percentile(values, 95)) for part, values in runs.items()} if enough else {},
    )  # fmt: skip


def cold_table(found: ColdStarts) -> Table:
    """Returns cold starts as a table for the terminal: medians, and the slowest."""
    made = Table(title="Cold start", caption=LEGEND.format(n=found.n))
    made.add_column("model")
    for name in ("import", "load", "first picture", "peak memory MB"):
        made.add_column(name, justify="right")
    medians = [getattr(found, part) for part in PARTS]
    rows = {found.label: medians}
    if found.n > 1:
        rows["slowest"] = [max(found.runs[part]) for part in PARTS]
    for name, (imported, loaded, first, memory) in rows.items():
        made.add_row(name, f"{imported:.2f}", f"{loaded:.2f}", f"{first:.2f}", f"{memory:.0f}")
    return made
