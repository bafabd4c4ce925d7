"""A person's pose: joints in pixels of a canvas, in one of the formats of `flowpose.pose_formats`.

x runs to the right, y down, the centre of the first pixel is (0.5, 0.5). A joint is missing when its score is
0; then its x and y are 0. Scores run 0..1.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.letterbox import letterbox
from flowpose.pose_formats import BETWEEN, BODY, CANONICAL, FORMATS, HEAD, SAME, PoseFormat

__all__ = ["CANONICAL", "FORMATS", "Pose", "PoseFormat", "smooth"]

Floats = NDArray[np.float32]

DEEPFASHION = (
    "deepfashion-18"  # rows y, x in openpose-18 order, -1 missing; read here, never a format of a Pose
)
COVERED = 0.5  # score of a joint that COCO calls labelled but not visible (v = 1)
SMALLEST = 2.0  # pixels; a person smaller than this is a sign of coordinates in 0..1


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Attributes:
        format: a name of FORMATS.
        xy: f32[J,2], pixels of the canvas.
        score: f32[J], 0 (missing) to 1.
        size: (height, width) of the canvas in pixels; None when not known.

    Raises:
        PoseError: unknown format, wrong shape, NaN or infinity, a score outside 0..1.
    """

    format: str
    xy: Floats
    score: Floats
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        joints = format_of(self.format).joints
        xy, score = np.array(self.xy, np.float32), np.array(self.score, np.float32)
        if xy.shape != (len(joints), 2) or score.shape != (len(joints),):
            expected = f"[{len(joints)}, 2] and [{len(joints)}] for {self.format}"
            got = f"{list(xy.shape)} and {list(score.shape)}"
            raise PoseError("pose", "wrong shape", got=got, expected=expected)
        _check_numbers(joints, xy, score)
        if self.size is not None and min(self.size) < 1:
            raise PoseError(
                "pose.size", "empty canvas", got=self.size, expected="(height, width), at least 1"
            )
        xy[score == 0] = 0
        xy.flags.writeable = score.flags.writeable = False
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "score", score)

    @classmethod
    def of(cls, array: Any, format: str | None = None, size: tuple[int, int] | None = None) -> Pose:
        """Returns the pose in an array of joints; the format is told from the shape when not given.

        Args:
            array: [J,3] (x, y, score), or [J,2] (x, y; both 0 or both -1 mean missing), or the same in
                one row. `deepfashion-18` takes [18,2] rows (y, x; -1 missing). A Pose is returned as it is.
            format: a name of FORMATS, or deepfashion-18.
            size: (height, width) of the canvas that the pixels belong to.

        Raises:
            PoseError: a format that is unknown or cannot be told, a wrong shape, NaN, a score outside 0..1.
        """
        if isinstance(array, Pose):
            return array
        numbers = _numbers(array)
        name = format if format is not None else _told(numbers)
        joints = len(format_of("openpose-18" if name == DEEPFASHION else name).joints)
        rows = _rows(numbers, joints, name)
        if name == DEEPFASHION:
            name, rows = "openpose-18", rows[:, :2][:, ::-1]
        if rows.shape[1] == 3:
            return cls(name, rows[:, :2], rows[:, 2], size)
        missing = (rows == -1).all(1) | (rows == 0).all(1)
        return cls(name, rows, np.where(missing, 0, 1).astype(np.float32), size)

    @classmethod
    def coco(cls, keypoints: Any, size: tuple[int, int] | None = None, format: str | None = None) -> Pose:
        """Returns the pose in a COCO annotation: J triples x, y, v.

        v = 0 means missing, 1 covered (score 0.5; on the head missing), 2 visible (score 1). A face that
        shows only because somebody knew where it is would turn a person's back into a front.
        """
        numbers = _numbers(keypoints)
        triples = numbers.reshape(-1, 3) if numbers.size % 3 == 0 else numbers
        name = format if format is not None else _told(triples)
        rows = _rows(numbers, len(format_of(name).joints), name)
        if rows.shape[1] != 3 or not np.isin(rows[:, 2], (0, 1, 2)).all():
            raise PoseError("keypoints", "not COCO triples", expected="x, y, v with v 0, 1 or 2")
        score = np.array([0, COVERED, 1], np.float32)[rows[:, 2].astype(np.int64)]
        head = [joint in HEAD for joint in format_of(name).joints]
        score[(score == COVERED) & head] = 0
        return cls(name, rows[:, :2], score, size)

    def array(self) -> Floats:
        """Returns f32[J,3]: x, y in pixels of the canvas, score."""
        return np.concatenate([self.xy, self.score[:, None]], axis=1)

    def to(self, format: str) -> Pose:
        """Returns the pose in another format.

        Joints go by name; the neck and the middle of the hips are put between two present shoulders or hips;
        what the other format does not have is lost, what this one does not have is missing.
        """
        if format == self.format:
            return self
        joints = format_of(self.format).joints
        have = {SAME.get(joint, joint): row for joint, row in zip(joints, self.array(), strict=True)}
        for joint, (a, b) in BETWEEN.items():
            if joint not in have and a in have and b in have and min(have[a][2], have[b][2]) > 0:
                have[joint] = np.array([*(have[a][:2] + have[b][:2]) / 2, min(have[a][2], have[b][2])])
        nothing = np.zeros(3, np.float32)
        rows = np.array([have.get(SAME.get(j, j), nothing) for j in format_of(format).joints], np.float32)
        return Pose(format, rows[:, :2], rows[:, 2], self.size)

    def mirror(self) -> Pose:
        """Returns the pose of the person in the picture turned left to right; needs the canvas size."""
        order = list(format_of(self.format).mirror)
        width = self._canvas("mirror")[1]
        xy = self.xy[order] * _pair(-1, 1) + _pair(width, 0)
        return Pose(self.format, xy, self.score[order], self.size)

    def fit(self, height: int, width: int) -> Pose:
        """Returns the pose in pixels of a height x width frame, placed as `image.fit` places a picture."""
        box = letterbox(self._canvas("fit"), (height, width))
        xy = self.xy * _pair(box.scale_x, box.scale_y) + _pair(box.left, box.top)
        return Pose(self.format, xy, self.score, (height, width))

    def inside(self) -> Pose:
        """Returns the pose with joints outside the canvas missing, as in the data that models learn from."""
        height, width = self._canvas("inside")
        within = ((self.xy >= 0) & (self.xy < _pair(width, height))).all(1)
        return Pose(self.format, self.xy, np.where(within, self.score, np.float32(0)), self.size)

    def check(self, where: str = "pose") -> Pose:
        """Returns the pose itself if it shows a person.

        Raises:
            PoseError: all joints missing, none of the body's, all in one spot (coordinates in 0..1?), all
                outside the canvas, or one further outside than the canvas is long.
        """
        names, here = format_of(self.format).joints, self.score > 0
        if not here.any():
            raise PoseError(where, "all joints are missing", expected="a joint with a score above 0")
        if not any(here[i] for i, name in enumerate(names) if name in BODY):
            got = "only hands, feet or face"
            raise PoseError(where, "no person joints", got=got, expected="joints of the body")
        present = self.xy[here]
        if len(present) > 1 and np.ptp(present, axis=0).max() < SMALLEST:
            got = f"all within {SMALLEST:g} pixels"
            fix = "multiply x by the width and y by the height if they are 0..1"
            raise PoseError(where, "all joints in one spot", got=got, expected="pixels", fix=fix)
        if self.size is not None:
            self._check_canvas(where, self.size)
        return self

    def _check_canvas(self, where: str, size: tuple[int, int]) -> None:
        limit = _pair(size[1], size[0])
        beyond = np.maximum(-self.xy, self.xy - limit) / limit
        worst = int(np.argmax(np.where(self.score > 0, beyond.max(1), -np.inf)))
        canvas = f"pixels of a {size[1]} x {size[0]} canvas (width x height)"
        fix = (
            "give the size of the picture the pose was found in: Pose.of(array, format, size=(height, width))"
        )
        if beyond[worst].max() > 1:
            joint = format_of(self.format).joints[worst]
            got = f"({self.xy[worst][0]:.0f}, {self.xy[worst][1]:.0f})"
            raise PoseError(f"{where}.{joint}", "far outside the picture", got=got, expected=canvas, fix=fix)
        if not (self.inside().score > 0).any():
            raise PoseError(where, "every joint lies outside the picture", expected=canvas, fix=fix)

    def _canvas(self, act: str) -> tuple[int, int]:
        if self.size is None:
            fix = "Pose.of(array, format, size=(height, width))"
            raise PoseError("pose.size", f"{act} needs the size of the canvas", got="none", fix=fix)
        return self.size


