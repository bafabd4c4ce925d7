"""Poses in time: a motion, one person out of several, smoothing, holding joints that vanish, and retargeting.

`Chooser`, `Holder` and `Smoother` take one frame after the other, with its time in seconds, so they work on a live
stream as on a file. In that order: a joint that was held over a gap does not start the smoothing anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowpose.errors import PoseError
from flowpose.pose import Floats, Pose
from flowpose.pose_retarget import Retargeting, measure, retarget

__all__ = ["Chooser", "Holder", "Motion", "Retargeting", "Smoother", "measure", "retarget", "smooth"]

PEOPLE = ("largest", "nearest")
SHORTEST = 1e-3  # s; two poses of one instant count as this far apart, so that speeds stay finite


@dataclass(frozen=True, eq=False)
class Motion:
    """Poses of one person in order of time.

    Attributes:
        poses: at least one.
        times: seconds from the start, not decreasing; one a pose.

    Raises:
        PoseError: no pose, another number of times, or times that decrease, are negative or not finite.
    """

    poses: tuple[Pose, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.poses or len(self.poses) != len(self.times):
            got = f"{len(self.poses)} poses and {len(self.times)} times"
            raise PoseError(
                "motion", "not a motion", got=got, expected="a time for each of at least one pose"
            )
        last = 0.0
        for i, time in enumerate(self.times):
            last = _later(f"motion.times[{i}]", time, last)

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def rate(self) -> float | None:
        """Poses a second, the mean over the motion; None where all have one time."""
        return (len(self.times) - 1) / self.times[-1] if self.times[-1] > 0 else None


class Chooser:
    """Chooses one person out of those of each frame: `chooser(people)` returns a pose, or None where there is none.

    Args:
        person: an index; "largest" (the box round the present joints), or "nearest": nearest to the person of the frame
            before, the largest in the first. Estimators list people in any order, so an index may jump from one
            to the other; "nearest" stays.

    Raises:
        PoseError: another person.
    """

    def __init__(self, person: int | str = 0) -> None:
        if not (person in PEOPLE or (isinstance(person, int) and person >= 0)):
            expected = "an index from 0, or " + " or ".join(PEOPLE)
            raise PoseError("person", "no way to choose", got=repr(person), expected=expected)
        self.person = person
        self._last: Pose | None = None

    def __call__(self, people: Sequence[Pose]) -> Pose | None:
        if isinstance(self.person, int):
            one = people[self.person] if self.person < len(people) else None
            return one if one is not None and one.seen.any() else None
        present = [pose for pose in people if pose.seen.any()]
        if not present:
            return None
        last = self._last
        if last is None or self.person == "largest":
            found = max(present, key=_largeness)
        else:
            found = min(present, key=lambda pose: _distance(last, pose))
        self._last = found
        return found


class Smoother:
    """Takes jitter out: `smoother(pose, seconds)` returns the pose with slow joints smoothed much, fast ones little.

    The One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) runs on every joint by itself, in units of the person's size
    (the longest so far), so that settings hold at any resolution, and with the time that went by, so that they hold
    at any frame rate. A joint that was missing starts anew.

    Args:
        min_cutoff: cutoff of a joint at rest, Hz; lower is smoother.
        beta: Hz of cutoff for each person size a second of speed; higher follows faster.
        rate_cutoff: cutoff of the speed's own filter, Hz.

    Raises:
        PoseError: a cutoff that is not above 0; when called: a format or canvas that changes, time that runs backwards.
    """

    def __init__(self, *, min_cutoff: float = 1.5, beta: float = 8.0, rate_cutoff: float = 1.0) -> None:
        if not (min_cutoff > 0 and beta >= 0 and rate_cutoff > 0):
            got = (min_cutoff, beta, rate_cutoff)
            raise PoseError("smoother", "no cutoffs", got=got, expected="Hz, above 0; beta at least 0")
        self.min_cutoff, self.beta, self.rate_cutoff = min_cutoff, beta, rate_cutoff
        self._last: Pose | None = None
        self._time, self._size = -math.inf, 0.0
        self._speed: Any = np.zeros(2)

    def __call__(self, pose: Pose, seconds: float) -> Pose:
        before = self._last if self._last is not None else pose
        _same_kind(pose, before)
        time = _later("seconds", seconds, self._time)
        rate = 1 / max(time - self._time, SHORTEST)
        self._size = max(self._size, _extent(pose))
        known = ((before.score > 0) & (pose.score > 0))[:, None]
        step = np.where(known, pose.xy - before.xy, 0)
        new = step * (rate / (self._size or 1))
        kept = _share(self.rate_cutoff, rate)
        self._speed = np.where(known, self._speed + kept * (new - self._speed), 0)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        share = np.where(known, _share(cutoff, rate), 1)
        xy = (pose.xy - (1 - share) * step).astype(np.float32)
        self._last, self._time = Pose(pose.format, xy, pose.score, pose.size), time
        return self._last


def smooth(
    poses: Iterable[Pose],
    rate: float,
    *,
    min_cutoff: float = 1.5,
    beta: float = 8.0,
    rate_cutoff: float = 1.0,
) -> Iterator[Pose]:
    """Yields the poses smoothed by a `Smoother`, each as it comes in, so a live stream may be passed.

    Args:
        poses: of one person, one format and one canvas, in order of time.
        rate: poses a second.
        min_cutoff, beta, rate_cutoff: the Smoother's.

    Raises:
        PoseError: a rate that is not above 0, or what the Smoother refuses.
    """
    if not (rate > 0 and math.isfinite(rate)):
        raise PoseError("rate", "not a frame rate", got=rate, expected="poses a second, above 0")
    smoother = Smoother(min_cutoff=min_cutoff, beta=beta, rate_cutoff=rate_cutoff)
    for i, pose in enumerate(poses):
        yield smoother(pose, i / rate)


class Holder:
    """Bridges gaps: `holder(pose, seconds)` returns the pose with joints that vanished held, then faded out.

    A joint that vanishes, or falls to SEEN or below, keeps its last score for `hold` seconds, then loses it evenly over
    `fade` seconds. Models draw a joint or not (`Pose.seen`), so in pictures it goes in one step, sooner for a joint
    that was less sure. Meanwhile it goes along with the person: each step by the median of the steps of the joints that
    are there. A joint that never was there stays missing. For a frame without any person pass a pose whose joints are
    all missing, or None; before the first pose None gives None.

    Args:
        hold, fade: seconds, at least 0.

    Raises:
        PoseError: times below 0; when called: a format or canvas that changes, time that runs backwards.
    """

    def __init__(self, hold: float = 0.25, fade: float = 0.0) -> None:
        if not (0 <= hold < math.inf and 0 <= fade < math.inf):
            raise PoseError("holder", "no times", got=(hold, fade), expected="seconds, at least 0")
        self.hold, self.fade = hold, fade
        self._last: Pose | None = None
        self._time = -math.inf
        self._xy: Any = None  # where every joint is, or was
        self._score: Any = None  # the score that it had when it was last there
        self._seen: Any = None  # when that was
        self._there: Any = None  # whether it was there in the last frame

    def __call__(self, pose: Pose | None, seconds: float) -> Pose | None:
        last = self._last
        if pose is None:
            if last is None:
                return None
            pose = last.nobody()
        if last is None:
            self._xy, self._score = np.zeros_like(pose.xy), np.zeros_like(pose.score)
            self._seen, self._there = np.full(len(pose.score), -math.inf), pose.score < 0
        else:
            _same_kind(pose, last)
        self._time = _later("seconds", seconds, self._time)
        self._note(pose)
        left = self.hold + self.fade - (self._time - self._seen)
        share = np.clip(left / self.fade, 0, 1) if self.fade else (left >= 0).astype(float)
        score = np.where(self._there, pose.score, self._score * share).astype(np.float32)
        self._last = pose
        return Pose(pose.format, self._xy, score, pose.size)

    def _note(self, pose: Pose) -> None:
        there = pose.seen
        both = there & self._there
        if both.any():
            self._xy[~there] += np.median(pose.xy[both] - self._xy[both], axis=0)
        self._xy[there], self._score[there], self._seen[there] = pose.xy[there], pose.score[there], self._time
        self._there = there


def _later(where: str, time: float, last: float) -> float:
    """The time, if it is not before the last one."""
    if not (last <= time < math.inf):
        raise PoseError(
            where, "time runs backwards", got=time, expected=f"seconds, at least {max(last, 0):g}"
        )
    return float(time)


def _same_kind(pose: Pose, last: Pose) -> None:
    if pose.format != last.format:
        raise PoseError("poses", "the format changes", got=pose.format, expected=last.format)
    if pose.size != last.size:
        raise PoseError("poses", "the canvas changes", got=pose.size, expected=last.size)


def _share(cutoff: Any, rate: float) -> Any:
    """The share of a new value in a first-order low pass of that cutoff, Hz."""
    return 1.0 / (1.0 + rate / (2 * math.pi * cutoff))


def _box(pose: Pose) -> Floats:
    """Width and height of the box round the present joints, pixels; 0 when there is none."""
    present = pose.xy[pose.score > 0]
    return np.ptp(present, axis=0) if len(present) else np.zeros(2, np.float32)


def _extent(pose: Pose) -> float:
    return float(_box(pose).max())


def _largeness(pose: Pose) -> tuple[float, float]:
    width, height = _box(pose).tolist()
    return width * height, math.hypot(width, height)


def _distance(last: Pose, pose: Pose) -> float:
    """Mean distance of the joints that both have, pixels; of their middles where there is none."""
    now = pose.to(last.format)
    both = (last.score > 0) & (now.score > 0)
    if both.any():
        return float(np.linalg.norm(last.xy[both] - now.xy[both], axis=1).mean())
    middles = last.xy[last.score > 0].mean(0) - pose.xy[pose.score > 0].mean(0)
    return float(np.linalg.norm(middles))
