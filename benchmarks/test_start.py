"""What a program pays before its first picture: the import, and a cold start in its own process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from conftest import Record

from flowpose.bench import cold_start

ROUNDS = 10


def test_import_time(benchmark: Any, record: Record) -> None:
    """`import flowpose` in a fresh interpreter, the interpreter's own start included."""
    command = [sys.executable, "-c", "import flowpose"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=ROUNDS, warmup_rounds=2)
    record({"unit": "ms"})


def test_interpreter_alone(benchmark: Any, record: Record) -> None:
    """What to take off the import time."""
    benchmark.pedantic(
        subprocess.run, ([sys.executable, "-c", ""],), {"check": True}, rounds=ROUNDS, warmup_rounds=2
    )
    record({"unit": "ms"})


def test_cold_start(benchmark: Any, shipped_model: str, backend: str, record: Record) -> None:
    """Process start, import, load with verification, first picture."""
    parts = []

    def start() -> None:
        parts.append(cold_start(shipped_model, backend=backend))

    benchmark.pedantic(start, rounds=ROUNDS, warmup_rounds=1)
    last = parts[-1]
    steps = {"import_s": last.import_s, "load_s": last.load_s, "first_infer_s": last.first_infer_s}
    record({"backend": backend, "unit": "ms", "last": steps, "peak_memory_mb": last.peak_memory_mb})
