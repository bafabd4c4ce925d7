"""Streams and several people at once: what a queue of length one costs, and what a batch brings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import pytest

import flowpose
from flowpose import samples

WARMUP = 10


def test_stream_put_to_get(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, poses: list[np.ndarray], rounds: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """A pose into an idle stream and its picture out; over a session's frame it is two changes of thread."""
    turns = cycle(poses)
    with model.session(moving.source).stream() as stream:

        def through() -> None:
            stream.put(next(turns))
            stream.get()

        benchmark.pedantic(through, rounds=rounds, warmup_rounds=WARMUP)
    record(model)


@pytest.mark.parametrize("people", [1, 4, 8])
def test_batch_of_people(
    benchmark: Any, model: flowpose.Model, poses: list[np.ndarray], fewer: int, people: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """One call of `infer_batch` with a pose for each; `ms_a_picture` is a picture's share of the median."""
    sessions = [model.session(samples.source(name)) for name in samples.PEOPLE]
    given = [sessions[i % len(sessions)] for i in range(people)]
    turns = cycle(poses)

    def batch() -> None:
        model.infer_batch(given, [next(turns) for _ in given])

    benchmark.pedantic(batch, rounds=max(20, fewer // people), warmup_rounds=WARMUP // 2)
    record(model, people=people, ms_a_picture=1000 * benchmark.stats.stats.median / people)
