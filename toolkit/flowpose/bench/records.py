"""What a measurement finds, as records that JSON holds: latencies, loops, the machine meanwhile, the verdict.

Durations are milliseconds unless a name says otherwise. Nothing is ever trimmed: percentiles, means and largest values
are of every sample that was taken after the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import Self

from flowpose.spec.base import Spec

POINTS: tuple[tuple[str, float], ...] = (("p90", 90), ("p95", 95), ("p99", 99), ("p999", 99.9))
"""Names and percentiles of a Latency that need samples above them."""

ScenarioName = Literal["single-stream", "multi-stream"]
Policy = Literal["newest", "fifo"]
"""What waits while a picture is made: the newest pose alone, or every pose in its turn."""
VerdictKind = Literal["clean", "throttled", "noisy", "predicted"]


class Latency(Spec):
    """Durations of one thing; a percentile is None where too few samples lie above it (p99 of fewer than 100).

    Attributes:
        n: samples.
        mean, low, high: mean, smallest and largest, ms.
        p50, p90, p95, p99, p999: median and percentiles, ms; p999 is the 99.9th.
        ms: every duration in the order it was taken; empty where the samples were left out of the document.
    """

    # What is stored may hold `fps`, 1000 / mean: a rate of pictures in a closed loop of single ones and nowhere else.
    model_config = ConfigDict(extra="ignore")

    n: int
    mean: float
    low: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    high: float
    ms: tuple[float, ...] = ()

    @classmethod
    def of(cls, ms: Sequence[float]) -> Self:
        """Returns the record of one or more durations, ms."""
        n = len(ms)
        points = {
            name: float(np.percentile(ms, share)) if n >= samples_needed(share) else None
            for name, share in POINTS
        }
        return cls(
            n=n, mean=float(np.mean(ms)), low=float(np.min(ms)), p50=float(np.median(ms)), high=float(np.max(ms)),
            ms=tuple(map(float, ms)), **points,
        )  # fmt: skip


def samples_needed(share: float) -> int:
    """Returns the fewest samples that a percentile is told of: one of them lies above it (100 for the 99th)."""
    return math.ceil(round(100 / (100 - share), 6))


class Percentile(Spec):
    """A percentile of a closed loop, as it is and as early stopping estimates it.

    Attributes:
        share: 0..100, such as 90.
        n: samples.
        raw: the percentile of the samples, ms; None with fewer than `raw_needs`.
        bound: a duration that the percentile is below with the confidence, ms; None with fewer than `bound_needs`.
        confidence: 0..1.
    """

    share: float
    n: int
    raw: float | None
    raw_needs: int
    bound: float | None
    bound_needs: int
    confidence: float

    @property
    def text(self) -> str:
        """Both figures in words, with what is missing where there are not enough samples."""
        name = f"p{self.share:g}"
        raw = f"{self.raw:.2f} ms" if self.raw is not None else _too_few(name, self.n, self.raw_needs)
        if self.bound is None:
            return f"{raw}; {_too_few(f'the bound of {name}', self.n, self.bound_needs)}"
        return f"{raw}; below {self.bound:.2f} ms with {self.confidence:.0%} confidence"


def _too_few(what: str, n: int, needs: int) -> str:
    return f"not enough samples for {what} (n = {n}, needs {needs})"


class ClosedLoop(Spec):
    """A scenario of MLPerf LoadGen: the next query begins when the one before is answered.

    Attributes:
        label: of the model.
        poses_per_query: poses that belong to a query; it is answered when all have their picture.
        latency: of the queries.
        tails: percentiles that the scenario asks for, the first is its result.
        seconds: that the run took.
        fps: pictures a second while queries were answered: all pictures over the sum of the latencies; None in a record
            that was made before it stood in it.
        min_queries, min_seconds: that were asked of this run.
        complete: whether it went on until both were reached; that is not yet what MLPerf's rules ask.
        rules_seconds: the least that the rules ask; None in a record that was made before they stood in it.
    """

    label: str = ""
    scenario: ScenarioName
    poses_per_query: int
    latency: Latency
    tails: tuple[Percentile, ...]
    seconds: float
    min_queries: int
    min_seconds: float
    complete: bool
    rules_seconds: float | None = None
    fps: float | None = None


class OpenLoop(Spec):
    """A stream whose poses come at a fixed rate, whether the model keeps up or not.

    Attributes:
        label: of the model.
        policy: what waits while a picture is made.
        rate: poses a second.
        arrivals: poses that came.
        latency: of the pictures, from when their pose was due, ms.
        late: pictures that were not there when the next pose was due.
        dropped: poses that a newer one replaced before their turn.
        missed: share of the poses without a picture when the next pose was due: (late + dropped) / arrivals.
        fps: pictures a second.
        display_hz: ticks a second of the display that `age` is seen on.
        age: at each tick, the time since the pose of the picture that is shown was due, ms; None: no picture in time.
            The ticks are in all phases to the feed (`open_loops.ticks`).
        blank: ticks before the first picture.
    """

    label: str = ""
    policy: Policy
    rate: float
    seconds: float
    arrivals: int
    latency: Latency
    late: int
    dropped: int
    missed: float
    fps: float
    display_hz: float
    age: Latency | None
    blank: int


class FrameParts(Spec):
    """Where the time of a frame goes, by the real calls of `Session.infer`.

    Attributes:
        label: of the model.
        format: of the poses that were given, as arrays.
        whole: from the call to the picture.
        parts: acquire (the pose is read and copied), pose (conversion to the model's format), pre (checks, fit into
            the frame, the graph's input), graph (the frame graph), post (from the graph's end to the picture in hand).
        covered: sum of all parts over the sum of all wholes; the rest is Python between the calls.
        glue: share of a frame that is not the graph: 1 - sum of graph over sum of whole.
    """

    label: str = ""
    format: str
    whole: Latency
    parts: dict[str, Latency]
    covered: float
    glue: float


class ColdStarts(Spec):
    """Fresh processes that import flowpose, load a model and make one picture; from the second on files are cached.

    Attributes:
        label, backend, precision, threads: of the model.
        n: processes.
        import_s, load_s, first_infer_s, peak_memory_mb: medians, in seconds and MB.
        runs: each part's value in each process, in their order: part -> values.
        p95: part -> 95th percentile; empty with fewer than 20 processes.
    """

    label: str
    backend: str
    precision: str
    threads: int
    n: int
    import_s: float
    load_s: float
    first_infer_s: float
    peak_memory_mb: float
    runs: dict[str, tuple[float, ...]]
    p95: dict[str, float]


class Range(Spec):
    """A quantity that was read several times.

    Attributes:
        start, end: means of the first and the last third of the readings.
        low, high, mean: of all.
    """

    start: float
    end: float
    low: float
    high: float
    mean: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Returns the record of one or more values, in order of time."""
        third = max(1, len(values) // 3)
        start, end, mean = (float(np.mean(part)) for part in (values[:third], values[-third:], values))
        return cls(start=start, end=end, low=min(values), high=max(values), mean=mean)


class Observed(Spec):
    """What the machine did meanwhile.

    Attributes:
        seconds: between the first reading and the last.
        n: readings.
        memory_mb: resident memory of this process.
        memory_peak_mb: the most so far.
        memory_slope: of a straight line through the memory of the run's second half, MB a minute; None with fewer than
            4 readings there.
        clocks: what -> MHz.
        temperatures: sensor -> C.
        power: supply rail or board -> W.
        energy: meter -> J used in these seconds.
        throttling: what held a clock down, by name.
        steal: share of the time of all cores that the hypervisor gave to others; None where the kernel does not tell.
        others: cores' worth of time that other processes had.
        absent: what could not be read -> why.
    """

    seconds: float
    n: int
    memory_mb: Range | None
    memory_peak_mb: float
    memory_slope: float | None
    clocks: dict[str, Range]
    temperatures: dict[str, Range]
    power: dict[str, Range]
    energy: dict[str, float]
    throttling: tuple[str, ...]
    steal: float | None
    others: float | None
    absent: dict[str, str]


class Verdict(Spec):
    """What the numbers are worth.

    Attributes:
        kind: clean; throttled: heat or power held a clock down; noisy: others had the machine too, or the durations
            vary more than the rules allow, or are too few; predicted: the target itself was not measured.
        reasons: each rule that was broken, with its numbers; empty when clean.
        unseen: what the rules could not look at here, and why.
    """

    kind: VerdictKind
    reasons: tuple[str, ...] = ()
    unseen: tuple[str, ...] = Field(default=())

    @property
    def line(self) -> str:
        """The verdict in one line."""
        reasons = "; ".join(self.reasons) or "no rule is broken"
        return f"{self.kind}: {reasons}" + (f" (not seen: {', '.join(self.unseen)})" if self.unseen else "")
