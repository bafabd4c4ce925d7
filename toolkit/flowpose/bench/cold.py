"""Cold starts: what the first picture costs a program that has just begun, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

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


def cold_table(found: ColdStart, label: str) -> Table:
    """Returns a cold start as a table for the terminal; `label` says of which model."""
    made = Table(title="Cold start", caption="one fresh process; seconds")
    made.add_column("model")
    for name in ("import", "load", "first picture", "peak memory MB"):
        made.add_column(name, justify="right")
    times = (f"{seconds:.2f}" for seconds in (found.import_s, found.load_s, found.first_infer_s))
    made.add_row(label, *times, f"{found.peak_memory_mb:.0f}")
    return made
