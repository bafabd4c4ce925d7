"""The worst cases: which pairs are chosen, what is wrong with them, and where it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.comparison import Pairs, views_of
from flowpose.data.figures import draw, figure_identity, motion
from flowpose.runtime import Model
from flowpose.worst_cases import worst_cases

COUNT, HEIGHT, WIDTH, BAD = 5, 64, 48, 3
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    people = [figure_identity(person) for person in range(COUNT)]
    poses = motion(0, COUNT, 15)
    drawn = [draw(who, pose, HEIGHT, WIDTH) for who, pose in zip(people, poses, strict=True)]
    truths = np.stack([picture for picture, _ in drawn])
    keypoints = np.stack([points for _, points in drawn]).astype(np.float32)
    return Pairs("val", np.roll(truths, 1, axis=0), truths, keypoints, views_of(truths))


@dataclass
class Draws:
    """A model that draws the truths, but for the pair BAD, which it draws as noise where it is told to."""

    pairs: Pairs
    fails: bool

    def encode(self, source: Bytes) -> Bytes:
        return source

    def frame_now(self, context: Any, pose: NDArray[np.float32]) -> Bytes:
        at = next(i for i in range(COUNT) if np.array_equal(self.pairs.keypoints[i], pose))
        if at == BAD and self.fails:
            return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        return np.asarray(self.pairs.truths[at], np.uint8)


@pytest.mark.parametrize(
    ("failing", "begins"),
    [
        (("int8",), "so bad with int8 alone"),
        (("student-1", "int8"), "as bad with student-1 already"),
        (("teacher-16", "student-1", "int8"), "as bad with teacher-16 already"),
    ],
)
def test_the_worst_pair_comes_first_and_the_form_that_it_begins_with_is_named(
    pairs: Pairs, failing: tuple[str, ...], begins: str
) -> None:
    rows = ("teacher-16", "student-1", "int8")
    models = {row: cast("Model", Draws(pairs, row in failing)) for row in rows}
    found, picture = worst_cases(models, "int8", ("teacher-16", "student-1", "absent"), pairs)
    assert found[0].pair == BAD and begins in found[0].why
    assert list(found[0].beside) == ["teacher-16", "student-1"]
    scores = [each.scores["own_lpips"] for each in found]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.3 > scores[1]
    assert picture.shape[1] > 6 * 100, "source, pose, truth and three forms"


def test_noise_is_said_to_be_too_much_detail(pairs: Pairs) -> None:
    models = {"int8": cast("Model", Draws(pairs, True))}
    (first, *_), _ = worst_cases(models, "int8", (), pairs)
    assert "(" in first.why and "so bad with int8 alone" in first.why
    assert any(
        text in first.why for text in ("too much fine detail", "another outline", "joints are not where")
    )
