"""Several runs of a graph at once, each on one CPU thread.

Threads that share one small frame wait for each other at every layer, so a core each draws more frames a second
(benchmarks/session_batch.py; docs/sessions.md has the figures). One frame alone is done sooner on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from flowpose.runtime.backend import Tensors

Run = Callable[[Tensors], dict[str, NDArray[Any]]]


class Lanes:
    """Runs side by side; safe for threads, which share the lanes.

    Args:
        runs: one for each lane; a lane is used by one thread at a time.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._idle: SimpleQueue[Run] = SimpleQueue()
        for run in runs:
            self._idle.put(run)
        self._pool = ThreadPoolExecutor(len(runs), thread_name_prefix="flowpose-lane")

    def __call__(self, inputs: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]:
        """Returns the outputs of each, in order; raises what the first one that failed raised."""
        return list(self._pool.map(self._one, inputs))

    def _one(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        run = self._idle.get()
        try:
            return run(inputs)
        finally:
            self._idle.put(run)


def in_lanes(count: int, lanes: int) -> int:
    """Returns how many of `count` runs go into lanes: whole rounds, and a rest that fills more than half of them.

    What is left is drawn one after the other, on all threads; so is everything where there is one lane.
    """
    if lanes == 1:
        return 0
    rest = count % lanes
    return count if 2 * rest > lanes else count - rest
