"""Every rule of the verdict, broken one at a time and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowpose.bench.records import Latency, Observed, Range
from flowpose.bench.verdict import Evidence, Limits, judge

QUIET: dict[str, Any] = {
    "seconds": 60.0, "n": 61, "memory_mb": None, "memory_peak_mb": 200.0, "memory_slope": 0.0, "clocks": {},
    "temperatures": {}, "power": {}, "energy": {}, "throttling": (), "steal": 0.0, "others": 0.0, "absent": {},
}  # fmt: skip
STEADY = tuple(10 + 0.1 * np.sin(np.arange(200)))


def verdict(ms: tuple[float, ...] = STEADY, **changes: object):
    return judge(Evidence({"int8 frame": Latency.of(ms)}, Observed.model_validate({**QUIET, **changes})))


def clock(start: float, end: float) -> dict[str, Range]:
    return {"cpu0": Range(start=start, end=end, low=end, high=start, mean=(start + end) / 2)}


def test_a_quiet_run_is_clean_and_says_what_it_could_not_see() -> None:
    found = verdict(absent={"temperature": "no sensor", "power": "no monitor"})
    assert found.kind == "clean" and found.reasons == () and found.unseen == ("temperature", "power")
    assert found.line == "clean: no rule is broken (not seen: temperature, power)"
    assert verdict().line == "clean: no rule is broken"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"throttling": ("cpu0 core_throttle_count",)}, "cpu0 core_throttle_count held a clock down"),
        ({"clocks": clock(3000, 2800)}, "cpu0: from 3000 to 2800 MHz, 7% lower"),
    ],
)
def test_throttled(changes: dict[str, Any], reason: str) -> None:
    found = verdict(**changes)
    assert found.kind == "throttled" and found.reasons == (reason,)


@pytest.mark.parametrize("kept", [{"clocks": clock(3000, 2900)}, {"clocks": clock(800, 3000)}])
def test_a_clock_that_rises_or_hardly_falls_is_not_throttled(kept: dict[str, Any]) -> None:
    assert verdict(**kept).kind == "clean"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steal": 0.02}, "the hypervisor took 2.0% of the processor's time"),
        ({"others": 1.0}, "other processes had 1.00 cores"),
        ({"ms": (*STEADY[:196], 16, 16, 16, 16)}, "int8 frame: p99 is 1.60 times p50 (above 1.5)"),
        (
            {"ms": (*[10.0] * 100, *[11.0] * 100)},
            "int8 frame: the medians of its two halves are 10.0% apart (above 5%)",
        ),
        ({"ms": STEADY[:99]}, "int8 frame: 99 samples, too few to judge (below 100)"),
    ],
)
def test_noisy(changes: dict[str, Any], reason: str) -> None:
    found = verdict(**changes)
    assert found.kind == "noisy" and found.reasons == (reason,)


@pytest.mark.parametrize(
    "kept", [{"steal": 0.009}, {"others": 0.04}, {"ms": (*STEADY[:196], 14, 14, 14, 14)}]
)
def test_what_stays_within_the_limits_is_clean(kept: dict[str, Any]) -> None:
    assert verdict(**kept).kind == "clean"


def test_predicted() -> None:
    nothing = judge(Evidence({}, None))
    assert nothing.kind == "predicted" and nothing.reasons == ("nothing was measured",)
    other = judge(
        Evidence({"int8 frame": Latency.of(STEADY)}, Observed(**QUIET), "measured on EPYC, no orin")
    )
    assert other.kind == "predicted" and other.reasons == ("measured on EPYC, no orin",)


def test_the_worst_kind_is_named_and_every_reason_told() -> None:
    found = verdict(throttling=("gpu SwPowerCap",), others=1.0, steal=0.5)
    assert found.kind == "throttled" and len(found.reasons) == 3
    assert found.line.startswith("throttled: gpu SwPowerCap held a clock down; the hypervisor took")


def test_a_machine_that_was_not_watched_is_said() -> None:
    assert judge(Evidence({"int8 frame": Latency.of(STEADY)}, None)).unseen == ("machine",)


def test_limits_can_be_others() -> None:
    given = Evidence(
        {"a": Latency.of(STEADY)}, Observed(**{**QUIET, "others": 0.5}), limits=Limits(others=0.6)
    )
    assert judge(given).kind == "clean"
