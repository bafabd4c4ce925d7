"""A clock that only moves when something waits or works, so that every duration in a test is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

from flowpose.bench.clock import Clock


class FakeTime:
    """Time in whole nanoseconds that stands still until `sleep` is called; a wait is never shorter than asked for."""

    def __init__(self) -> None:
        self.ns = 100_000_000_000  # measurements may not rely on a start at 0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.ns += max(math.ceil(round(seconds * 1e9, 3)), seconds > 0)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.ns / 1e9, self.sleep)


def worker(time: FakeTime, ms: Sequence[float], after: float) -> Callable[[object], None]:
    """A model whose n-th picture takes ms[n], and `after` from then on."""
    times: Iterator[float] = chain(ms, repeat(after))

    def draw(pose: object) -> None:
        time.sleep(next(times) / 1000)

    return draw
