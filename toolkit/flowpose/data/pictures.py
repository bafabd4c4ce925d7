"""A data set in memory: pictures, keypoints and who is who; and the pairs drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of one split.

    Attributes:
        split: its name.
        images: u8[n, H, W, 3].
        keypoints: f32[n, 133, 3], x and y in pixels of these images, score 0 (missing) or more.
        identities: i64[n]; pictures of one number show one person in the same clothes.
        names: n names, for reports.
    """

    split: str
    images: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    identities: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def groups(self) -> tuple[NDArray[np.int64], ...]:
        """Indices of each identity that has two pictures or more."""
        order = np.argsort(self.identities, kind="stable")
        starts = np.flatnonzero(np.diff(self.identities[order])) + 1
        found = tuple(group for group in np.split(order, starts) if len(group) > 1)
        if not found:
            raise DataError(self.split, "no identity has two pictures", expected="two or more of one person")
        return found


def draw_sets(
    pictures: Pictures, rng: np.random.Generator, sources: int, targets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(source i64[S], target i64[S, m]) picture numbers: each source with m targets of the same identity.

    Any picture of an identity may be the source of any other, so pairs are drawn both ways. A target is never
    its own source; targets repeat only where an identity has fewer than m others.
    """
    groups = pictures.groups
    first, rest = [], []
    for pick in rng.integers(len(groups), size=sources):
        order = rng.permutation(groups[pick])
        first.append(order[0])
        rest.append(np.resize(order[1:], targets))
    return np.array(first), np.array(rest)


def draw_pairs(pictures: Pictures, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yields `count` (source, target) picture numbers, spread over the identities; the same for the same seed."""
    rng = np.random.default_rng(seed)
    groups = pictures.groups
    order = rng.permutation(len(groups))
    for index in range(count):
        source, target = rng.permutation(groups[order[index % len(groups)]])[:2]
        yield int(source), int(target)
