"""What a measurement is worth: clean, throttled, noisy or predicted, by stated rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from flowpose.bench.records import Latency, Observed, Verdict, VerdictKind

SAMPLES = (
    100  # fewest that a verdict is given on: below, one sample is more than the 99th percentile lets pass
)


@dataclass(frozen=True)
class Limits:
    """What a clean measurement keeps to.

    Attributes:
        tail: p99 over p50 of any latency.
        halves: difference between the medians of a run's first and second half, as a share of the first.
        clock_drop: how much lower a clock's last third may be than its first, as a share of that.
        steal: share of the cores' time that the hypervisor gave to other machines.
        others: cores' worth of time that other processes had.
    """

    tail: float = 1.5
    halves: float = 0.05
    clock_drop: float = 0.05
    steal: float = 0.01
    others: float = 0.05


@dataclass(frozen=True)
class Evidence:
    """What a verdict is given on.

    Attributes:
        latencies: what was measured -> its samples; empty: nothing was.
        observed: the machine meanwhile.
        elsewhere: why the figures are not of the machine that they are for; empty where they are.
        limits: of a clean measurement.
    """

    latencies: Mapping[str, Latency]
    observed: Observed | None
    elsewhere: str = ""
    limits: Limits = Limits()


def judge(evidence: Evidence) -> Verdict:
    """Returns the verdict: the first kind of RULES that has a reason, with the reasons of all that have one."""
    found = {kind: list(rule(evidence)) for kind, rule in RULES.items()}
    kind: VerdictKind = next((kind for kind, reasons in found.items() if reasons), "clean")
    reasons = tuple(reason for each in found.values() for reason in each)
    absent = evidence.observed.absent if evidence.observed is not None else {"machine": "it was not watched"}
    return Verdict(kind=kind, reasons=reasons, unseen=tuple(absent) if kind != "predicted" else ())


def _predicted(evidence: Evidence) -> Iterator[str]:
    if evidence.elsewhere:
        yield evidence.elsewhere
    elif not evidence.latencies:
        yield "nothing was measured"


def _throttled(evidence: Evidence) -> Iterator[str]:
    if evidence.observed is None:
        return
    for name in evidence.observed.throttling:
        yield f"{name} held a clock down"
    for name, clock in evidence.observed.clocks.items():
        drop = 1 - clock.end / clock.start if clock.start > 0 else 0.0
        if drop > evidence.limits.clock_drop:
            yield f"{name}: from {clock.start:.0f} to {clock.end:.0f} MHz, {drop:.0%} lower"


def _noisy(evidence: Evidence) -> Iterator[str]:
    limits, seen = evidence.limits, evidence.observed
    if seen is not None and seen.steal is not None and seen.steal > limits.steal:
        yield f"the hypervisor took {seen.steal:.1%} of the processor's time"
    if seen is not None and seen.others is not None and seen.others > limits.others:
        yield f"other processes had {seen.others:.2f} cores"
    for name, latency in evidence.latencies.items():
        if latency.n < SAMPLES:
            yield f"{name}: {latency.n} samples, too few to judge (below {SAMPLES})"
            continue
        if latency.p99 is not None and latency.p99 / latency.p50 > limits.tail:
            yield f"{name}: p99 is {latency.p99 / latency.p50:.2f} times p50 (above {limits.tail:g})"
        apart = halves_apart(latency)
        if apart > limits.halves:
            yield f"{name}: the medians of its two halves are {apart:.1%} apart (above {limits.halves:.0%})"


RULES: Mapping[VerdictKind, Callable[[Evidence], Iterator[str]]] = MappingProxyType(
    {"predicted": _predicted, "throttled": _throttled, "noisy": _noisy}
)
"""Kind of verdict -> gives a reason for each rule that is broken; the worst first."""


def halves_apart(latency: Latency) -> float:
    """Returns how far the medians of the first and second half of the samples are apart, as a share of the first."""
    middle = latency.n // 2
    first, second = (float(np.median(part)) for part in (latency.ms[:middle], latency.ms[middle:]))
    return abs(second - first) / first if first > 0 else 0.0
