"""The pictures of a calibration set: drawn from its description, and known by a digest."""

from __future__ import annotations

import hashlib
import json
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
    """

    sources: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    names: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def digest(self) -> str:
        """sha256 over the names, the sources' pixels and the keypoints."""
        found = hashlib.sha256(json.dumps([self.sources.shape, self.names]).encode())
        for array in (self.sources, self.keypoints):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (sources f32[B, 3, H, W] in -1..1, keypoints f32[B, 133, 3]), in order."""
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            yield to_tensor(self.sources[part]), torch.from_numpy(self.keypoints[part])


def pick(pictures: Pictures, count: int, seed: int) -> Samples:
    """The `count` pairs that draw_pairs draws with this seed."""
    pairs = list(draw_pairs(pictures, count, seed))
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    names = tuple((pictures.names[a], pictures.names[b]) for a, b in pairs)
    return Samples(pictures.images[sources], pictures.images[targets], pictures.keypoints[targets], names)


def draw(calibration: Calibration, size: ImageSpec, roots: Sequence[Path] = DEFAULT_ROOTS) -> Samples:
    """The samples of a calibration set, at the recipe's picture size.

    Raises:
        DataError: the data is missing or too small, or is not what the set's digest was made of.
    """
    pictures = data.read(calibration.data, size, calibration.split, roots)
    pairs = sum(len(group) * (len(group) - 1) for group in pictures.groups)
    where = f"calibration {calibration.name}"
    if pairs < calibration.count:
        fix = f"set its count to {pairs} or less"
        raise DataError(
            where, "too few pictures", got=f"{pairs} pairs", expected=f"{calibration.count} pairs", fix=fix
        )
    samples = pick(pictures, calibration.count, calibration.seed)
    if calibration.digest not in (None, samples.digest):
        fix = "restore the data, or write the digest found into the calibration set"
        raise DataError(
            where, "other samples than its digest's", got=samples.digest, expected=calibration.digest, fix=fix
        )
    return samples
