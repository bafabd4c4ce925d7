"""Closed and open loops on a clock that stands still unless somebody waits or works: every figure is exact."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from bench.fake_time import FakeTime, worker
from tiny_graphs import NumpyBackend, pictures, standing

from flowpose.artifact import Artifact
from flowpose.bench import scenarios
from flowpose.bench.closed_loops import MULTI_STREAM, SINGLE_STREAM, closed_loop
from flowpose.bench.open_loops import Drawn, StreamLane, Waiting, open_loop, tally, ticks
from flowpose.bench.records import OpenLoop, Policy
from flowpose.bench.scenario_tables import closed_table
from flowpose.bench.scenarios import ScenarioPlan, closed_loops, open_loops
from flowpose.errors import BackendError, FlowposeError, PoseError
from flowpose.runtime.loading import assemble
from flowpose.runtime.stream import Stream

POSES = ("a", "b", "c")
STALL = [10.0] * 10 + [105.0]  # ms of the pictures: the eleventh takes 105


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def streamed(
    time: FakeTime, ms: Sequence[float], policy: Policy, *, rate: float = 50, seconds: float = 1
) -> OpenLoop:
    lane = Waiting(worker(time, ms, 10.0), policy, time.clock)
    return open_loop(lane, POSES, policy=policy, rate=rate, seconds=seconds, clock=time.clock)


def test_a_stall_is_seen_by_every_pose_that_waits_behind_it(time: FakeTime) -> None:
    """A pose each 20 ms and pictures of 10 ms: the stall of 105 ms delays the eleventh and the nine after it."""
    found = streamed(time, STALL, "fifo")
    expected = [10.0] * 10 + [105, 95, 85, 75, 65, 55, 45, 35, 25, 15] + [10.0] * 30
    assert found.latency.ms == pytest.approx(expected)
    assert (found.arrivals, found.dropped, found.late) == (50, 0, 9)
    assert found.missed == pytest.approx(9 / 50), "105 to 25 ms are over the 20 ms to the next pose"
    assert found.latency.high == pytest.approx(105), "nothing is trimmed"


def test_a_loop_that_waits_would_have_hidden_the_stall(time: FakeTime) -> None:
    """The same model in a closed loop: one slow sample of fifty, and a p95 that knows nothing of it."""
    draw = worker(time, STALL, 10.0)
    scenario = replace(SINGLE_STREAM, shares=(50.0,), min_queries=50)
    closed = closed_loop(
        lambda given: draw(given[0]), POSES, scenario, min_seconds=0, warmup=0, clock=time.clock
    )
    assert closed.latency.n == 50 and sum(ms > 20 for ms in closed.latency.ms) == 1
    opened = streamed(FakeTime(), STALL, "fifo")
    assert closed.latency.p90 == pytest.approx(10)
    assert opened.latency.p90 == pytest.approx(56, abs=5)


def test_the_newest_pose_wins_and_the_replaced_ones_are_counted(time: FakeTime) -> None:
    found = streamed(time, STALL, "newest")
    # The stall ends at 305 ms: the poses of 220 to 280 were replaced by that of 300, which is done at 315.
    assert found.dropped == 4
    assert found.latency.ms == pytest.approx([10.0] * 10 + [105.0, 15.0] + [10.0] * 34)
    assert found.late == 1 and found.missed == pytest.approx(5 / 50)


def test_the_last_pose_that_waits_is_drawn_too(time: FakeTime) -> None:
    found = streamed(time, [90.0] * 9, "newest", rate=50, seconds=0.1)
    assert found.arrivals == 5 and found.dropped == 3
    assert found.latency.ms == pytest.approx([90, 180 - 80]), "the pose of 80 ms, taken at 90, done at 180"


def test_what_a_display_shows_grows_old_during_a_stall(time: FakeTime) -> None:
    found = streamed(time, STALL, "newest")
    assert found.display_hz == 60 and found.blank == 0 and found.age is not None
    assert found.age.n == 60, "a tick each 16.7 ms for a second"
    # Until the stalled picture (due 200, done 305) is there, the pose of 180 is shown; then that of 200, until 315.
    assert 315 - 200 - 1000 / 60 < found.age.high < 305 - 180
    assert 10 <= found.age.low < 12, "pictures of 10 ms are seen at once in some phase"
    steady = streamed(FakeTime(), [], "newest")
    assert steady.age is not None and steady.age.high < 10 + 20 + 0.01, (
        "never older than its own time and one interval"
    )


def test_a_display_is_blank_until_the_first_picture(time: FakeTime) -> None:
    found = streamed(time, [100.0], "fifo")
    assert found.blank == 6, "the ticks of the first 100 ms"


def test_overload_shows_in_fps_and_misses(time: FakeTime) -> None:
    fifo = streamed(time, [25.0] * 50, "fifo", rate=50)
    assert fifo.missed == 1 and fifo.dropped == 0 and fifo.fps == pytest.approx(40)
    assert fifo.latency.high == pytest.approx(50 * 25 - 49 * 20), "it falls behind further and further"
    newest = streamed(FakeTime(), [25.0] * 50, "newest", rate=50)
    assert newest.latency.high < 25 + 20 + 0.01 and newest.dropped > 5 and newest.fps < 41


@pytest.mark.parametrize(
    ("rate", "seconds", "poses"), [(15, 4, 60), (30, 2, 60), (60, 0.5, 30), (30, 0.001, 1)]
)
def test_as_many_poses_come_as_fit_the_time(time: FakeTime, rate: float, seconds: float, poses: int) -> None:
    assert streamed(time, [], "fifo", rate=rate, seconds=seconds).arrivals == poses


def test_a_stream_that_gives_no_last_picture_is_an_error(time: FakeTime) -> None:
    class Deaf:
        def put(self, pose: object, due: float) -> None: ...

        def get(self, timeout: float) -> None:
            time.sleep(timeout)

    with pytest.raises(BackendError, match="no picture of the last pose, got none in 30 s"):
        open_loop(Deaf(), POSES, policy="newest", rate=10, seconds=1, clock=time.clock)


def test_pictures_of_a_thread_are_counted_from_when_their_pose_was_due() -> None:
    due = [0.0, 0.1, 0.2, 0.3]
    found = tally(
        due, [Drawn(0.0, 0.05), Drawn(0.2, 0.35), Drawn(0.3, 0.38)], policy="newest", rate=10, display_hz=10
    )
    assert found.latency.ms == pytest.approx([50, 150, 80])
    assert (found.late, found.dropped, found.missed) == (1, 1, 0.5)
    # A tick in each tenth of a second; nothing is shown before 50 ms, the pose of 0 until 350, that of 300 from 380 on.
    at = [0.0618, 0.1236, 0.2854, 0.3472]
    assert ticks(0.4, 10) == pytest.approx(at, abs=1e-4) and found.blank == 0
    assert found.age is not None and found.age.ms == pytest.approx([1000 * tick for tick in at], abs=0.1)


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": -1}, {"seconds": 0}, {"display_hz": 0}, {"poses": ()}]
)
def test_what_cannot_be_streamed(time: FakeTime, wrong: dict) -> None:
    given = {"poses": POSES, "rate": 30, "seconds": 1, "policy": "fifo", **wrong}
    with pytest.raises(FlowposeError, match="nothing to measure"):
        open_loop(Waiting(print, "fifo", time.clock), given.pop("poses"), clock=time.clock, **given)


def test_single_stream_goes_on_until_time_and_queries_are_enough(time: FakeTime) -> None:
    slow = closed_loop(lambda given: time.sleep(0.2), POSES, SINGLE_STREAM, min_seconds=10, clock=time.clock)
    assert slow.latency.n == 100 and slow.seconds == pytest.approx(20) and slow.complete
    assert slow.fps == pytest.approx(5)
    fast = closed_loop(lambda given: time.sleep(0.01), POSES, SINGLE_STREAM, min_seconds=10, clock=time.clock)
    assert fast.latency.n in (1000, 1001) and fast.seconds == pytest.approx(10, abs=0.011)
    assert [tail.share for tail in fast.tails] == [90, 99] and fast.tails[0].bound == pytest.approx(10)


def test_a_run_that_is_cut_short_says_so(time: FakeTime) -> None:
    found = closed_loop(
        lambda given: time.sleep(1.0), POSES, MULTI_STREAM, min_seconds=1, max_seconds=50, clock=time.clock
    )
    assert not found.complete and found.latency.n == 50 and found.min_queries == 662
    assert (found.rules_seconds, found.seconds) == (600, pytest.approx(50)), "what the rules ask"
    assert "MLPerf's rules ask for 600 seconds" in str(closed_table([found]).caption)
    assert (
        found.tails[0].raw is None and "not enough samples for p99 (n = 50, needs 100)" in found.tails[0].text
    )


def test_a_multi_stream_query_is_answered_when_all_its_poses_are(time: FakeTime) -> None:
    given: list[int] = []

    def query(poses: Sequence[object]) -> None:
        given.append(len(poses))
        time.sleep(0.008)

    found = closed_loop(query, POSES, MULTI_STREAM, min_seconds=0, warmup=3, clock=time.clock)
    assert set(given) == {8} and len(given) == 662 + 3, "the warm-up is not timed"
    assert found.latency.n == 662 and found.tails[0].bound == pytest.approx(8)
    assert found.fps == pytest.approx(1000), "eight pictures in eight milliseconds"


def test_nothing_is_trimmed_from_a_closed_loop(time: FakeTime) -> None:
    draw = worker(time, [5.0] * 30 + [5000.0], 5.0)
    found = closed_loop(
        lambda given: draw(given), POSES, SINGLE_STREAM, min_seconds=0, warmup=0, clock=time.clock
    )
    assert found.latency.high == pytest.approx(5000) and found.latency.n == 100
    assert found.latency.mean == pytest.approx((99 * 5 + 5000) / 100)


@pytest.mark.parametrize(
    "wrong", [{"min_seconds": 2.0, "max_seconds": 1.0}, {"min_seconds": -1.0}, {"max_seconds": 0.0}]
)
def test_what_is_no_time_for_a_closed_loop(time: FakeTime, wrong: dict) -> None:
    given = {"min_seconds": 0.0, **wrong}
    with pytest.raises(FlowposeError, match="nothing to measure"):
        closed_loop(print, POSES, SINGLE_STREAM, clock=time.clock, **given)
    with pytest.raises(FlowposeError, match="got 0 poses"):
        closed_loop(print, (), SINGLE_STREAM, clock=time.clock)


def test_a_real_stream_is_measured_from_when_poses_were_due(tiny: Artifact) -> None:
    """A pose each 10 ms and pictures of 25: a thread draws, the newest pose wins, and every figure shows it."""
    model = assemble(tiny, NumpyBackend(), "numpy", "fp32", 1)
    session = model.session(pictures()[0])

    def slow(pose: object, *, format: str | None = None) -> object:
        clock.sleep(0.025)
        return session.infer(pose, format=format)

    with Stream(slow) as stream:
        found = open_loop(StreamLane(stream), [standing()], policy="newest", rate=100, seconds=0.5)
        counts = stream.counts
    assert found.arrivals == 50 == counts.put and found.dropped == counts.replaced > 20
    assert found.latency.low >= 25 and found.latency.n == counts.made
    assert found.fps <= 40 and found.missed == 1 and found.age is not None and found.age.low >= 25


def test_the_plan_of_loops_runs_the_models_own_calls(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINGLE_STREAM", "MULTI_STREAM"):
        few = replace(getattr(scenarios, name), shares=(50.0,), min_queries=12)
        monkeypatch.setattr(scenarios, name, few)
    model = assemble(tiny, NumpyBackend(), "numpy", "fp32", 1)
    plan = ScenarioPlan(("single", "multi", "open"), rates=(100.0, 200.0), seconds=0.05)
    closed = list(closed_loops(model, pictures()[0], [standing()], plan))
    assert [(loop.scenario, loop.poses_per_query) for loop in closed] == [
        ("single-stream", 1),
        ("multi-stream", 8),
    ]
    assert model._frame.runs == sum((loop.latency.n + 5) * loop.poses_per_query for loop in closed)
    opened = list(open_loops(model, pictures()[0], [standing()], plan))
    assert [(loop.rate, loop.policy) for loop in opened] == [
        (100, "newest"), (100, "fifo"), (200, "newest"), (200, "fifo")
    ]  # fmt: skip
    assert [loop.arrivals for loop in opened] == [5, 5, 10, 10]
    assert list(open_loops(model, pictures()[0], [standing()], ScenarioPlan(("single",)))) == []


def test_a_bad_pose_in_a_query_of_several_is_an_error(tiny: Artifact) -> None:
    model = assemble(tiny, NumpyBackend(), "numpy", "fp32", 1)
    with pytest.raises(PoseError, match="all joints are missing"):
        list(closed_loops(model, pictures()[0], [0 * standing()], ScenarioPlan(("multi",))))


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"names": ("double",)}, "scenario: unknown, got double, expected single, multi, open"),
        ({"policies": ("oldest",)}, "policy: unknown, got oldest, expected newest, fifo"),
        ({"rates": (30.0, 0.0)}, "rate: nothing to measure, got 0, expected above 0"),
        ({"seconds": float("nan")}, "seconds: nothing to measure, got nan, expected above 0"),
        ({"seconds": float("inf")}, "seconds: nothing to measure, got inf, expected above 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_any_work(plan: dict, text: str) -> None:
    with pytest.raises(FlowposeError, match=re.escape(text)):
        ScenarioPlan(**plan).check()


def test_a_run_has_as_many_queries_as_its_bound_needs(time: FakeTime) -> None:
    few = replace(SINGLE_STREAM, min_queries=1)
    found = closed_loop(lambda given: time.sleep(0.01), POSES, few, min_seconds=0, clock=time.clock)
    assert found.latency.n == found.min_queries == 64 and found.tails[0].bound is not None


def test_a_tick_shows_the_picture_that_comes_with_it() -> None:
    _, tick, _, last = ticks(1, 4)
    found = tally([0.0, 0.5], [Drawn(0.0, tick), Drawn(0.5, last)], policy="fifo", rate=2, display_hz=4)
    third = ticks(1, 4)[2]
    assert found.age is not None and found.blank == 1
    assert found.age.ms == pytest.approx([1000 * tick, 1000 * third, 1000 * (last - 0.5)])


def test_ticks_are_one_an_interval_and_in_every_phase() -> None:
    found = 60 * ticks(10, 60)
    assert found.astype(int).tolist() == list(range(600))
    phases = np.sort(found % 1)
    assert np.diff([0, *phases, 1]).max() < 3 / 600, "no phase is left out"


@pytest.mark.parametrize("rate", [15, 30, 60])
def test_what_a_picture_takes_shows_in_its_age_to_a_fraction_of_a_tick(rate: int) -> None:
    """A viewer of a steady feed sees ages from the latency to an interval more, evenly: latency + half an interval."""
    ages = []
    for ms in (3.0, 4.0, 11.2, 11.6, 14.2):
        due = [i / rate for i in range(10 * rate)]
        drawn = [Drawn(each, each + ms / 1000) for each in due]
        found = tally(due, drawn, policy="newest", rate=rate, display_hz=60).age
        assert found is not None and found.p50 == pytest.approx(ms + 500 / rate, abs=0.3)
        ages.append(found.p50)
    assert ages == sorted(set(ages)), "each latency has an age of its own"
