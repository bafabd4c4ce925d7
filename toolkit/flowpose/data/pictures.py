"""A data set in memory: pictures, keypoints and who is who; and the pairs drawn from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowpose.errors import DataError

BODY = 17  # joints of coco-17, which open coco-wholebody-133


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of one split.

    Attributes:
        split: its name.
        images: u8[n, H, W, 3].
        keypoints: f32[n, 133, 3], x and y in pixels of these images, score 0 (missing) or more.
        identities: i64[n]; pictures of one number show one person in the same clothes.
        names: n names, for reports.
        pairs: i64[p, 2] (source, target) picture numbers that somebody published, in their order; only these are
            drawn then. None: any picture of an identity goes with any other.
        digests: n sha256 of what was read (`content_digest`), the same at every size. None: nothing was read, the
            pictures were drawn.
        read_bodies: f32[n, 17, 3], the joints of coco-17 in pixels of the files' own pictures. None: as `digests`.
    """

    split: str
    images: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    identities: NDArray[np.int64]
    names: tuple[str, ...]
    pairs: NDArray[np.int64] | None = None
    digests: tuple[str, ...] | None = None
    read_bodies: NDArray[np.float32] | None = None

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

    @property
    def pair_count(self) -> int:
        """How many (source, target) pairs can be drawn; 0 where nobody has two pictures."""
        if self.pairs is not None:
            return len(self.pairs)
        each = np.unique(self.identities, return_counts=True)[1]
        return int((each * (each - 1)).sum())

    @property
    def bodies(self) -> NDArray[np.float32]:
        """f32[n, 17, 3]: the body's joints before they were fitted into a frame; of drawn pictures, in this one."""
        return self.keypoints[:, :BODY] if self.read_bodies is None else self.read_bodies

    def digest(self, number: int) -> str:
        """sha256 of a picture with its joints: as they were read, or of a drawn one, as they are at this size."""
        if self.digests is not None:
            return self.digests[number]
        return content_digest(np.ascontiguousarray(self.images[number]).tobytes(), self.keypoints[number])

    @cached_property
    def content(self) -> str:
        """sha256 of all that training draws from: each picture's `digest`, in their order, who is who, and the pairs."""
        found = hashlib.sha256("".join(map(self.digest, range(len(self)))).encode())
        for numbers in (self.identities, self.pairs):
            found.update(b"" if numbers is None else np.asarray(numbers, "<i8").tobytes())
        return found.hexdigest()

    @cached_property
    def partners(self) -> Mapping[int, NDArray[np.int64]]:
        """The targets of each source of `pairs`; nothing where there are none."""
        if self.pairs is None or not len(self.pairs):
            return {}
        rows = self.pairs[np.argsort(self.pairs[:, 0], kind="stable")]
        sources, starts = np.unique(rows[:, 0], return_index=True)
        return dict(zip(sources.tolist(), np.split(rows[:, 1], starts[1:]), strict=True))


def content_digest(content: bytes, joints: ArrayLike) -> str:
    """sha256 of a picture's bytes, as they lie in its file, and of its joints' numbers, as their file gives them.

    Neither a decoder nor a size is in it, so it is the same on every machine.
    """
    found = hashlib.sha256(content)
    found.update(np.asarray(joints, "<f4").tobytes())
    return found.hexdigest()


def draw_sets(
    pictures: Pictures, rng: np.random.Generator, sources: int, targets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(source i64[S], target i64[S, m]) picture numbers: each source with m targets of the same identity.

    Any picture of an identity may be the source of any other, so pairs are drawn both ways. A target is never
    its own source; targets repeat only where an identity has fewer than m others. Of published pairs each is
    equally likely to give a source and its first target; the further targets are other published ones.
    """
    if pictures.pairs is not None:
        return _published_sets(pictures, pictures.pairs, rng, sources, targets)
    groups = pictures.groups
    first, rest = [], []
    for pick in rng.integers(len(groups), size=sources):
        order = rng.permutation(groups[pick])
        first.append(order[0])
        rest.append(np.resize(order[1:], targets))
    return np.array(first), np.array(rest)


def _published_sets(
    pictures: Pictures, pairs: NDArray[np.int64], rng: np.random.Generator, sources: int, targets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    drawn = pairs[rng.integers(len(pairs), size=sources)]
    rest = []
    for source, target in drawn.tolist():
        order = rng.permutation(pictures.partners[source])
        rest.append(np.resize(np.append(target, order[order != target]), targets))
    return drawn[:, 0], np.array(rest)


def draw_pairs(pictures: Pictures, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yields `count` (source, target) picture numbers, spread over the identities; the same for the same seed.

    Of published pairs: all of them, in their own order, where `count` is their number, and a draw without
    repetition where it is less.

    Raises:
        DataError: more than the published pairs are asked for.
    """
    rng = np.random.default_rng(seed)
    if pictures.pairs is not None:
        order = _published_order(pictures.split, len(pictures.pairs), count, rng)
        yield from ((source, target) for source, target in pictures.pairs[order].tolist())
        return
    groups = pictures.groups
    order = rng.permutation(len(groups))
    for index in range(count):
        source, target = rng.permutation(groups[order[index % len(groups)]])[:2]
        yield int(source), int(target)


def _published_order(split: str, published: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if count > published:
        raise DataError(
            split, "fewer pairs are published", got=published, expected=f"{count} or more",
            fix=f"ask for {published} pairs, as --set evaluate.pairs={published}, or --set data.pairs=all",
        )  # fmt: skip
    return np.arange(published) if count == published else rng.permutation(published)[:count]
