"""The load benchmark judges rightly, and runs for a few seconds on a tiny model."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from serve.running import running

from flowpose.runtime import Model

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "serve_load.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("serve_load", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve_load"] = module
    spec.loader.exec_module(module)
    return module


def tallies(bench: Any, slow_ms: float = 20, end_mb: float = 101, errors: tuple[str, ...] = ()) -> list[Any]:
    made = []
    for i in range(6):
        slow = i % 2 == 1
        latency = [(slow_ms if slow else 20) / 1e3] * 40
        resident = 100 if i < 5 else end_mb
        made.append(bench.Tally(slow, i < 2, 10, 40, 40, list(errors), latency, resident_mb=resident))
    return made


@pytest.mark.parametrize(
    ("changes", "missed"),
    [({}, set()), ({"slow_ms": 23}, {"slow"}), ({"end_mb": 103}, {"memory"}), ({"end_mb": 97}, {"memory"}),
     ({"errors": ("no",)}, {"no_error"})],
)  # fmt: skip
def test_the_verdict_names_what_was_missed(bench: Any, changes: dict[str, Any], missed: set[str]) -> None:
    met = bench.judged(tallies(bench, **changes))["met"]
    assert {name for name, good in met.items() if not good} == missed


def test_a_short_load_with_a_slow_client_gives_frames_to_all(bench: Any, tiny: Model) -> None:
    asked = argparse.Namespace(clients=8, seconds=4.0, phase=1.0, height=24, width=16)
    with running(tiny) as server:
        found = asyncio.run(bench.load(server.port, os.getpid(), asked))
    assert len(found) == 4 and not [error for tally in found for error in tally.errors]
    assert {client for tally in found for client in tally.by_client} == set(range(8))
    assert sum(tally.frames for tally in found) <= sum(tally.sent for tally in found)
    assert found[1].slow_frames + found[3].slow_frames >= 1 and found[0].slow_frames == 0