def format_of(name: str) -> PoseFormat:
    """Returns the format of that name.

    Raises:
        PoseError: no such format, with the likely one and the list.
    """
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(str(name), FORMATS, 1)
    fix = f"did you mean '{near[0]}'?" if near else None
    raise PoseError("pose.format", "unknown pose format", got=f"'{name}'", expected=_choices(), fix=fix)


def smooth(
    poses: Iterable[Pose],
    rate: float,
    *,
    min_cutoff: float = 1.5,
    beta: float = 2.0,
    rate_cutoff: float = 1.0,
) -> Iterator[Pose]:
    """Yields the poses with their jitter taken out: slow joints are smoothed much, fast ones little.

    The One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) runs on every joint by itself, in units of the
    person's size in the first pose, so that settings hold at any resolution. A joint that was missing starts
    anew. Each pose is given out as it comes in, so a live stream may be passed.

    Args:
        poses: of one person, one format and one canvas, in order of time.
        rate: poses a second.
        min_cutoff: cutoff of a joint at rest, Hz; lower is smoother.
        beta: Hz of cutoff for each person size a second of speed; higher follows faster.
        rate_cutoff: cutoff of the speed's own filter, Hz.

    Raises:
        PoseError: a rate that is not above 0, or a format that changes.
    """
    if not rate > 0:
        raise PoseError("rate", "not a frame rate", got=rate, expected="poses a second, above 0")
    last: Pose | None = None
    scale, speed = 0.0, np.zeros(2)
    for pose in poses:
        if last is not None and last.format != pose.format:
            raise PoseError("poses", "the format changes", got=pose.format, expected=last.format)
        scale = scale or _extent(pose)
        before = last or pose
        known = ((before.score > 0) & (pose.score > 0))[:, None]
        step = np.where(known, pose.xy - before.xy, 0)
        speed = np.where(known, speed + _share(rate_cutoff, rate) * (step * (rate / (scale or 1)) - speed), 0)
        share = np.where(known, _share(min_cutoff + beta * np.abs(speed), rate), 1)
        xy = pose.xy - (1 - share) * step
        last = Pose(pose.format, xy.astype(np.float32), pose.score, pose.size)
        yield last


