"""The pictures of a calibration set: drawn from its description, and known by a digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpose import data
from flowpose.data import Pictures, draw_pairs
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError
from flowpose.model.pictures import to_tensor
from flowpose.quantize.lock import check_digest, lock_of, lock_path, pairs_digest, read_lock
from flowpose.quantize.strata import draw_evenly
from flowpose.spec.calibration import Calibration
from flowpose.spec.recipe import ImageSpec

CHUNK = 8


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs of a source picture and a pose.

    Attributes:
        sources: u8[n, H, W, 3].
        targets: u8[n, H, W, 3], the pictures that the poses were seen in.
        keypoints: f32[n, 133, 3].
        names: n pairs (source, target) of picture names.
        digests: n pairs (source, target) of the pictures' own digests, joints included (`Pictures.digest`).
        bodies: f32[n, 17, 3], the poses' body joints as they were read (`Pictures.bodies`).
    """

    sources: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    names: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    bodies: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def digest(self) -> str:
        """sha256 over the names and the pictures' digests; of pictures that are read, the same at every size."""
        return pairs_digest(self.names, self.digests)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (sources f32[B, 3, H, W] in -1..1, keypoints f32[B, 133, 3]), in order."""
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            yield to_tensor(self.sources[part]), torch.from_numpy(self.keypoints[part])


def pick(pictures: Pictures, count: int, seed: int) -> Samples:
    """The `count` pairs that draw_pairs draws with this seed."""
    return _samples(pictures, list(draw_pairs(pictures, count, seed)))


def _samples(pictures: Pictures, pairs: Sequence[tuple[int, int]]) -> Samples:
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    return Samples(
        sources=pictures.images[sources],
        targets=pictures.images[targets],
        keypoints=pictures.keypoints[targets],
        names=tuple((pictures.names[a], pictures.names[b]) for a, b in pairs),
        digests=tuple((pictures.digest(a), pictures.digest(b)) for a, b in pairs),
        bodies=pictures.bodies[targets],
    )


def draw(calibration: Calibration, size: ImageSpec, roots: Sequence[Path] = DEFAULT_ROOTS) -> Samples:
    """The samples of a calibration set, at the recipe's picture size.

    Raises:
        DataError: the data is missing or too small, or is not what the set's digest was made of; says which pictures
            changed where the set's lock is at hand (flowpose.quantize.lock).
    """
    pictures = data.read(calibration.data, size, calibration.split, roots)
    samples = draw_from(pictures, calibration)
    if calibration.digest not in (None, samples.digest):
        drawn = lock_of(calibration, samples, drawn_size(pictures))
        check_digest(calibration, drawn, read_lock(lock_path(calibration), calibration))
    return samples


def draw_from(pictures: Pictures, calibration: Calibration) -> Samples:
    """The samples that a calibration set draws from these pictures of its split.

    Raises:
        DataError: there are too few of them, or none.
    """
    pairs, where = pictures.pair_count, f"calibration {calibration.name}"
    if pairs == 0:
        raise DataError(
            where, "no pairs: nobody has two pictures", got=f"{len(pictures)} pictures in {pictures.split}",
            expected=f"{calibration.count} pairs", fix="give its data several pictures of each identity",
        )  # fmt: skip
    if pairs < calibration.count:
        raise DataError(
            where, "too few pictures", got=f"{pairs} pairs", expected=f"{calibration.count} pairs",
            fix=f"set its count to {pairs} or less",
        )  # fmt: skip
    if not calibration.strata:
        return pick(pictures, calibration.count, calibration.seed)
    return _samples(pictures, draw_evenly(pictures, calibration.strata, calibration.count, calibration.seed))


def drawn_size(pictures: Pictures) -> tuple[int, int] | None:
    """Height and width where the pictures are drawn at that size, None where they were read from files."""
    if pictures.digests is not None:
        return None
    height, width = pictures.images.shape[1:3]
    return height, width
