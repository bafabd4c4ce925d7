"""Where a frame's time goes: known times of the graph, the real calls of Pose, and their sum."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tiny_graphs import NumpyBackend, pictures, standing

from flowpose.artifact import Artifact
from flowpose.bench.frame_parts import CALLS, PARTS, frame_parts
from flowpose.errors import FlowposeError, PoseError
from flowpose.pose import Pose
from flowpose.runtime.loading import assemble
from flowpose.runtime.model import Session

FORMAT = "coco-17"
ARRAYS = [standing(y)[:17] for y in (1.0, 2.0, 3.0)]


class Slow(NumpyBackend):
    """Frames that take 20 ms: the p50 of a few is theirs on a crowded machine too."""

    def open(self, path, threads):
        graph = super().open(path, threads)
        if graph.kind != "source":
            draw = graph.run

            def run(inputs):
                time.sleep(0.02)
                return draw(inputs)

            graph.run = run
        return graph


@pytest.fixture
def session(tiny: Artifact) -> Session:
    return assemble(tiny, Slow(), "numpy", "fp32", 1).session(pictures()[0])


def test_the_parts_are_those_of_the_real_calls_and_sum_to_the_whole(session: Session) -> None:
    found = frame_parts(session, ARRAYS, format=FORMAT, n=8, warmup=2)
    assert tuple(found.parts) == PARTS and found.whole.n == 8
    assert found.parts["graph"].low >= 20, "every frame's graph sleeps for 20 ms"
    assert all(part.low > 0 for part in found.parts.values()), "each part was seen in each frame"
    assert 0.9 < found.covered <= 1
    graph, whole = sum(found.parts["graph"].ms), sum(found.whole.ms)
    assert found.glue == pytest.approx(1 - graph / whole) and 0 < found.glue < 0.7


def test_a_slow_conversion_is_glue_and_no_graph(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    to = Pose.to

    def slow(pose: Pose, format: str) -> Pose:
        time.sleep(0.08)
        return to(pose, format)

    monkeypatch.setattr(Pose, "to", slow)
    found = frame_parts(session, ARRAYS, format=FORMAT, n=5)
    assert found.parts["pose"].low >= 80 and found.glue > 0.5 and found.parts["pre"].p50 < 40


def test_calls_within_calls_are_counted_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    array = Pose.array

    def slow(pose: Pose) -> np.ndarray:
        time.sleep(0.003)
        return array(pose)

    monkeypatch.setattr(Pose, "array", slow)
    monkeypatch.setattr(Pose, "check", lambda pose: (pose.array(), pose)[1])
    found = frame_parts(session, ARRAYS, format=FORMAT, n=5)
    assert found.covered <= 1, "an array within a check counts as the check's time, not twice"
    assert found.parts["pre"].low >= 6


def test_nothing_is_left_of_the_watch(session: Session, tiny: Artifact) -> None:
    before = {name: Pose.__dict__[name] for name, _ in CALLS}
    graph, plain = (
        session.model._frame,
        assemble(tiny, NumpyBackend(), "numpy", "fp32", 1).session(pictures()[0]),
    )
    run = graph.run
    frame_parts(plain, ARRAYS, format=FORMAT, n=1)
    assert "run" not in vars(plain.model._frame), "the graph has its class's method again"
    frame_parts(session, ARRAYS, format=FORMAT, n=1)
    with pytest.raises(PoseError, match="all joints are missing"):
        frame_parts(session, [np.zeros((17, 3), np.float32)], format=FORMAT, n=1)
    assert {name: Pose.__dict__[name] for name, _ in CALLS} == before
    assert graph.run is run and session.infer(ARRAYS[0], format=FORMAT).any()


def test_nothing_to_measure(session: Session) -> None:
    with pytest.raises(FlowposeError, match="nothing to measure, got 3 poses, n = 0"):
        frame_parts(session, ARRAYS, format=FORMAT, n=0)
    with pytest.raises(FlowposeError, match="got 0 poses"):
        frame_parts(session, [], format=FORMAT, n=1)
