"""Retargeting: another person's motion with the proportions of the person in the picture.

The skeleton is a tree from the middle of the hips. Every bone keeps its direction and is scaled by one ratio a part of
the body: the length that the reference person's has over the length that the moving person's has, left and right
together. A picture shows a bone shorter than it is when it points towards the viewer, so the moving person's lengths
are a high percentile over the motion, or those of a calibration pose; of the reference there is only the one picture,
and the ratios are kept near the ratio of the whole bodies.

What this cannot do: see depth. A limb that the reference holds towards the camera is taken for a short one (within
LIMIT), a person who is not seen from the front has narrow shoulders, and feet are not put on the ground: legs of
another length end where they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, FORMATS, Indices, Pose
from flowpose.pose_formats import BETWEEN, FACE, SIDES

Numbers = NDArray[np.float64]

LIMIT = 1.5  # a part's ratio over the whole body's; a child's head beside an adult's is 1.5 times as large
PERCENTILE = 95.0

_SIDED = (  # joint, what it hangs on, part of the body
    ("hip", "mid_hip", "hips"), ("knee", "hip", "thigh"), ("ankle", "knee", "shin"),
    ("big_toe", "ankle", "foot"), ("small_toe", "ankle", "foot"), ("heel", "ankle", "foot"),
    ("shoulder", "neck", "shoulders"), ("elbow", "shoulder", "upper arm"), ("wrist", "elbow", "forearm"),
    ("eye", "nose", "head"), ("ear", "nose", "head"),
    *((f"hand_{i}", "wrist", "hand") for i in range(21)),
)  # fmt: skip
_MIDDLE = ("mid_hip", "neck", "nose")
TREE: dict[str, tuple[str, str]] = {
    "mid_hip": ("ground", "body"), "neck": ("mid_hip", "torso"), "nose": ("neck", "neck"),
    **{f"{side}_{joint}": (parent if parent in _MIDDLE else f"{side}_{parent}", part)
       for side in SIDES for joint, parent, part in _SIDED},
    **{joint: ("nose", "head") for joint in FACE},
}  # fmt: skip
"""Joint of coco-wholebody-133, neck or mid_hip -> the joint it hangs on, the part of the body whose ratio it has."""

MEASURES: dict[str, tuple[tuple[str, str], ...]] = {
    "torso": (("neck", "mid_hip"),), "neck": (("neck", "nose"),), "head": (("left_ear", "right_ear"),),
    "shoulders": (("left_shoulder", "right_shoulder"),), "hips": (("left_hip", "right_hip"),),
    **{part: tuple((f"{side}_{a}", f"{side}_{b}") for side in SIDES) for part, a, b in (
        ("upper arm", "shoulder", "elbow"), ("forearm", "elbow", "wrist"), ("thigh", "hip", "knee"),
        ("shin", "knee", "ankle"), ("foot", "ankle", "big_toe"))},
    "hand": tuple((f"{side}_wrist", f"{side}_hand_{i}") for side in SIDES for i in (5, 9, 13, 17)),
}  # fmt: skip
"""Part of the body -> pairs of joints whose distance in the body is fixed; the longest in the picture is its length."""

WHOLE = (
    "torso",
    "shoulders",
    "hips",
    "upper arm",
    "forearm",
    "thigh",
    "shin",
)  # what the body's own ratio is taken from

_NODES = (*FORMATS[CANONICAL].joints, *BETWEEN, "ground")
_NUMBER = {joint: i for i, joint in enumerate(_NODES)}
_GROUND = _NUMBER["ground"]
_PARENT: Indices = np.array([_NUMBER[TREE[joint][0]] for joint in _NODES[:-1]] + [_GROUND], np.intp)


def _depth(joint: str) -> int:
    return 0 if joint == "ground" else 1 + _depth(TREE[joint][0])


_DEPTHS = [_depth(joint) for joint in _NODES]
_LEVELS: tuple[Indices, ...] = tuple(
    np.array([i for i, depth in enumerate(_DEPTHS) if depth == level], np.intp)
    for level in range(1, max(_DEPTHS) + 1)
)


@dataclass(frozen=True, eq=False)
class Retargeting:
    """What turns poses of one person into poses with another's proportions: `retargeting(pose)`.

    Attributes:
        ratios: part of the body -> the other's length over the moving person's; "body" is the whole.
        origin: x, y of the moving person's root in its calibration, pixels of its canvas.
        place: x, y of the other's root, pixels of the other's canvas.
        size: canvas of the other.
    """

    ratios: dict[str, float]
    origin: tuple[float, float]
    place: tuple[float, float]
    size: tuple[int, int] | None

    def __call__(self, pose: Pose) -> Pose:
        """Returns the pose in coco-wholebody-133 on the other's canvas; what is missing stays missing.

        A joint whose parent is missing hangs on the nearest one above that is there; one that has none is moved and
        scaled as the whole body.
        """
        whole = pose.to(CANONICAL)
        old, here = _nodes(whole)
        old[_GROUND], here[_GROUND] = self.origin, True
        above = _PARENT.copy()
        for _ in _LEVELS:
            above = np.where(here[above], above, _PARENT[above])
        ratio = np.array([self.ratios[TREE[joint][1]] for joint in _NODES[:-1]] + [0.0])
        ratio[above == _GROUND] = self.ratios["body"]
        new = np.zeros_like(old)
        new[_GROUND] = self.place
        for level in _LEVELS:
            new[level] = new[above[level]] + ratio[level, None] * (old[level] - old[above[level]])
        xy = new[: len(whole.score)] * (whole.score > 0)[:, None]
        return Pose(CANONICAL, xy.astype(np.float32), whole.score, self.size)


def measure(poses: Sequence[Pose], to: Pose) -> Retargeting:
    """Returns what gives poses of the person in `poses` the proportions, the place and the size of the one in `to`.

    Args:
        poses: of the person who moves: one calibration pose (standing, seen from the front) or a whole motion.
        to: the person in the source picture.

    Raises:
        PoseError: no part of the body that both show, or neither hips nor shoulders to start from.
    """
    moving, other = _lengths(poses), _lengths([to])
    both = [part for part in WHOLE if moving.get(part, 0) > 0 and other.get(part, 0) > 0]
    if not both:
        raise PoseError("to", "nothing to compare", expected=f"two joints of one of {', '.join(WHOLE)}")
    body = sum(other[part] for part in both) / sum(moving[part] for part in both)
    ratios = {part: body for _, part in TREE.values()}
    for part in moving.keys() & other.keys():
        if moving[part] > 0 and other[part] > 0:
            ratios[part] = float(np.clip(other[part] / moving[part], body / LIMIT, body * LIMIT))
    origin, place = _roots(poses, to)
    return Retargeting(ratios, origin, place, to.size)


def retarget(poses: Sequence[Pose], to: Pose, *, calibration: Pose | None = None) -> tuple[Pose, ...]:
    """Returns the poses with the proportions, place and size of the person in `to`, in coco-wholebody-133.

    The first pose's root comes to lie where that of `to` is, further ones move from there, in that person's size.
    What it cannot do stands at the head of this module.

    Args:
        poses: of one person, on one canvas.
        to: the person in the source picture.
        calibration: the moving person standing and seen from the front; lengths are then its own, and its root comes to
            lie where that of `to` is. Else they are the 95th percentile over `poses`.

    Raises:
        PoseError: what `measure` refuses.
    """
    retargeting = measure(poses if calibration is None else [calibration], to)
    return tuple(retargeting(pose) for pose in poses)


def _nodes(pose: Pose) -> tuple[Numbers, NDArray[np.bool_]]:
    """f64[136,2] and what is there: joints of coco-wholebody-133, neck, mid_hip, and a row for the ground."""
    xy, here = np.zeros((len(_NODES), 2)), np.zeros(len(_NODES), bool)
    xy[: len(pose.score)], here[: len(pose.score)] = pose.xy, pose.score > 0
    for joint, pair in BETWEEN.items():
        a, b = (_NUMBER[name] for name in pair)
        here[_NUMBER[joint]] = here[a] and here[b]
        xy[_NUMBER[joint]] = (xy[a] + xy[b]) / 2
    return xy, here


def _lengths(poses: Sequence[Pose]) -> dict[str, float]:
    """Part of the body -> its length in pixels; only parts that are seen."""
    nodes = [_nodes(pose.to(CANONICAL)) for pose in poses]
    found: dict[str, float] = {}
    for part, pairs in MEASURES.items():
        for a, b in ((_NUMBER[one], _NUMBER[other]) for one, other in pairs):
            seen = [float(np.linalg.norm(xy[a] - xy[b])) for xy, here in nodes if here[a] and here[b]]
            if seen:
                found[part] = max(found.get(part, 0.0), float(np.percentile(seen, PERCENTILE)))
    return found


def _roots(poses: Sequence[Pose], to: Pose) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where both people start: the middle of the hips, or the neck where one of them shows no hips."""
    xy, here = _nodes(to.to(CANONICAL))
    nodes = [_nodes(pose.to(CANONICAL)) for pose in poses]
    for joint in ("mid_hip", "neck"):
        row = _NUMBER[joint]
        first = next((spots for spots, there in nodes if there[row]), None)
        if here[row] and first is not None:
            return (float(first[row, 0]), float(first[row, 1])), (float(xy[row, 0]), float(xy[row, 1]))
    expected = "both hips or both shoulders, in the poses and in the picture"
    raise PoseError("to", "no root", got="neither", expected=expected)
