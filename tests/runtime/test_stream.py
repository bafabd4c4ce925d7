"""Streams: the newest pose wins, nothing blocks, errors come out where frames do, and threads end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_graphs import NumpyBackend, pictures, save, standing

import flowpose
from flowpose.artifact import Artifact
from flowpose.errors import BackendError, FlowposeError, PoseError
from flowpose.runtime.loading import assemble
from flowpose.runtime.session import Session
from flowpose.runtime.stream import Stream, StreamCounts

SOON = 10.0  # s; a test that waits so long has failed
BAD = np.zeros((133, 3), np.float32)  # a pose without joints


class Gate:
    """Draws a picture of the pose's first number each time it is let through; `asked` says that it is at work."""

    def __init__(self) -> None:
        self.asked, self.through = threading.Semaphore(0), threading.Semaphore(0)
        self.drawn: list[float] = []

    def draw(self, pose: np.ndarray, *, format: str | None = None) -> np.ndarray:
        self.asked.release()
        assert self.through.acquire(timeout=SOON)
        value = float(pose[0])
        if value < 0:
            raise (PoseError if value == -1 else BackendError)("planted", "no picture", got=value)
        self.drawn.append(value)
        return np.full((2, 2, 3), value, np.uint8)

    def at_work(self) -> None:
        assert self.asked.acquire(timeout=SOON)


def pose(value: float) -> np.ndarray:
    return np.array([value], np.float32)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def stream(gate: Gate) -> Iterator[Stream]:
    made = Stream(gate.draw)
    yield made
    for _ in range(100):
        gate.through.release()
    made.close()


@pytest.fixture
def session(tiny: Artifact) -> Session:
    return assemble(tiny, NumpyBackend(), "numpy", "fp32", 1).session(pictures()[0])


def numbers(frames: list) -> list[int]:
    return [frame.number for frame in frames]


def test_a_stream_draws_what_the_session_draws(session: Session) -> None:
    with session.stream() as stream:
        for y in (1.0, 3.0, 5.0):
            stream.put(standing(y))
            frame = stream.get(SOON)
            assert frame is not None and np.array_equal(frame.picture, session.infer(standing(y)))
    assert stream.counts == StreamCounts(put=3, replaced=0, made=3, failed=0)


def test_the_newest_pose_wins_and_putting_does_not_wait(stream: Stream, gate: Gate) -> None:
    stream.put(pose(10))
    gate.at_work()
    begun = time.perf_counter()
    given = [stream.put(pose(value)) for value in range(20, 70)]
    assert time.perf_counter() - begun < SOON  # the one in work is held for as long as this test likes
    assert given == list(range(1, 51))
    gate.through.release(2)
    stream.close()
    assert gate.drawn == [10, 69]
    assert stream.counts == StreamCounts(put=51, replaced=49, made=2, failed=0)


def test_the_newest_picture_is_given_once(stream: Stream, gate: Gate) -> None:
    gate.through.release(3)
    for value in (1, 2, 3):
        stream.put(pose(value))
        gate.at_work()
    stream.close()
    frame = stream.get()
    assert frame.number == 2 and frame.picture[0, 0, 0] == 3
    with pytest.raises(FlowposeError, match="stream: is closed"):
        stream.get(0)


def test_stamps_come_out_with_the_picture_of_their_pose(stream: Stream, gate: Gate) -> None:
    before = time.perf_counter()
    stream.put(pose(1), 123.5)
    gate.at_work()
    stream.put(pose(2), 124.5)
    put = time.perf_counter()
    time.sleep(0.03)
    gate.through.release()
    first = stream.get()
    gate.through.release()
    second = stream.get()
    assert (first.time, second.time) == (123.5, 124.5)
    assert before <= first.arrived <= first.started <= first.finished
    assert before <= second.arrived <= put and first.finished <= second.started <= second.finished
    assert second.waited == second.started - second.arrived >= 0.03
    assert second.age >= second.finished - second.arrived


def test_no_stamp_is_none(stream: Stream, gate: Gate) -> None:
    gate.through.release()
    stream.put(pose(1))
    assert stream.get().time is None


def test_get_gives_none_when_no_picture_comes_in_time(stream: Stream, gate: Gate) -> None:
    assert stream.get(0) is None
    stream.put(pose(1))
    gate.at_work()
    begun = time.perf_counter()
    assert stream.get(0.05) is None
    assert 0.04 < time.perf_counter() - begun < SOON


def test_an_array_may_be_used_again_as_soon_as_it_is_put(stream: Stream, gate: Gate) -> None:
    memory = pose(1)
    stream.put(memory)
    gate.at_work()
    memory[:] = 2
    stream.put(memory)
    memory[:] = 99
    gate.through.release(2)
    stream.close()
    assert gate.drawn[1] == 2


def test_a_bad_pose_is_raised_with_its_number_and_the_stream_goes_on(session: Session) -> None:
    with session.stream() as stream:
        stream.put(standing(1))
        assert stream.get().number == 0
        stream.put(BAD)
        with pytest.raises(PoseError) as raised:
            stream.get()
        assert raised.value.where == "pose 1: pose" and raised.value.what == "all joints are missing"
        assert raised.value.expected == "a joint with a score above 0"
        assert isinstance(raised.value.__cause__, PoseError)
        stream.put(standing(2))
        assert stream.get().number == 2
    assert stream.counts == StreamCounts(put=3, replaced=0, made=2, failed=1)


def test_an_error_waits_until_it_is_seen_and_the_older_pose_comes_first(stream: Stream, gate: Gate) -> None:
    gate.through.release(3)
    for value in (1, -1, 2):
        stream.put(pose(value))
        gate.at_work()
    stream.close()
    with pytest.raises(PoseError, match="pose 1: planted"):
        stream.get()
    assert stream.get().number == 2


