"""The loops that a model goes through on request: single-stream, multi-stream, and streams at fixed rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flowpose.bench.closed_loops import MULTI_STREAM, SINGLE_STREAM, Query, closed_loop
from flowpose.bench.open_loops import StreamLane, Waiting, open_loop
from flowpose.bench.records import ClosedLoop, OpenLoop, Policy
from flowpose.errors import FlowposeError, PoseError
from flowpose.runtime.model import Model
from flowpose.runtime.session import Session

SCENARIOS = ("single", "multi", "open")
POLICIES: tuple[Policy, ...] = ("newest", "fifo")
RATE = 30.0
WARMUP = 10  # frames before a stream


@dataclass(frozen=True)
class ScenarioPlan:
    """Which loops, and how long.

    Attributes:
        names: of SCENARIOS.
        rates: poses a second of the streams.
        seconds: of a stream; the least of a closed loop.
        policies: of the streams: `newest` is `Session.stream`, `fifo` one thread that draws every pose in its turn.
    """

    names: Sequence[str] = ()
    rates: Sequence[float] = (RATE,)
    seconds: float = 10.0
    policies: Sequence[Policy] = POLICIES

    def check(self) -> None:
        """Raises FlowposeError for a name, a rate or a time that cannot be."""
        for what, names, known in (("scenario", self.names, SCENARIOS), ("policy", self.policies, POLICIES)):
            for name in names:
                if name not in known:
                    raise FlowposeError(what, "unknown", got=name, expected=", ".join(known))
        for what, values in (("rate", self.rates), ("seconds", (self.seconds,))):
            for value in values:
                if not 0 < value < float("inf"):
                    raise FlowposeError(what, "nothing to measure", got=f"{value:g}", expected="above 0")


def closed_loops(model: Model, source: Any, poses: Sequence[Any], plan: ScenarioPlan) -> Iterator[ClosedLoop]:
    """Yields the closed loops of a plan: each query is made of the model's own calls for a user.

    Args:
        model: what is measured.
        source: u8[h,w,3].
        poses: what queries are drawn from.
        plan: which loops.
    """
    session = model.session(source)

    def single(given: Sequence[Any]) -> object:
        return session.infer(given[0])

    def several(given: Sequence[Any]) -> object:
        found = model.infer_batch([session] * len(given), given)
        for each in found:
            if isinstance(each, PoseError):
                raise each
        return found

    queries: tuple[tuple[str, Query], ...] = (("single", single), ("multi", several))
    for name, query in queries:
        if name in plan.names:
            scenario = SINGLE_STREAM if name == "single" else MULTI_STREAM
            yield closed_loop(query, poses, scenario, min_seconds=plan.seconds)


def open_loops(model: Model, source: Any, poses: Sequence[Any], plan: ScenarioPlan) -> Iterator[OpenLoop]:
    """Yields the streams of a plan, one for each rate and policy; arguments as for `closed_loops`."""
    if "open" not in plan.names:
        return
    session = model.session(source)
    for rate in plan.rates:
        for policy in plan.policies:
            for at in range(WARMUP):
                session.infer(poses[at % len(poses)])
            yield _stream(session, poses, policy, rate, plan.seconds)


def _stream(session: Session, poses: Sequence[Any], policy: Policy, rate: float, seconds: float) -> OpenLoop:
    if policy == "fifo":
        lane = Waiting(session.infer, policy)
        return open_loop(lane, poses, policy=policy, rate=rate, seconds=seconds)
    with session.stream() as stream:
        return open_loop(StreamLane(stream), poses, policy=policy, rate=rate, seconds=seconds)
