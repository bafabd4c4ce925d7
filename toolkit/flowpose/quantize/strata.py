"""Sorts of poses, and pairs drawn evenly from all of them: a few common poses must not fix every range.

A pose is sorted by joints alone and by ratios of lengths alone, and where pictures are read by the joints as their
files give them (`Pictures.bodies`), so its stratum is the same at every picture size. A mirror image is of the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from flowpose.data import Pictures
from flowpose.spec.calibration import Axis

TURNED = 0.3
"""Shoulders and hips are this wide, in torso lengths, at about 65 degrees from the front: beyond it is the side."""
RAISED = 0.5
"""A hand above this share of the way from shoulders to hips is raised: one that signs, points, or is over the head."""
UNKNOWN = "unknown"

# Left and right joint, in the order of COCO.
_SHOULDERS, _WRISTS, _HIPS, _KNEES, _ANKLES = (5, 6), (9, 10), (11, 12), (13, 14), (15, 16)

Floats = NDArray[np.float64]
Words = NDArray[np.str_]


def strata(keypoints: NDArray[np.floating], axes: Sequence[Axis]) -> tuple[str, ...]:
    """The stratum of each pose, such as `front/full/raised` for the axes view, framing, arms.

    * view: `front`, `back` or `side`, by the order of left and right and their distance against the torso's length.
    * framing: `full` where an ankle is in the picture, `half` where no ankle but a knee is, `close` where none is.
    * arms: `raised` where a hand is in the upper half of the torso's height or above it, else `lowered`.

    view and arms are `unknown` where a shoulder or a hip is missing.

    Args:
        keypoints: f32[n, 17 or more, 3] in the order of COCO, x and y in pixels of any size, score 0 (missing) or more.
        axes: what to sort by, in the order of the name.
    """
    joints = np.asarray(keypoints, np.float64)
    words = [_SORTS[axis](joints) for axis in axes]
    return tuple("/".join(row) for row in zip(*(each.tolist() for each in words), strict=True))


def _middle(joints: Floats, pair: tuple[int, int]) -> Floats:
    middle: Floats = joints[:, pair, :2].mean(axis=1)
    return middle


def _has_torso(joints: Floats) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = np.all(joints[:, _SHOULDERS + _HIPS, 2] > 0, axis=1)
    return there


def _torso(joints: Floats) -> Floats:
    """f64[n, 2]: from the middle of the shoulders to that of the hips."""
    return _middle(joints, _HIPS) - _middle(joints, _SHOULDERS)


def _view(joints: Floats) -> Words:
    torso = _torso(joints)
    left, right = (
        joints[:, [shoulder, hip], :2].mean(axis=1) for shoulder, hip in zip(_SHOULDERS, _HIPS, strict=True)
    )
    across = left - right
    # How far left lies to the right of a person who stands upright; along the torso, so that lying is no other view.
    width = across[:, 0] * torso[:, 1] - across[:, 1] * torso[:, 0]
    limit = TURNED * (torso**2).sum(axis=1)
    known = [~_has_torso(joints), width > limit, width < -limit]
    return np.select(known, [UNKNOWN, "front", "back"], "side")


def _framing(joints: Floats) -> Words:
    ankle, knee = ((joints[:, pair, 2] > 0).any(axis=1) for pair in (_ANKLES, _KNEES))
    return np.select([ankle, knee], ["full", "half"], "close")


def _arms(joints: Floats) -> Words:
    torso, shoulders = _torso(joints), _middle(joints, _SHOULDERS)
    down = ((joints[:, _WRISTS, :2] - shoulders[:, None]) * torso[:, None]).sum(axis=2)
    high = down < RAISED * (torso**2).sum(axis=1)[:, None]
    raised = (high & (joints[:, _WRISTS, 2] > 0)).any(axis=1)
    return np.select([~_has_torso(joints), raised], [UNKNOWN, "raised"], "lowered")


_SORTS: Mapping[Axis, Callable[[Floats], Words]] = MappingProxyType(
    {"view": _view, "framing": _framing, "arms": _arms}
)

AXES: tuple[Axis, ...] = tuple(_SORTS)


def draw_evenly(pictures: Pictures, axes: Sequence[Axis], count: int, seed: int) -> list[tuple[int, int]]:
    """`count` different (source, target) picture numbers, as many of each stratum of the targets, in mixed order.

    A stratum with fewer pairs than its share gives all that it has, and the others share the rest. Within one every
    target is drawn once before any is drawn again, with another source.

    Args:
        pictures: with `count` pairs or more.
        axes: what the targets' poses are sorted by.
        count, seed: the same seed gives the same pairs.
    """
    sources = _sources(pictures)
    members: dict[str, list[int]] = {}
    for target, stratum in enumerate(strata(pictures.bodies, axes)):
        if target in sources:
            members.setdefault(stratum, []).append(target)
    there = {name: sum(len(sources[target]) for target in found) for name, found in members.items()}
    rng = np.random.default_rng(seed)
    pairs = [
        pair
        for name, share in shares(there, count).items()
        for pair in islice(_shuffled(members[name], sources, rng), share)
    ]
    return [pairs[number] for number in rng.permutation(len(pairs))]


def shares(there: Mapping[str, int], count: int) -> dict[str, int]:
    """How many to take of each of `there` (name -> how many there are), as equal as can be; `count` in all.

    What is left over by a division goes to those that have most.
    """
    found = {}
    for done, (name, most) in enumerate(sorted(there.items(), key=lambda each: (each[1], each[0]))):
        found[name] = min(most, count // (len(there) - done))
        count -= found[name]
    return found


def _sources(pictures: Pictures) -> dict[int, NDArray[np.int64]]:
    """Target -> the sources that it can be drawn with."""
    if pictures.pairs is not None:
        rows = pictures.pairs[np.argsort(pictures.pairs[:, 1], kind="stable")]
        targets, starts = np.unique(rows[:, 1], return_index=True)
        return dict(zip(targets.tolist(), np.split(rows[:, 0], starts[1:]), strict=True))
    return {int(target): group[group != target] for group in pictures.groups for target in group}


def _shuffled(
    targets: Sequence[int], sources: Mapping[int, NDArray[np.int64]], rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yields all pairs of these targets in a random order: first one of each target, then a second one of each."""
    order = rng.permutation(targets).tolist()
    queues = [(target, rng.permutation(sources[target]).tolist()) for target in order]
    for turn in range(max(len(queue) for _, queue in queues)):
        yield from ((queue[turn], target) for target, queue in queues if turn < len(queue))
