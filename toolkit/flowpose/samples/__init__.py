"""A few people in several poses, and one motion, shipped for the demo, tests and first tries.

The pictures are of the test split of the people set, so no model was trained on them; README.md here tells
their origin and licence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpose import image
from flowpose.errors import DataError
from flowpose.image import Picture
from flowpose.pose import Pose
from flowpose.pose_files import read_poses

__all__ = ["PEOPLE", "TARGETS", "Motion", "Pair", "motion", "pairs", "source"]

FOLDER = Path(__file__).parent
PEOPLE = ("sweater", "skirt", "plaid", "dungarees")
MOVED = "dungarees"  # the person of motion.npz
TARGETS = {"sweater": 2, "skirt": 2, "plaid": 2}
"""Person -> number of further pictures, each the truth for a re-posed source."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A person, another pose, and the person in it; both pictures u8[256,176,3]."""

    name: str
    source: Picture
    pose: Pose
    truth: Picture


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion of one person.

    Attributes:
        source: u8[256,176,3], the person seen from the front.
        poses: 48 in order of time; coco-wholebody-133 on a canvas of 256 x 176 (height x width).
        rate: poses a second.
    """

    source: Picture
    poses: tuple[Pose, ...]
    rate: float


def source(name: str) -> Picture:
    """Returns u8[256,176,3]: one of PEOPLE, standing, seen from the front.

    Raises:
        DataError: no sample of that name.
    """
    if name not in PEOPLE:
        raise DataError("samples", "no such person", got=f"'{name}'", expected=", ".join(PEOPLE))
    return image.read(FOLDER / f"{name}-source.webp")


def pairs() -> tuple[Pair, ...]:
    """Returns every source with each of its targets: six pairs of three people."""
    poses = _poses()
    return tuple(
        Pair(name, source(name), poses[f"{name}-{number}.webp"], image.read(FOLDER / f"{name}-{number}.webp"))
        for name, count in TARGETS.items()
        for number in range(1, count + 1)
    )


def motion() -> Motion:
    """Returns the motion: 3.2 seconds of motion capture."""
    file = FOLDER / "motion.npz"
    with np.load(file, allow_pickle=False) as data:
        rate = float(data["rate"])
    return Motion(source(MOVED), read_poses(file), rate)


def _poses() -> dict[str, Pose]:
    """Picture's file name -> its pose; entry i of annotations belongs to entry i of images."""
    file = FOLDER / "poses.json"
    names = [entry["file_name"] for entry in json.loads(file.read_text("utf-8"))["images"]]
    return dict(zip(names, read_poses(file), strict=True))