def test_a_picture_older_than_the_error_comes_before_it(stream: Stream, gate: Gate) -> None:
    gate.through.release(2)
    for value in (1, -1):
        stream.put(pose(value))
        gate.at_work()
    stream.close()
    assert stream.get().number == 0
    with pytest.raises(PoseError, match="pose 1: planted"):
        stream.get()


def test_a_backend_that_fails_closes_the_stream_and_is_raised_everywhere(stream: Stream, gate: Gate) -> None:
    stream.put(pose(1))
    gate.at_work()
    stream.put(pose(-2))
    gate.through.release(1)
    gate.at_work()
    stream.put(pose(3))
    gate.through.release(1)
    stream._thread.join(SOON)
    assert not stream._thread.is_alive() and stream.closed
    assert stream.get().number == 0
    for use in (stream.get, lambda: stream.put(pose(4)), lambda: next(stream), stream.get):
        with pytest.raises(BackendError, match="pose 1: planted: no picture, got -2"):
            use()
    assert stream.counts == StreamCounts(put=3, replaced=0, made=1, failed=2)


def test_an_error_that_is_none_of_flowposes_closes_the_stream_and_is_named() -> None:
    def draw(given: object, *, format: str | None = None) -> np.ndarray:
        raise ZeroDivisionError("planted")

    with Stream(draw) as stream:
        stream.put(pose(1))
        with pytest.raises(FlowposeError, match=r"pose 0: stream: its thread failed \(ZeroDivisionError"):
            stream.get()


def test_a_closed_stream_takes_nothing_and_closing_again_is_nothing(session: Session) -> None:
    stream = session.stream()
    stream.close()
    stream.close()
    assert stream.closed
    with pytest.raises(FlowposeError) as raised:
        stream.put(standing())
    assert (raised.value.where, raised.value.what) == ("stream", "is closed")
    assert raised.value.fix == "make another one: session.stream()"


def test_closing_draws_what_was_put_and_ends_the_thread(session: Session) -> None:
    with session.stream() as stream:
        number = stream.put(standing(2))
    assert not stream._thread.is_alive()
    assert stream.get().number == number


def test_a_stream_may_be_looped_over_while_another_thread_puts(session: Session) -> None:
    stream = session.stream()

    def camera() -> None:
        for i in range(30):
            stream.put(standing(1 + i / 10), i / 30)
            time.sleep(0.002)
        stream.close()

    thread = threading.Thread(target=camera)
    thread.start()
    frames = list(stream)
    thread.join()
    found = numbers(frames)
    assert found == sorted(set(found)) and found[-1] == 29
    assert all(frame.time == frame.number / 30 for frame in frames)
    counts = stream.counts
    assert counts.put == 30 == counts.replaced + counts.made + counts.failed


def test_two_consumers_never_get_the_same_picture(session: Session) -> None:
    stream, seen = session.stream(), []
    takers = [threading.Thread(target=lambda: seen.extend(numbers(list(stream)))) for _ in range(3)]
    for taker in takers:
        taker.start()
    for i in range(200):
        stream.put(standing(1 + i % 5))
    stream.close()
    for taker in takers:
        taker.join(SOON)
    assert len(seen) == len(set(seen)) and max(seen) == 199


def test_many_who_put_lose_no_count(session: Session) -> None:
    stream = session.stream()
    given: list[int] = []
    putters = [
        threading.Thread(target=lambda: given.extend(stream.put(standing(2)) for _ in range(100)))
        for _ in range(4)
    ]
    for putter in putters:
        putter.start()
    for putter in putters:
        putter.join()
    stream.close()
    counts = stream.counts
    assert sorted(given) == list(range(400)) and counts.put == 400
    assert counts.replaced + counts.made == 400 and counts.failed == 0


def test_a_stream_that_is_forgotten_ends_its_thread(session: Session) -> None:
    stream = session.stream()
    stream.put(standing())
    stream.get()
    thread, gone = stream._thread, weakref.ref(stream)
    del stream
    gc.collect()
    thread.join(SOON)
    assert gone() is None and not thread.is_alive()


FORGOTTEN = """
import sys, time
import numpy as np
from pathlib import Path
from flowpose.runtime import open_backend
from flowpose.runtime.stream import Stream
graph = open_backend(sys.argv[1]).open(Path(sys.argv[2]), 1)
inputs = {"x": np.zeros((256, 256), np.float32)}
streams = [Stream(lambda pose, format=None: [graph.run(inputs)["y"] for _ in range(60)][0]) for _ in range(2)]
for stream in streams:
    stream.put(0)
streams[0].get()
streams[0].put(1)
time.sleep(0.02)
streams[0].put(2)
print("the end")
"""


def save_slow(path: Path) -> Path:
    """A graph of some milliseconds: eight products of matrices."""
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", "x"], [f"x{i + 1}"]) for i in range(7)]
    nodes.append(helper.make_node("MatMul", ["x7", "x"], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (256, 256)) for name in "xy"]
    save(path, nodes, ends[:1], ends[1:], [])
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_streams_that_are_never_closed_do_not_hold_up_or_break_the_interpreters_end(
    backend: str, tmp_path: Path
) -> None:
    """A thread that is still in a library's code when the interpreter has ended would abort the process."""
    done = subprocess.run(
        [sys.executable, "-c", FORGOTTEN, backend, str(save_slow(tmp_path / "slow.onnx"))],
        capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(Path(flowpose.__file__).parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
