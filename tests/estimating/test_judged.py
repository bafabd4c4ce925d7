"""The judge as an estimator, on pictures with known joints."""

from __future__ import annotations

import numpy as np
import pytest

from flowpose import samples
from flowpose.errors import ImageError
from flowpose.estimating import Estimator, EstimatorOptions, open_estimator

BODY = np.arange(5, 17)


@pytest.fixture(scope="module")
def judge() -> Estimator:
    return open_estimator("judge")


def test_it_finds_the_joints_of_people_nobody_trained_on(judge: Estimator) -> None:
    right = []
    for pair in samples.pairs():
        (found,) = judge.find(pair.truth)
        true = pair.pose.to("coco-17")
        known = BODY[true.score[BODY] > 0]
        reach = 0.1 * float(np.hypot(*np.ptp(true.xy[known], axis=0)))
        right += (np.linalg.norm(found.xy[known] - true.xy[known], axis=1) < reach).tolist()
    assert np.mean(right) > 0.8 and len(right) > 50


@pytest.mark.parametrize("side", [60, 201])
def test_in_a_wide_picture_the_middle_is_looked_at(judge: Estimator, side: int) -> None:
    person = samples.pairs()[0].truth
    wide = np.pad(person, ((0, 0), (side, side), (0, 0)), mode="edge")
    (alone,), (found,) = judge.find(person), judge.find(wide)
    assert found.size == wide.shape[:2]
    seen = BODY[(alone.score[BODY] > 0.5) & (found.score[BODY] > 0.5)]
    assert len(seen) >= 10 and np.median(np.abs(found.xy[seen] - alone.xy[seen] - (side, 0))) < 5


def test_where_nothing_is_sure_nobody_is() -> None:
    strict = open_estimator("judge", EstimatorOptions(least=1.01))
    assert strict.find(samples.source("plaid")) == ()


def test_a_picture_that_is_none_is_refused(judge: Estimator) -> None:
    with pytest.raises(ImageError):
        judge.find(np.zeros((8, 8), np.uint8))
