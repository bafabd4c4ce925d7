"""The procedural figures as a data set with splits."""

from __future__ import annotations

import numpy as np

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.data.pictures import Pictures
from flowpose.spec.recipe import FiguresData

FIRST = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""The first identity seed of each split; splits share nobody."""


def figures(data: FiguresData, split: str, height: int, width: int) -> Pictures:
    """Pictures of `data.identities` figures (a quarter as many outside train), `data.pictures` each."""
    people = data.identities if split == "train" else max(2, data.identities // 4)
    rows = []
    for person in range(people):
        seed = data.seed * 10_000_000 + FIRST[split] + person
        identity = figure_identity(seed)
        rng = np.random.default_rng((seed, 1))
        rows += [draw(identity, figure_pose(rng), height, width) for _ in range(data.pictures)]
    identities = np.repeat(np.arange(people), data.pictures)
    return Pictures(
        split=split,
        images=np.stack([picture for picture, _ in rows]),
        keypoints=np.stack([keypoints for _, keypoints in rows]).astype(np.float32),
        identities=identities,
        names=tuple(
            f"figures/{split}{person:04d}_{i:02d}" for person in range(people) for i in range(data.pictures)
        ),
    )
