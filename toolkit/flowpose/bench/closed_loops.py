"""Closed loops as MLPerf LoadGen has them: the next query begins when the one before is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowpose.bench.clock import REAL, Clock
from flowpose.bench.early_stopping import percentile, queries_needed
from flowpose.bench.records import ClosedLoop, Latency, ScenarioName
from flowpose.errors import FlowposeError

Query = Callable[[Sequence[Any]], object]
"""Takes a query's poses, and returns when all of them have their picture."""


@dataclass(frozen=True)
class Scenario:
    """A kind of closed loop.

    Attributes:
        shares: percentiles of the latency that it tells, the first is its result.
        poses: a query.
        min_queries: of a complete run; raised to what the result's bound needs.
    """

    name: ScenarioName
    shares: tuple[float, ...]
    poses: int
    min_queries: int


SINGLE_STREAM = Scenario("single-stream", (90.0, 99.0), poses=1, min_queries=100)
MULTI_STREAM = Scenario("multi-stream", (99.0,), poses=8, min_queries=662)
"""MLPerf Inference Rules, section "Scenarios": percentiles and samples a query; LoadGen's settings: least queries."""

SEED = 0  # of the order of the poses
MIN_SECONDS, MAX_SECONDS = 10.0, 150.0
RULES_SECONDS = 600.0  # the same rules: the least of a run; it stands in each record beside what the run took


def closed_loop(
    query: Query,
    poses: Sequence[Any],
    scenario: Scenario,
    *,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float | None = None,
    warmup: int = 5,
    clock: Clock = REAL,
) -> ClosedLoop:
    """Returns the latencies of queries that follow one another without a pause.

    It goes on until it has lasted `min_seconds` and has as many queries as the scenario and the bound of its
    percentile need (MLPerf Inference Rules, appendix "Early Stopping Criterion"); at `max_seconds` it ends all the
    same, and says so.

    Args:
        query: answers one.
        poses: drawn at random with repeats, always in the same order.
        scenario: SINGLE_STREAM, MULTI_STREAM, or one with other settings.
        min_seconds: of a complete run, without its warm-up.
        max_seconds: at which it ends; without it MAX_SECONDS, or `min_seconds` where that is more.
        warmup: queries before that are not timed.
        clock: what time it is.

    Raises:
        FlowposeError: no poses, no time, or what the query raises.
    """
    most = max(MAX_SECONDS, min_seconds) if max_seconds is None else max_seconds
    if not len(poses) or not 0 <= min_seconds <= most or not most > 0:
        got = f"{len(poses)} poses, {min_seconds:g} to {most:g} s"
        raise FlowposeError(
            scenario.name, "nothing to measure", got=got, expected="poses, and a time above 0"
        )
    needed = max(scenario.min_queries, queries_needed(scenario.shares[0]))
    order = np.random.default_rng(SEED)
    for _ in range(warmup):
        query(_drawn(poses, order, scenario.poses))
    ms: list[float] = []
    start = now = clock.now()
    while not (complete := len(ms) >= needed and now - start >= min_seconds) and now - start < most:
        given = _drawn(poses, order, scenario.poses)
        begun = clock.now()
        query(given)
        now = clock.now()
        ms.append(1000 * (now - begun))
    return ClosedLoop(
        scenario=scenario.name, poses_per_query=scenario.poses, latency=Latency.of(ms),
        tails=tuple(percentile(ms, share) for share in scenario.shares), seconds=now - start,
        min_queries=needed, min_seconds=min_seconds, complete=complete, rules_seconds=RULES_SECONDS,
        fps=1000 * scenario.poses * len(ms) / sum(ms),
    )  # fmt: skip


def _drawn(poses: Sequence[Any], order: np.random.Generator, count: int) -> list[Any]:
    return [poses[at] for at in order.integers(0, len(poses), count)]
