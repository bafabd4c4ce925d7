"""The clock that a measurement waits by: the real one, or one that a test moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """What time it is, and how to wait; both in seconds.

    Attributes:
        now: time since any fixed moment.
        sleep: waits; given 0 or more.
    """

    now: Callable[[], float]
    sleep: Callable[[float], None]


REAL = Clock(time.perf_counter, time.sleep)
