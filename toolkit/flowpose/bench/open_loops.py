"""Open loops: poses come at a fixed rate, whether the model keeps up or not.

A loop that waits for each picture before it asks for the next one hides every stall. Here latency counts from when a
pose was due, so a stall is seen by all the poses that wait behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpose.bench.clock import REAL, Clock
from flowpose.bench.records import Latency, OpenLoop, Policy
from flowpose.errors import BackendError, FlowposeError

if TYPE_CHECKING:
    from flowpose.runtime.stream import Stream

DISPLAY_HZ = 60.0
GOLDEN = (5**0.5 - 1) / 2  # its multiples fill an interval evenly, however many there are
PATIENCE = 30.0  # seconds that the last picture may take


@dataclass(frozen=True)
class Drawn:
    """A picture that came out: when its pose was due, and when it was there; seconds from the start."""

    due: float
    at: float


class Lane(Protocol):
    """What poses go into and pictures come out of."""

    def put(self, pose: Any, due: float) -> None:
        """Takes a pose that was due at that time; returns at once."""
        ...

    def get(self, timeout: float) -> float | None:
        """Returns when the pose of the next picture was due, as soon as there is one; None if none came in time."""
        ...


class Waiting:
    """A lane without a thread of its own: poses wait, and `get` draws the first of them.

    Args:
        draw: makes a pose's picture.
        policy: `fifo` keeps every pose that waits, `newest` the last one.
        clock: what it waits by while there are none.
    """

    def __init__(self, draw: Callable[[Any], object], policy: Policy, clock: Clock = REAL) -> None:
        self._draw, self._clock = draw, clock
        self._held: deque[tuple[Any, float]] = deque(maxlen=1 if policy == "newest" else None)

    def put(self, pose: Any, due: float) -> None:
        self._held.append((pose, due))

    def get(self, timeout: float) -> float | None:
        if not self._held:
            self._clock.sleep(timeout)
            return None
        pose, due = self._held.popleft()
        self._draw(pose)
        return due


class StreamLane:
    """A session's stream, which draws in a thread of its own; newest pose wins."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def put(self, pose: Any, due: float) -> None:
        self._stream.put(pose, due)

    def get(self, timeout: float) -> float | None:
        frame = self._stream.get(timeout)
        return None if frame is None else frame.time


def open_loop(
    lane: Lane,
    poses: Sequence[Any],
    *,
    policy: Policy,
    rate: float,
    seconds: float,
    display_hz: float = DISPLAY_HZ,
    clock: Clock = REAL,
) -> OpenLoop:
    """Returns what a viewer of a stream at a fixed rate has of it.

    Args:
        lane: what draws; warm.
        poses: used round and round.
        policy: of the lane.
        rate: poses a second, above 0.
        seconds: that poses come for, above 0; the pictures of those that wait then are still waited for.
        display_hz: ticks a second of the display that pictures are shown on; see `ticks`.
        clock: what time it is.

    Raises:
        FlowposeError: no poses, no rate, no time.
        BackendError: the last pose's picture did not come within PATIENCE; or what the lane raises.
    """
    if not len(poses) or not min(rate, seconds, display_hz) > 0:
        got = f"{len(poses)} poses, {rate:g} a second, {seconds:g} s, {display_hz:g} Hz"
        raise FlowposeError("open loop", "nothing to measure", got=got, expected="poses, and all above 0")
    due = [i / rate for i in range(max(1, round(rate * seconds)))]
    return tally(due, drive(lane, poses, due, clock), policy=policy, rate=rate, display_hz=display_hz)


def drive(lane: Lane, poses: Sequence[Any], due: Sequence[float], clock: Clock) -> list[Drawn]:
    """Returns the pictures that come out while poses go in when they are due, and until the last one's is there."""
    drawn: list[Drawn] = []
    start, given = clock.now(), 0
    while not drawn or drawn[-1].due != due[-1]:
        now = clock.now() - start
        while given < len(due) and due[given] <= now:
            lane.put(poses[given % len(poses)], due[given])
            given += 1
        waits = due[given] - now if given < len(due) else PATIENCE
        of = lane.get(waits)
        if of is not None:
            drawn.append(Drawn(of, clock.now() - start))
        elif given == len(due):
            raise BackendError("open loop", "no picture of the last pose", got=f"none in {PATIENCE:g} s")
    return drawn


def tally(
    due: Sequence[float], drawn: Sequence[Drawn], *, policy: Policy, rate: float, display_hz: float
) -> OpenLoop:
    """Returns the figures of a stream from when its poses were due and when its pictures came, in seconds."""
    latencies = [1000 * (each.at - each.due) for each in drawn]
    late, dropped = sum(ms > 1000 / rate for ms in latencies), len(due) - len(drawn)
    ages, blank = _ages(drawn, len(due) / rate, display_hz)
    return OpenLoop(
        policy=policy, rate=rate, seconds=len(due) / rate, arrivals=len(due), latency=Latency.of(latencies),
        late=late, dropped=dropped, missed=(late + dropped) / len(due),
        fps=len(drawn) / max(drawn[-1].at, len(due) / rate), display_hz=display_hz,
        age=Latency.of(ages) if len(ages) else None, blank=blank,
    )  # fmt: skip


def ticks(seconds: float, display_hz: float) -> NDArray[np.float64]:
    """Returns when a display is looked at: once in each of its intervals, at another phase each time; seconds.

    A display is not in phase with what feeds it. Of a feed of 30 Hz a display of 60 Hz in one phase would see all
    pictures at the same two ages, multiples of its interval, whatever they took. So tick k is that of a display whose
    phase is the k-th multiple of the golden ratio: figures over all ticks are an average over all phases.
    """
    count = np.arange(int(seconds * display_hz))
    found: NDArray[np.float64] = (count + (count + 1) * GOLDEN % 1) / display_hz
    return found


def _ages(drawn: Sequence[Drawn], seconds: float, display_hz: float) -> tuple[list[float], int]:
    """Age of the picture shown at each tick while poses come, ms, and how many ticks show none."""
    at = ticks(seconds, display_hz)
    shown = np.searchsorted([each.at for each in drawn], at, side="right") - 1
    dues = np.array([each.due for each in drawn])
    seen = shown >= 0
    return (1000 * (at[seen] - dues[shown[seen]])).tolist(), int((~seen).sum())
