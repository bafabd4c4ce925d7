"""Sessions: kept contexts in a bounded memory, several threads on one model, and a long session."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import CONTEXT, HEIGHT, WIDTH, NumpyBackend, NumpyGraph, pictures, standing

from flowpose.artifact import Artifact
from flowpose.errors import BackendError, FlowposeError
from flowpose.runtime import Model, load
from flowpose.runtime.contexts import Contexts, Kept
from flowpose.runtime.loading import assemble
from flowpose.runtime.session import Session

ONE = 4 * int(np.prod(CONTEXT))  # bytes of a context
MB = 2**20


class SlowSource(NumpyBackend):
    """Encodes slowly, so that threads meet; with `meeting`, so many do at once, or they fail."""

    def __init__(self, meeting: int = 1) -> None:
        super().__init__()
        self.meeting = threading.Barrier(meeting, timeout=20)

    def open(self, path: Path, threads: int) -> NumpyGraph:
        graph = super().open(path, threads)
        if graph.kind == "source":
            run = graph.run

            def slow(inputs: dict) -> dict:
                time.sleep(0.02)
                self.meeting.wait()
                return run(inputs)

            graph.run = slow  # type: ignore[method-assign]
        return graph


def fake(tiny: Artifact) -> tuple[Model, NumpyGraph]:
    """A model in NumPy, and its source graph, which counts its runs."""
    backend = NumpyBackend()
    return assemble(tiny, backend, "numpy", "fp32", 1), backend.opened[0]


def plain(shade: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), shade, np.uint8)


def at_once(works: list[Callable[[], object]]) -> None:
    """Does every work in a thread of its own, all started together; what one raises fails the test."""
    start, raised = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except (FlowposeError, AssertionError, threading.BrokenBarrierError) as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not raised


def test_contexts_are_kept_by_bytes_and_the_one_used_longest_ago_goes(tiny: Artifact) -> None:
    model, source = fake(tiny)
    model.keep(3.5 * ONE / MB)
    for shade in (0, 1, 2, 0, 3):
        model.encode(plain(shade))
    assert source.runs == 4 and model.kept == Kept(3, 3 * ONE)
    model.encode(plain(0))
    assert source.runs == 4
    model.encode(plain(1))
    assert source.runs == 5


def test_what_is_kept_can_be_asked_for_and_dropped(tiny: Artifact) -> None:
    model, _ = fake(tiny)
    assert model.kept == Kept(0, 0)
    for shade in range(4):
        model.encode(plain(shade))
    assert model.kept == Kept(4, 4 * ONE)
    model.keep(2 * ONE / MB)
    assert model.kept == Kept(2, 2 * ONE)
    model.forget()
    assert model.kept == Kept(0, 0)


def test_a_context_that_is_too_large_to_keep_makes_a_session_all_the_same(tiny: Artifact) -> None:
    model, source = fake(tiny)
    expected = model.session(pictures()[0]).infer(standing())
    model.keep(0)
    session = model.session(pictures()[0])
    made = [session.infer(standing()) for _ in range(3)]
    assert model.kept == Kept(0, 0) and source.runs == 2
    assert all(np.array_equal(each, expected) for each in made)


def test_the_amount_is_an_option_of_load(tiny: Artifact) -> None:
    model = load(tiny.path, backend="onnxruntime", threads=1, keep_mb=1.5 * ONE / MB)
    for shade in range(3):
        model.encode(plain(shade))
    assert model.kept == Kept(1, ONE)


def test_without_the_option_one_context_is_kept_however_large(tiny: Artifact, monkeypatch) -> None:
    monkeypatch.setattr("flowpose.runtime.model.KEEP_MB", 0.5 * ONE / MB)
    model, _ = fake(tiny)
    for shade in range(3):
        model.encode(plain(shade))
    assert model.kept == Kept(1, ONE)


@pytest.mark.parametrize("mb", [-1, float("nan")])
def test_an_amount_that_is_none_is_refused(tiny: Artifact, mb: float) -> None:
    with pytest.raises(FlowposeError) as raised:
        fake(tiny)[0].keep(mb)
    assert (raised.value.where, raised.value.got) == ("keep_mb", mb)


def test_threads_that_want_the_same_source_encode_it_once(tiny: Artifact) -> None:
    backend = SlowSource()
    model = assemble(tiny, backend, "numpy", "fp32", 1)
    found: list[np.ndarray] = []
    at_once([lambda: found.append(model.encode(plain(7)))] * 6)
    assert backend.opened[0].runs == 1 and len(found) == 6
    assert all(each is found[0] for each in found)


def test_threads_that_want_different_sources_do_not_wait_for_each_other(tiny: Artifact) -> None:
    backend = SlowSource(meeting=2)
    model = assemble(tiny, backend, "numpy", "fp32", 1)
    at_once([lambda shade=shade: model.encode(plain(shade)) for shade in range(4)])
    assert backend.opened[0].runs == 4


def test_a_source_that_failed_is_tried_again_by_whoever_waited() -> None:
    contexts, tries = Contexts(10 * ONE), []

    def make() -> np.ndarray:
        tries.append(1)
        time.sleep(0.02)
        if len(tries) == 1:
            raise BackendError("source", "planted")
        return np.zeros(CONTEXT, np.float32)

    failed: list[BackendError] = []

    def work() -> None:
        try:
            contexts.get(b"key", make)
        except BackendError as error:
            failed.append(error)

    at_once([work, work, work])
    assert len(failed) == 1 and len(tries) == 2
    assert contexts.kept == Kept(1, ONE)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sessions_in_threads_draw_the_bytes_of_one_thread(
    tiny: Artifact, backend: str, precision: str
) -> None:
    model = load(tiny.path, backend=backend, precision=precision, threads=2)
    poses = [standing(y) for y in np.linspace(0.5, 6, 12)]
    expected = [[model.session(source).infer(pose) for pose in poses] for source in pictures()]
    model.forget()

    def work(person: int, backwards: bool) -> None:
        session = model.session(pictures()[person])
        for _ in range(6):
            for i in range(len(poses))[:: -1 if backwards else 1]:
                assert np.array_equal(session.infer(poses[i]), expected[person][i])
                if i % 5 == 0:
                    assert np.array_equal(model.infer(pictures()[person], poses[i]), expected[person][i])

    at_once([lambda n=n: work(n % 4, n >= 4) for n in range(8)])


def test_threads_may_share_a_session(tiny: Artifact) -> None:
    session = load(tiny.path, backend="openvino", threads=1).session(pictures()[0])
    expected = {y: session.infer(standing(y)) for y in (1.0, 2.0, 3.0, 4.0)}

    def work(y: float) -> None:
        assert all(np.array_equal(session.infer(standing(y)), expected[y]) for _ in range(25))

    at_once([lambda y=y: work(y) for y in expected])


def test_a_session_shows_a_context_that_nobody_can_change(tiny: Artifact) -> None:
    session = fake(tiny)[0].session(np.zeros((48, 32, 3), np.uint8))
    assert isinstance(session, Session) and session.size == (48, 32)
    assert session.context.shape == CONTEXT and not session.context.flags.writeable


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.alone  # what the heap of other tests' objects does is none of the session's
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_session_of_a_thousand_frames_encodes_once_and_grows_nothing(tiny: Artifact, backend: str) -> None:
    model = load(tiny.path, backend=backend, precision="fp32", threads=1)
    poses = [standing(y) for y in np.linspace(0.5, 6, 50)]
    first = [model.session(pictures()[0]).infer(pose) for pose in poses]
    model.forget()
    runs: list[int] = []
    source = model._source
    model._source = type("Counted", (), {"run": lambda _, x: runs.append(1) or source.run(x)})()
    held, memory = [], []
    begun = time.process_time()  # CPU time: others on the machine do not count
    session = model.session(pictures()[0])
    encoded = time.process_time()
    for i in range(1000):
        made = session.infer(poses[i % 50])
        if i % 50 == 0:
            memory.append(resident_mb())
        if i >= 950:
            held.append(made)
    ended = time.process_time()
    assert len(runs) == 1
    assert (encoded - begun) / (
        ended - begun
    ) < 0.02  # a frame of the tiny graph takes 0.1 ms: benchmarks/session.py
    assert all(np.array_equal(a, b) for a, b in zip(held, first, strict=True))
    slope = np.polyfit(np.arange(len(memory)) * 50, memory, 1)[0]  # MB a frame
    frame_mb = first[0].nbytes / MB
    assert slope < 0.25 * frame_mb, f"{slope * 1000:.3f} MB in a thousand frames"
