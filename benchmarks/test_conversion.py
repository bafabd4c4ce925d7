"""What a pose costs before the graph: every format from an array to the model's input, without a model's run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest

from flowpose import samples
from flowpose.pose import FORMATS, Pose

ROUNDS, WARMUP = 2000, 100
FRAME, OWN = (128, 88), "coco-wholebody-133"  # people-128's


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_array_to_the_graphs_input(
    benchmark: Any, moving: samples.Motion, format: str, record: Callable[..., None]
) -> None:
    """Read, checked, fitted into the frame, converted: as `Model.keypoints` does it."""
    turns = cycle([pose.to(format).array() for pose in moving.poses])
    size = moving.source.shape[:2]

    def convert() -> None:
        Pose.of(next(turns), format, size).check().fit(*FRAME).inside().to(OWN).array()

    benchmark.pedantic(convert, rounds=ROUNDS, warmup_rounds=WARMUP)
    record(format=format, to=OWN)
