"""Latency of a model in every form the target runs: each graph alone, a session's frame, a picture from nothing.

make bench TARGET=cpu ARGS="-k 'frame or session'"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

import flowpose
from flowpose import image, samples

WARMUP = 20


def test_frame_graph(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, rounds: int, record: Callable[..., None]
) -> None:
    context = model.encode(moving.source)
    turns = cycle([model.keypoints(pose, model.size) for pose in moving.poses])
    benchmark.pedantic(lambda: model.frame_now(context, next(turns)), rounds=rounds, warmup_rounds=WARMUP)
    record(model)


def test_source_graph(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, fewer: int, record: Callable[..., None]
) -> None:
    picture = image.fit(moving.source, *model.size)
    benchmark.pedantic(model.encode_now, (picture,), rounds=fewer, warmup_rounds=WARMUP)
    record(model)


def test_session_frame(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, poses: list[np.ndarray], rounds: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """A detector's array in, a picture out; the person was encoded before."""
    session, turns = model.session(moving.source), cycle(poses)
    benchmark.pedantic(lambda: session.infer(next(turns)), rounds=rounds, warmup_rounds=WARMUP)
    record(model)


def test_picture_from_nothing(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, poses: list[np.ndarray], fewer: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """A photo and a pose in, a picture out, with no context kept."""
    turns = cycle(poses)

    def infer() -> None:
        model.forget()
        model.infer(moving.source, next(turns))

    benchmark.pedantic(infer, rounds=fewer, warmup_rounds=WARMUP)
    record(model)
