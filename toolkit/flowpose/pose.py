"""A person's pose: joints in pixels of a canvas, in one of the formats of `flowpose.pose_formats`.

x runs to the right, y down, the centre of the first pixel is (0.5, 0.5). A joint is missing when its score is
0; then its x and y are 0. Scores run 0..1.

Every frame of a stream goes through here, so what depends on formats and sizes alone is worked out once and kept, and
a pose made from a sound one is not checked again.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.letterbox import letterbox
from flowpose.pose_formats import BODY, CANONICAL, FORMATS, HEAD, PoseFormat, conversion

__all__ = ["CANONICAL", "FORMATS", "Pose", "PoseFormat"]

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

DEEPFASHION = (
    "deepfashion-18"  # rows y, x in openpose-18 order, -1 missing; read here, never a format of a Pose
)
COVERED = 0.5  # score of a joint that COCO calls labelled but not visible (v = 1)
SMALLEST = (
    4.0  # pixels; a smaller person is a sign of coordinates in 0..1, of which MediaPipe's guesses reach 3
)
SEEN = 0.1
"""The score above which a model draws a joint, as detectors count it."""
LARGEST = 1e6  # pixels; no picture is that long, and sums and products of such numbers stay finite
OVERSHOOT = (
    1.25  # detectors' confidences are peaks of interpolated maps: 1.006 in a real OpenPose file. Read as 1
)


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Attributes:
        format: a name of FORMATS.
        xy: f32[J,2], pixels of the canvas.
        score: f32[J], 0 (missing) to 1.
        size: (height, width) of the canvas in pixels; None when not known.

    Raises:
        PoseError: unknown format, wrong shape, NaN, infinity or a million pixels at a joint that is not missing,
            a score outside 0..1, a size that is none.
    """

    format: str
    xy: Floats
    score: Floats
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        joints = format_of(self.format).joints
        xy, score = _numbers(self.xy).copy(), _numbers(self.score).copy()
        if xy.shape != (len(joints), 2) or score.shape != (len(joints),):
            expected = f"[{len(joints)}, 2] and [{len(joints)}] for {self.format}"
            got = f"{list(xy.shape)} and {list(score.shape)}"
            raise PoseError("pose", "wrong shape", got=got, expected=expected)
        _set(self, self.format, *_sound(joints, xy, score), _checked_size(self.size))

    @classmethod
    def of(cls, array: Any, format: str | None = None, size: tuple[int, int] | None = None) -> Pose:
        """Returns the pose in an array of joints; the format is told from the shape when not given.

        Args:
            array: [J,3] (x, y, score), or [J,2] (x, y; both 0 or both -1 mean missing), or the same in
                one row. `deepfashion-18` takes [18,2] rows (y, x; -1 missing). A Pose is returned as it is.
                Scores up to 1.25, which detectors give, count as 1.
            format: a name of FORMATS, or deepfashion-18.
            size: (height, width) of the canvas that the pixels belong to.

        Raises:
            PoseError: a format that is unknown or cannot be told, a wrong shape, NaN, a score outside 0..1.
        """
        if isinstance(array, Pose):
            return array
        numbers = _numbers(array)
        name = format if format is not None else _told(numbers)
        joints = format_of("openpose-18" if name == DEEPFASHION else name).joints
        rows, canvas = _rows(numbers, len(joints), name), _checked_size(size)
        if rows.shape[1] == 3 and name != DEEPFASHION:
            score = rows[:, 2].copy()
            score[(score > 1) & (score <= OVERSHOOT)] = 1
            return _pose(name, *_sound(joints, rows[:, :2].copy(), score), canvas)
        if name == DEEPFASHION:
            name, rows = "openpose-18", rows[:, :2][:, ::-1]
            missing = (rows == -1).any(1) | (rows == 0).all(1)
        else:
            missing = (rows == -1).all(1) | (rows == 0).all(1)
        return _pose(name, *_sound(joints, rows.copy(), 1 - missing.astype(np.float32)), canvas)

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
        what the other format does not have is lost, what this one does not have is missing. Where this one has a joint
        twice (MediaPipe Holistic's pose and hand both give a knuckle) the finer part's is taken, if it is there. What
        MediaPipe guesses further outside the canvas than that is long is missing in formats that do not guess.
        """
        if format == self.format:
            return self
        way = conversion(self.format, format_of(format).name)
        rows = way.rows
        for others in way.others:
            rows = np.where(self.score[rows] > 0, rows, others)
        own = self.score
        if way.trims and self.size is not None:
            own = own * (_beyond(self.xy, self.size).max(1) <= 1)
        score = own[rows] * way.have
        xy = self.xy[rows] * (score > 0)[:, None]
        for row, a, b in way.between:
            if own[a] > 0 and own[b] > 0:
                xy[row], score[row] = (self.xy[a] + self.xy[b]) / 2, min(own[a], own[b])
        return _pose(format, xy, score, self.size)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """bool[J]: the joints that a model draws, whose score is above SEEN."""
        found: NDArray[np.bool_] = self.score > SEEN
        return found

    def nobody(self) -> Pose:
        """Returns a pose of the same format and canvas whose joints are all missing."""
        return _pose(self.format, np.zeros_like(self.xy), np.zeros_like(self.score), self.size)

    def mirror(self) -> Pose:
        """Returns the pose of the person in the picture turned left to right; needs the canvas size."""
        order = list(format_of(self.format).mirror)
        width = self._canvas("mirror")[1]
        return _changed(self, self.xy[order] * _pair(-1, 1) + _pair(width, 0), self.score[order], self.size)

    def fit(self, height: int, width: int) -> Pose:
        """Returns the pose in pixels of a height x width frame, placed as `image.fit` places a picture."""
        scale, corner = _placing(self._canvas("fit"), (height, width))
        return _changed(self, self.xy * scale + corner, self.score, (height, width))

    def inside(self) -> Pose:
        """Returns the pose with joints outside the canvas missing, as in the data that models learn from."""
        height, width = self._canvas("inside")
        within = ((self.xy >= 0) & (self.xy < _pair(width, height))).all(1)
        return self if within.all() else _changed(self, self.xy, self.score * within, self.size)

    def check(self, where: str = "pose") -> Pose:
        """Returns the pose itself if it shows a person.

        Raises:
            PoseError: all joints missing, none of the body's, all in one spot (coordinates in 0..1?), all
                outside the canvas, or one further outside than the canvas is long (MediaPipe's may be, since it
                guesses what the picture does not show).
        """
        here = self.score > 0
        if not here.any():
            raise PoseError(where, "all joints are missing", expected="a joint with a score above 0")
        if not here[_body(self.format)].any():
            got = "only hands, feet or face"
            raise PoseError(where, "no person joints", got=got, expected="joints of the body")
        present = self.xy[here]
        (left, top), (right, bottom) = present.min(0).tolist(), present.max(0).tolist()
        if len(present) > 1 and max(right - left, bottom - top) < SMALLEST:
            got = f"all within {SMALLEST:g} pixels"
            fix = "multiply x by the width and y by the height if they are 0..1, or read with units='normalised'"
            raise PoseError(where, "all joints in one spot", got=got, expected="pixels", fix=fix)
        if self.size is not None and not (
            left >= 0 and top >= 0 and right < self.size[1] and bottom < self.size[0]
        ):
            self._check_canvas(where, self.size)
        return self

    def _check_canvas(self, where: str, size: tuple[int, int]) -> None:
        beyond = _beyond(self.xy, size)
        worst = int(np.argmax(np.where(self.score > 0, beyond.max(1), -np.inf)))
        canvas = f"pixels of a {size[1]} x {size[0]} canvas (width x height)"
        fix = (
            "give the size of the picture the pose was found in: Pose.of(array, format, size=(height, width))"
        )
        if beyond[worst].max() > 1 and not format_of(self.format).guesses:
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
    if isinstance(name, str) and name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(str(name), FORMATS, 1)
    fix = f"did you mean '{near[0]}'?" if near else None
    raise PoseError("pose.format", "unknown pose format", got=f"'{name}'", expected=_choices(), fix=fix)


@lru_cache
def _body(name: str) -> Indices:
    return np.array([i for i, joint in enumerate(FORMATS[name].joints) if joint in BODY], np.intp)


@lru_cache(64)
def _placing(canvas: tuple[int, int], frame: tuple[int, int]) -> tuple[Floats, Floats]:
    """Scale and corner (x, y) of a canvas in a frame."""
    box = letterbox(canvas, frame)
    return _pair(box.scale_x, box.scale_y), _pair(box.left, box.top)


def _set(pose: Pose, format: str, xy: Floats, score: Floats, size: tuple[int, int] | None) -> None:
    xy.flags.writeable = score.flags.writeable = False
    vars(pose).update(format=format, xy=xy, score=score, size=size)


def _pose(format: str, xy: Floats, score: Floats, size: tuple[int, int] | None) -> Pose:
    """A pose of numbers that are known to be sound; the arrays are its own from here on."""
    made = object.__new__(Pose)
    _set(made, format, xy, score, size)
    return made


def _changed(pose: Pose, xy: Floats, score: Floats, size: tuple[int, int] | None) -> Pose:
    """A sound pose's joints moved within reason, or some of them missing."""
    return _pose(pose.format, xy * (score > 0)[:, None], score, size)


@lru_cache(64)
def _pair(x: float, y: float) -> Floats:
    pair = np.array([x, y], np.float32)
    pair.flags.writeable = False
    return pair


def _beyond(xy: Floats, size: tuple[int, int]) -> Floats:
    """How far outside the canvas x and y are, in lengths of the canvas; below 0 inside."""
    limit = _pair(size[1], size[0])
    found: Floats = np.maximum(-xy, xy - limit) / limit
    return found


def _choices() -> str:
    return "one of " + ", ".join([*FORMATS, DEEPFASHION])


def _checked_size(size: Any) -> tuple[int, int] | None:
    """(height, width) as Python's whole numbers."""
    if size is None or (type(size) is tuple and len(size) == 2 and type(size[0]) is type(size[1]) is int):
        sides = size
    else:
        try:
            height, width = (float(side) for side in size)
            sides = (int(height), int(width)) if height.is_integer() and width.is_integer() else (0, 0)
        except (TypeError, ValueError, OverflowError):
            sides = (0, 0)
    if sides is not None and not (min(sides) >= 1 and max(sides) <= LARGEST):
        raise PoseError("pose.size", "empty canvas", got=size, expected="(height, width), at least 1")
    return sides


def _numbers(array: Any) -> Floats:
    """The array in float32; what is too large for that is infinite."""
    if isinstance(array, np.ndarray) and array.dtype == np.float32:
        return array
    try:
        found = np.asarray(array)
        if found.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                return found.astype(np.float32)
        got = f"{type(array).__name__} of {found.dtype}"
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor with a gradient
        got = type(array).__name__
    raise PoseError("pose", "not numbers", got=got, expected="Pose, or array [J, 3] or [J, 2]")


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


def _sound(joints: tuple[str, ...], xy: Floats, score: Floats) -> tuple[Floats, Floats]:
    """The numbers, a missing joint's x and y 0; they are the caller's own to change."""
    missing = score == 0
    if missing.any():
        xy[missing] = 0
    if not ((np.abs(xy) < LARGEST).all() and ((score >= 0) & (score <= 1)).all()):
        _refuse(joints, xy, score)
    return xy, score


def _refuse(joints: tuple[str, ...], xy: Floats, score: Floats) -> None:
    wrong = ~(np.isfinite(xy).all(1) & np.isfinite(score))
    at = int(np.argmax(wrong))
    if wrong.any():
        fix, got = "give a missing joint score 0 and x = y = 0", [*xy[at].tolist(), float(score[at])]
        raise PoseError(f"pose.{joints[at]}", "not a finite number", got=got, fix=fix)
    wrong = (score < 0) | (score > 1)
    at = int(np.argmax(wrong))
    if wrong.any():
        fix, got = "Pose.coco(...) reads COCO's v = 0, 1, 2", score[at]
        raise PoseError(f"pose.{joints[at]}.score", "outside the range", got=got, expected="0..1", fix=fix)
    at = int(np.argmax(np.abs(xy).max(1)))
    expected = f"pixels, less than {LARGEST:g}"
    raise PoseError(f"pose.{joints[at]}", "no place in a picture", got=xy[at].tolist(), expected=expected)