def _share(cutoff: Any, rate: float) -> Any:
    """The share of a new value in a first-order low pass of that cutoff, Hz."""
    return 1.0 / (1.0 + rate / (2 * math.pi * cutoff))


def _pair(x: float, y: float) -> Floats:
    return np.array([x, y], np.float32)


def _extent(pose: Pose) -> float:
    """The longer side of the box round the present joints, pixels; 0 when there is none."""
    present = pose.xy[pose.score > 0]
    return float(np.ptp(present, axis=0).max()) if len(present) else 0.0


def _choices() -> str:
    return "one of " + ", ".join([*FORMATS, DEEPFASHION])


def _numbers(array: Any) -> Floats:
    try:
        return np.asarray(array, np.float32)
    except (TypeError, ValueError) as error:
        got = type(array).__name__
        raise PoseError("pose", "not numbers", got=got, expected="Pose, or array [J, 3] or [J, 2]") from error


def _told(numbers: Floats) -> str:
    """The format that an array's shape tells."""
    if numbers.ndim == 2 and numbers.shape[1] in (2, 3):
        counts = {numbers.shape[0]: numbers.shape[1]}
    elif numbers.ndim == 1:
        counts = {numbers.size // columns: columns for columns in (2, 3) if numbers.size % columns == 0}
    else:
        counts = {}
    names: list[str] = [name for name, form in FORMATS.items() if len(form.joints) in counts]
    if names == ["openpose-18"] and counts[18] == 2:
        names.append(DEEPFASHION)
    if len(names) == 1:
        return names[0]
    what = "the shape fits more than one format" if names else "no format has this shape"
    expected = f"format={' or '.join(names)}" if names else "[J, 3] or [J, 2] of " + _choices()[7:]
    raise PoseError("pose", what, got=list(numbers.shape), expected=expected, fix=_shape_fix(numbers, names))


def _shape_fix(numbers: Floats, names: list[str]) -> str | None:
    if names:
        return f'Pose.of(array, "{names[0]}")'
    return "give one person: array[0]" if numbers.ndim == 3 else None


def _rows(numbers: Floats, joints: int, name: str) -> Floats:
    columns = (
        numbers.shape[1] if numbers.ndim == 2 else numbers.size // joints if numbers.size % joints == 0 else 0
    )
    if numbers.ndim not in (1, 2) or columns not in (2, 3) or numbers.size != joints * columns:
        expected = f"[{joints}, 3] or [{joints}, 2] for {name}"
        raise PoseError(
            "pose", "wrong shape", got=list(numbers.shape), expected=expected, fix=_shape_fix(numbers, [])
        )
    return numbers.reshape(joints, columns)


def _check_numbers(joints: tuple[str, ...], xy: Floats, score: Floats) -> None:
    wrong = ~(np.isfinite(xy).all(1) & np.isfinite(score))
    if wrong.any():
        at = int(np.argmax(wrong))
        fix = "give a missing joint score 0 and x = y = 0"
        raise PoseError(
            f"pose.{joints[at]}", "not a finite number", got=[*xy[at].tolist(), float(score[at])], fix=fix
        )
    if ((score < 0) | (score > 1)).any():
        at = int(np.argmax((score < 0) | (score > 1)))
        fix = "Pose.coco(...) reads COCO's v = 0, 1, 2"
        raise PoseError(
            f"pose.{joints[at]}.score", "outside the range", got=score[at], expected="0..1", fix=fix
        )
