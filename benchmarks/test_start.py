"""What a program pays before its first picture: the import, and a cold start in its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from flowpose.bench import cold_start, cold_starts


def test_interpreter_alone(benchmark: Any, starts: int, record: Callable[..., None]) -> None:
    """What to take off the import time."""
    command = [sys.executable, "-c", ""]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=2 * starts, warmup_rounds=2)
    record()


def test_import_time(benchmark: Any, starts: int, record: Callable[..., None]) -> None:
    """`import flowpose` in a fresh interpreter, the interpreter's own start included."""
    command = [sys.executable, "-c", "import flowpose"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=2 * starts, warmup_rounds=2)
    record()


def test_cold_start(
    benchmark: Any, setup: Any, backend: str, starts: int, record: Callable[..., None]
) -> None:
    """Process start, import, load with verification, first picture; `parts` has the medians and every run of each."""
    found = []

    def start() -> None:
        found.append(cold_start(setup.model, backend=backend, threads=setup.threads))

    benchmark.pedantic(start, rounds=starts, warmup_rounds=1)
    about = {"backend": backend, "precision": "its own", "threads": setup.threads or 0}
    parts = cold_starts(found[-starts:], backend, **about)
    record(backend=backend, parts=parts.model_dump(mode="json"))
