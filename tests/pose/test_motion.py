"""Motions, choosing people, smoothing, and holding joints that vanish."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowpose.errors import PoseError
from flowpose.pose import Pose
from flowpose.pose_motion import Chooser, Holder, Motion, Smoother, smooth

SIZE = (256, 176)
RNG = np.random.default_rng(0)
BASE = np.linspace(0, 160, 34).reshape(17, 2)


def at(x: float, noise: float = 0.0, missing: tuple[int, ...] = (), score: float = 1.0) -> Pose:
    """A person moved to the right by x pixels."""
    given = np.full(17, score)
    given[list(missing)] = 0
    return Pose("coco-17", BASE + np.array([x, 0]) + RNG.normal(0, noise, (17, 2)), given, SIZE)


def walk(n: int, noise: float) -> list[Pose]:
    return [at(x, noise) for x in np.linspace(0, 40, n)]


def jitter(poses: list[Pose]) -> float:
    return float(np.abs(np.diff([p.xy for p in poses], n=2, axis=0)).mean())


def test_smoothing_takes_jitter_and_follows() -> None:
    noisy = walk(60, 1.0)
    calm = list(smooth(noisy, 30))
    assert len(calm) == 60 and np.array_equal(calm[0].array(), noisy[0].array())
    assert jitter(calm) < 0.5 * jitter(noisy)
    clean = walk(60, 0)
    assert np.abs(calm[-1].xy - clean[-1].xy).mean() < 5


def test_smoothing_leaves_a_still_pose_alone() -> None:
    pose = at(0, 5.0)
    assert all(np.allclose(p.array(), pose.array(), atol=1e-4) for p in smooth([pose] * 5, 30))


def test_smoothing_does_not_depend_on_resolution() -> None:
    small = walk(20, 1.0)
    large = [Pose("coco-17", p.xy * 4, p.score, (1024, 704)) for p in small]
    for a, b in zip(smooth(small, 30), smooth(large, 30), strict=True):
        assert np.allclose(a.xy * 4, b.xy, atol=1e-2)


def test_a_joint_that_was_missing_starts_anew() -> None:
    poses = walk(4, 0)
    gone = Pose("coco-17", poses[1].xy, np.r_[0, np.ones(16)], SIZE)
    out = list(smooth([poses[0], gone, poses[2], poses[3]], 30))
    assert out[1].score[0] == 0 and np.array_equal(out[2].xy[0], poses[2].xy[0])
    assert not np.array_equal(out[3].xy[1], poses[3].xy[1])


def test_the_smoother_is_the_one_euro_filter_of_the_paper() -> None:
    """One coordinate against the filter written out from its five equations, at uneven times."""
    times, values = [0, 0.03, 0.05, 0.2, 0.21], [10.0, 14.0, 13.0, 20.0, 18.0]
    scale = float(np.ptp(BASE, axis=0).max())  # pixels; the smoother works in person sizes
    smoother = Smoother(min_cutoff=1.0, beta=0.5, rate_cutoff=2.0)
    kept, speed = 0.0, 0.0
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        found = smoother(at(value), time)
        if i == 0:
            kept = value
        else:
            step = time - times[i - 1]
            a = 1 / (1 + 1 / (2 * math.pi * 2.0 * step))
            speed = a * (value - kept) / scale / step + (1 - a) * speed
            a = 1 / (1 + 1 / (2 * math.pi * (1.0 + 0.5 * abs(speed)) * step))
            kept = a * value + (1 - a) * kept
        assert found.xy[0, 0] - BASE[0, 0] == pytest.approx(kept, abs=1e-3)


def test_smoothing_goes_by_the_time_that_went_by_and_not_by_frames() -> None:
    """The same slow step seen at 15 and at 120 frames a second ends at nearly the same place."""
    ends = []
    for rate in (15, 120):
        smoother = Smoother(beta=0.0)
        for i in range(rate // 2 + 1):
            found = smoother(at(0 if i == 0 else 10), i / rate)
        ends.append(float(found.xy[0, 0]))
    assert abs(ends[0] - ends[1]) < 0.3 and 8 < ends[0] < 10
    assert Smoother()(at(1), 5.0).xy[0, 0] == 1, "any first time"


def test_two_poses_of_one_instant_leave_a_finite_pose() -> None:
    smoother = Smoother()
    smoother(at(0), 1.0)
    assert 0 <= smoother(at(40), 1.0).xy[0, 0] < 20


def test_a_held_joint_stays_then_fades() -> None:
    holder = Holder(hold=0.2, fade=0.4)
    holder(at(0, score=0.8), 0.0)
    scores = []
    for time in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        pose = holder(at(0, missing=(9,), score=0.8), time)
        assert pose is not None
        scores.append(float(pose.score[9]))
        if pose.score[9] > 0:
            assert np.allclose(pose.xy[9], BASE[9])
        assert (np.delete(pose.score, 9) == np.float32(0.8)).all()
    assert np.allclose(scores, [0.8, 0.8, 0.6, 0.4, 0.2, 0, 0], atol=1e-6)


def test_a_held_joint_goes_along_with_the_person() -> None:
    holder = Holder(hold=1)
    holder(at(0), 0.0)
    for x in (5, 10, 20):
        pose = holder(at(x, missing=(9, 10)), x / 100)
        assert pose is not None and np.allclose(pose.xy[9:11], BASE[9:11] + np.array([x, 0]), atol=1e-4)


def test_a_joint_that_never_was_stays_missing_and_one_that_comes_back_is_its_own() -> None:
    holder = Holder()
    holder(at(0, missing=(3,)), 0.0)
    pose = holder(at(0, missing=(3, 4)), 0.1)
    assert pose is not None and pose.score[3] == 0 and pose.score[4] == 1
    back = at(7)
    pose = holder(back, 0.2)
    assert pose is not None and np.array_equal(pose.array(), back.array())


def test_a_frame_without_anybody_is_bridged() -> None:
    holder = Holder(hold=0.1, fade=0.1)
    assert holder(None, 0.0) is None
    holder(at(3), 0.1)
    nobody = Pose("coco-17", np.zeros((17, 2)), np.zeros(17), SIZE)
    for gap in (None, nobody):
        pose = holder(gap, 0.15)
        assert pose is not None and np.array_equal(pose.array(), at(3).array())
    pose = holder(None, 1.0)
    assert pose is not None and not pose.score.any()


def test_a_joint_that_models_do_not_draw_is_held_like_one_that_is_missing() -> None:
    holder = Holder(hold=0.2)
    holder(at(0, score=0.9), 0.0)
    scores = np.full(17, 0.9)
    scores[9] = 0.05  # MediaPipe's visibility is never 0
    unsure = Pose("coco-17", BASE + 50, scores, SIZE)
    pose = holder(unsure, 0.1)
    assert pose is not None and pose.score[9] == np.float32(0.9)
    assert np.allclose(pose.xy[9], BASE[9] + 50), "it went along with the others"


def test_without_fading_a_joint_goes_at_once() -> None:
    holder = Holder(hold=0.1, fade=0)
    holder(at(0), 0.0)
    scores = [holder(None, time).score[0] for time in (0.1, 0.11)]  # type: ignore[union-attr]
    assert scores == [1, 0]


def test_held_gaps_do_not_start_the_smoothing_anew() -> None:
    """A wrist that is lost in every third frame: held and then smoothed it shakes less than smoothed alone."""
    noisy = walk(60, 1.0)
    lost = [Pose(p.format, p.xy, np.r_[np.ones(9), i % 3 > 0, np.ones(7)], SIZE) for i, p in enumerate(noisy)]
    holder, after, alone = Holder(), Smoother(beta=2.0), Smoother(beta=2.0)
    wrists = []
    for i, pose in enumerate(lost):
        held = holder(pose, i / 30)
        assert held is not None
        one, other = after(held, i / 30), alone(pose, i / 30)
        if i % 3 == 1:
            wrists.append((one.xy[9], other.xy[9], noisy[i].xy[9]))
    shaking = np.abs(np.diff(np.array(wrists), n=2, axis=0)).mean((0, 2))
    assert shaking[0] < 0.6 * shaking[1] == pytest.approx(0.6 * shaking[2])


@pytest.mark.parametrize("person", [0, "largest", "nearest"])
def test_who_has_no_joint_that_is_drawn_is_not_chosen(person: int | str) -> None:
    assert Chooser(person)([at(0, score=0.1)]) is None
    assert Chooser(person)([at(0, score=0.11)]) is not None


def test_a_motion_has_times_and_a_rate() -> None:
    motion = Motion((at(0), at(1), at(2)), (0.0, 0.1, 0.2))
    assert len(motion) == 3 and motion.rate == pytest.approx(10)
    assert Motion((at(0),), (0.0,)).rate is None


def test_the_nearest_person_is_found_again_after_a_gap() -> None:
    chooser = Chooser("nearest")
    near, far = at(0), at(500)
    assert chooser([far]) is far and chooser([]) is None
    assert chooser([near, far]) is far
    other = Pose("openpose-18", np.full((18, 2), 400.0), np.eye(18)[0], SIZE)
    assert chooser([near, other]) is other, "whatever the format"


WRONG = {
    "no pose": (lambda: Motion((), ()), "not a motion, got 0 poses and 0 times"),
    "a time too few": (lambda: Motion((at(0), at(1)), (0.0,)), "got 2 poses and 1 times"),
    "backwards": (lambda: Motion((at(0), at(1)), (1.0, 0.5)), r"motion.times\[1\]: time runs backwards"),
    "NaN": (lambda: Motion((at(0),), (math.nan,)), r"motion.times\[0\]"),
    "rate": (lambda: list(smooth([], 0)), "not a frame rate"),
    "mixed": (lambda: list(smooth([at(0), at(0).to("body-25")], 30)), "the format changes"),
    "cutoff": (lambda: Smoother(min_cutoff=0), "no cutoffs"),
    "smoother's clock": (lambda: [f(at(0), t) for f in [Smoother()] for t in (1.0, 0.9)], "time runs backwards"),
    "holder's clock": (lambda: [f(at(0), t) for f in [Holder()] for t in (1.0, math.nan)], "time runs backwards"),
    "hold": (lambda: Holder(hold=-1), "holder: no times"),
    "format": (lambda: [f(p, 0) for f in [Holder()] for p in (at(0), at(0).to("body-25"))], "the format changes"),
    "canvas": (lambda: [f(p, 0) for f in [Holder()] for p in (at(0), at(0).fit(64, 64))], "the canvas changes"),
    "person": (lambda: Chooser("tallest"), "no way to choose, got 'tallest'"),
    "person below zero": (lambda: Chooser(-1), "no way to choose"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str) -> None:
    act, text = WRONG[case]
    with pytest.raises(PoseError, match=text):
        act()
