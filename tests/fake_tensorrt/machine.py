"""The machine that the two fake modules share: its memory, its GPU, what was called, and the faults that are planted.

Work in a stream waits until the stream is synchronized, as late as it may be on a GPU, so that a missing wait shows.
"""

from __future__ import annotations

import ctypes
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Work = Callable[[], None]


@dataclass
class Queue:
    """A stream: what waits in it, and what it records instead where it does."""

    waiting: list[Work] = field(default_factory=list)
    recorded: list[Work] | None = None

    def put(self, work: Work) -> None:
        (self.waiting if self.recorded is None else self.recorded).append(work)

    def drain(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@dataclass
class Machine:
    """State of the fake.

    Attributes:
        faults: name -> what goes wrong. A function of the CUDA runtime -> the name of the error that it returns;
            `zeros`: outputs of zeros; `empty`: a recording takes nothing up; `stale`: it takes up work that does
            nothing; `enqueue`: queueing fails; `recording`: queueing fails while recording; `context`: none is made;
            `build`: the builder returns None; `library`: neither Runtime nor Builder can be made.
        copied: bytes of every copy between CPU and GPU, as `up 12`, `down 12` and, within the GPU, `across 12`.
        timed: kernels that builders had to time.
        during_build: called at every step of a build.
    """

    version: str = "10.3.0"
    name: str = "Orin"
    sm: tuple[int, int] = (8, 7)
    sms: int = 8
    integrated: bool = False
    driver: int = 12060
    free_mb: int = 6_000
    total_mb: int = 16_000
    faults: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    copied: list[str] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)
    during_build: Callable[[], None] = lambda: None
    configs: list[object] = field(default_factory=list)
    pinned: dict[int, ctypes.Array] = field(default_factory=dict)
    device: dict[int, ctypes.Array] = field(default_factory=dict)
    mapped: set[int] = field(default_factory=set)
    queues: dict[int, Queue] = field(default_factory=dict)
    graphs: dict[int, list[Work]] = field(default_factory=dict)
    launchable: dict[int, list[Work]] = field(default_factory=dict)
    handles: itertools.count = field(default_factory=lambda: itertools.count(1))

    def open_things(self) -> int:
        """How much is neither freed nor given back."""
        return sum(map(len, (self.pinned, self.device, self.queues, self.graphs, self.launchable)))

    def bytes_at(self, address: int, size: int, *, gpu: bool) -> NDArray[np.uint8] | None:
        """Memory at the begin of an allocation, None where there is none of the size, or of that side."""
        places = {**self.device, **{each: self.pinned[each] for each in self.mapped}} if gpu else self.pinned
        block = places.get(address)
        if block is None or len(block) < size:
            return None
        return np.frombuffer(block, np.uint8, size)


MACHINE = Machine()


def reset() -> Machine:
    """Makes the one machine new."""
    MACHINE.__init__()  # type: ignore[misc]
    return MACHINE
