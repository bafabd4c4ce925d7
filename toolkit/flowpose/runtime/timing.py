"""Timing several things against each other on a machine that others may share.

Times drift with the machine's load, so candidates take turns: what disturbs one disturbs the others, and
ratios hold where single numbers do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Action = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Durations of one thing, milliseconds, in the order they were taken."""

    ms: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """Returns the duration that `share` per cent of the runs did not exceed, milliseconds."""
        return float(np.percentile(self.ms, share))

    def summary(self) -> dict[str, float]:
        """Returns n, mean, p50, p90, p95, p99 (milliseconds) and fps (runs a second at the mean)."""
        mean = float(np.mean(self.ms))
        points = {f"p{share}": self.percentile(share) for share in (50, 90, 95, 99)}
        return {"n": len(self.ms), "mean": mean, **points, "fps": 1000 / mean if mean > 0 else 0.0}


def alternate(
    actions: Mapping[str, Action], *, rounds: int, warmup: int, settle: int = 0
) -> dict[str, Timing]:
    """Returns the durations of each action; they take turns, every second round in reverse order.

    Args:
        actions: label -> what to time.
        rounds: timed runs of each.
        warmup: runs of each before, not timed.
        settle: runs of an action right before each timed one, not timed: what another one left in caches, or its
            threads that have not gone to sleep yet, are met by these.
    """
    for action in actions.values():
        for _ in range(warmup):
            action()
    found: dict[str, list[float]] = {label: [] for label in actions}
    order = list(actions)
    for _ in range(rounds):
        for label in order:
            for _ in range(settle):
                actions[label]()
            start = time.perf_counter_ns()
            actions[label]()
            found[label].append((time.perf_counter_ns() - start) / 1e6)
        order.reverse()
    return {label: Timing(tuple(ms)) for label, ms in found.items()}
