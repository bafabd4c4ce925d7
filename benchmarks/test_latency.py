"""Latency of the shipped model: each graph alone, a session's frame, and a single picture from nothing.

make bench
pytest benchmarks --benchmark-json=out/bench.json
"""

from __future__ import annotations

from typing import Any

import numpy as np
from conftest import Record

import flowpose

ROUNDS, WARMUP = 200, 20


def about(model: flowpose.Model) -> dict[str, Any]:
    return {"backend": model.backend, "precision": model.precision, "threads": model.threads, "unit": "ms"}


def test_frame_graph(benchmark: Any, model: flowpose.Model, source, keypoints, record: Record) -> None:
    context, rows = model.encode(source), model.keypoints(keypoints, model.size)
    benchmark.pedantic(model.frame_now, (context, rows), rounds=ROUNDS, warmup_rounds=WARMUP)
    record(about(model))


def test_source_graph(benchmark: Any, model: flowpose.Model, source: np.ndarray, record: Record) -> None:
    benchmark.pedantic(model.encode_now, (source,), rounds=ROUNDS, warmup_rounds=WARMUP)
    record(about(model))


def test_session_infer(benchmark: Any, model: flowpose.Model, source, keypoints, record: Record) -> None:
    session = model.session(source)
    benchmark.pedantic(session.infer, (keypoints,), rounds=ROUNDS, warmup_rounds=WARMUP)
    record(about(model))


def test_infer_with_nothing_kept(
    benchmark: Any, model: flowpose.Model, source, keypoints, record: Record
) -> None:
    def infer() -> None:
        model.forget()
        model.infer(source, keypoints)

    benchmark.pedantic(infer, rounds=ROUNDS, warmup_rounds=WARMUP)
    record(about(model))
