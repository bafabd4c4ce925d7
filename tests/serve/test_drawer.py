"""The thread that draws: the newest pose of each seat, one frame on its way, and nobody waits for somebody slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from serve.running import truth, until
from tiny_graphs import pictures, standing

from flowpose import image
from flowpose.errors import BackendError, FlowposeError, PoseError
from flowpose.pose import Pose
from flowpose.runtime import Model
from flowpose.serve.drawer import Counts, Drawer, Drawn, Look, Seat
from flowpose.serve.drawing_requests import on_frame
from flowpose.serve.meters import Meters

LOOK = Look("webp", 95)
PICTURE = pictures()[0]


@pytest.mark.parametrize(("score", "there"), [(0.11, True), (0.1, False), (0.0, False)])
def test_a_pose_of_which_a_model_draws_nothing_is_nobody(tiny: Model, score: float, there: bool) -> None:
    rows = standing()
    rows[:, 2] *= score
    found = on_frame(tiny, Pose.of(rows, size=tiny.size))
    assert (found is not None) == there


class Slow:
    """A model whose frames take as long as they are allowed to; it keeps what it was asked for."""

    def __init__(self, model: Model) -> None:
        self.real, self.allowed, self.batches = model, threading.Semaphore(0), list[int]()
        self.manifest, self.size, self.backend, self.threads = model.manifest, model.size, model.backend, 2
        self.fault: Exception | None = None

    def infer_batch(self, sessions, poses):
        self.batches.append(len(poses))
        assert self.allowed.acquire(timeout=10)
        if self.fault is not None:
            raise self.fault
        return self.real.infer_batch(sessions, poses)


class Taker:
    """A seat, and what was delivered to it."""

    def __init__(self, drawer: Drawer, model: Model, picture: NDArray[np.uint8] = PICTURE) -> None:
        self.drawer, self.got = drawer, list[tuple[Drawn | FlowposeError, int]]()
        self.seat = Seat(
            model.session(picture), LOOK, lambda answer, number: self.got.append((answer, number))
        )
        drawer.sit(self.seat)

    def put(self, number: int, y: float = 3.0) -> None:
        self.drawer.put(self.seat, number, standing(y))

    def numbers(self) -> list[int]:
        return [number for _, number in self.got]


@pytest.fixture
def slow(tiny: Model) -> Slow:
    return Slow(tiny)


@pytest.fixture
def drawer(slow: Slow) -> Iterator[Drawer]:
    made = Drawer(slow, Meters())  # type: ignore[arg-type]
    yield made
    slow.allowed.release(100)
    made.close()


def test_the_newest_pose_wins_and_the_others_are_counted(drawer: Drawer, slow: Slow, tiny: Model) -> None:
    taker = Taker(drawer, tiny)
    taker.put(1)
    until(lambda: len(slow.batches) == 1)  # the first is in work
    for number in (2, 3, 4):
        taker.put(number)
    slow.allowed.release(2)
    until(lambda: len(taker.got) == 1)
    drawer.acknowledge(taker.seat, 1)
    until(lambda: len(taker.got) == 2)
    assert taker.numbers() == [1, 4]
    assert taker.seat.counts == Counts(put=4, replaced=2, made=2, failed=0)
    frame = taker.got[1][0]
    assert isinstance(frame, Drawn) and frame.counts == Counts(4, 2, 2, 0)


def test_a_frame_is_that_of_its_pose(drawer: Drawer, slow: Slow, tiny: Model) -> None:
    plain = np.full((24, 16, 3), (200, 120, 90), np.uint8)
    taker = Taker(drawer, tiny, plain)
    slow.allowed.release(1)
    taker.put(9, 5.0)
    until(lambda: len(taker.got) == 1)
    frame = taker.got[0][0]
    assert isinstance(frame, Drawn) and frame.size == (24, 16) and frame.data[8:12] == b"WEBP"
    assert np.abs(image.decode(frame.data) - truth(tiny, plain, standing(5.0))).mean() < 3
    assert 0 <= frame.waited < 10 and 0 < frame.drawn < 10 and 0 < frame.encoded < 10


def test_a_frame_that_is_not_acknowledged_holds_up_only_its_own_seat(
    drawer: Drawer, slow: Slow, tiny: Model
) -> None:
    lazy, quick = Taker(drawer, tiny), Taker(drawer, tiny)
    slow.allowed.release(100)
    lazy.put(1)
    until(lambda: lazy.numbers() == [1])
    for number in range(1, 11):
        lazy.put(number + 1)
        quick.put(number)
        until(lambda: len(quick.got) == number)  # noqa: B023
        drawer.acknowledge(quick.seat, number)
    assert lazy.numbers() == [1] and lazy.seat.counts.replaced == 9
    drawer.acknowledge(lazy.seat, 77)  # not the one on its way
    time.sleep(0.05)
    assert lazy.numbers() == [1]
    drawer.acknowledge(lazy.seat, 1)
    until(lambda: lazy.numbers() == [1, 11])


def test_those_who_wait_are_drawn_together_as_many_as_there_are_threads(
    drawer: Drawer, slow: Slow, tiny: Model
) -> None:
    takers = [Taker(drawer, tiny) for _ in range(6)]
    takers[0].put(1)
    until(lambda: len(slow.batches) == 1)
    for taker in takers[1:]:
        taker.put(1)
    slow.allowed.release(10)
    until(lambda: all(taker.got for taker in takers))
    assert slow.batches == [1, 2, 2, 1]


def test_a_bad_pose_costs_only_its_own_seat(drawer: Drawer, slow: Slow, tiny: Model) -> None:
    bad, nobody, good = (Taker(drawer, tiny) for _ in range(3))
    slow.allowed.release(10)
    drawer.put(bad.seat, 1, np.full((133, 3), np.nan, np.float32))
    drawer.put(nobody.seat, 1, np.zeros((133, 3), np.float32))
    good.put(1)
    until(lambda: all(taker.got for taker in (bad, nobody, good)))
    assert isinstance(bad.got[0][0], PoseError) and isinstance(nobody.got[0][0], PoseError)
    assert isinstance(good.got[0][0], Drawn) and bad.seat.counts.failed == 1
    drawer.acknowledge(bad.seat, 1)  # an error takes a frame's place, so it is acknowledged as one
    bad.put(2)
    until(lambda: bad.numbers() == [1, 2])
    assert isinstance(bad.got[1][0], Drawn)


def test_whoever_leaves_is_not_drawn_for(drawer: Drawer, slow: Slow, tiny: Model) -> None:
    first, gone, last = (Taker(drawer, tiny) for _ in range(3))
    first.put(1)
    until(lambda: len(slow.batches) == 1)
    gone.put(1)
    last.put(1)
    drawer.leave(gone.seat)
    drawer.leave(first.seat)  # its frame is in work
    slow.allowed.release(10)
    until(lambda: bool(last.got))
    assert slow.batches == [1, 1] and not gone.got and not first.got


def test_a_backend_that_fails_is_told_to_everybody_and_to_those_who_come_later(
    drawer: Drawer, slow: Slow, tiny: Model
) -> None:
    one, other = Taker(drawer, tiny), Taker(drawer, tiny)
    slow.fault = BackendError("openvino", "failed", fix="start it again")
    slow.allowed.release(1)
    one.put(1)
    until(lambda: bool(one.got and other.got))
    assert all(isinstance(taker.got[0][0], BackendError) for taker in (one, other))
    with pytest.raises(BackendError, match="openvino: failed"):
        other.put(2)
    with pytest.raises(BackendError, match="openvino: failed"):
        Taker(drawer, tiny)


def test_a_fault_of_its_own_is_typed_too(drawer: Drawer, slow: Slow, tiny: Model) -> None:
    taker = Taker(drawer, tiny)
    slow.fault = RuntimeError("secret")
    slow.allowed.release(1)
    taker.put(1)
    until(lambda: bool(taker.got))
    assert "secret" not in str(taker.got[0][0]) and "RuntimeError" in str(taker.got[0][0])


def test_closing_ends_the_thread(slow: Slow, tiny: Model) -> None:
    drawer = Drawer(slow, Meters())  # type: ignore[arg-type]
    Taker(drawer, tiny)
    drawer.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name == "flowpose-draw" and thread.is_alive()
    ]
