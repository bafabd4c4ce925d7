"""Bootstrap intervals: their width, their seed, and what they refuse."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from flowpose.errors import DataError
from flowpose.metrics import Interval, Scores, intervals, mean_interval


def test_the_width_is_that_of_the_mean_of_normal_values() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = mean_interval(list(values))
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(found.value - half, abs=0.15 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.15 * half)


def test_nineteen_of_twenty_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(1)
    rows = [mean_interval(list(rng.exponential(1.0, 60)), seed=i, resamples=200) for i in range(200)]
    assert 0.88 < np.mean([row.low <= 1.0 <= row.high for row in rows]) < 0.99


def test_the_same_seed_draws_the_same_pictures() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)
    wide, narrow = mean_interval(values, level=0.99), mean_interval(values, level=0.5)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high
    assert wide.low < narrow.low


def test_one_picture_says_nothing_of_others() -> None:
    assert mean_interval([3.0]) == Interval(3.0, 3.0, 3.0, 1)


def test_every_score_has_its_interval_from_the_same_pictures() -> None:
    one = Scores(**{field.name: 1.0 for field in fields(Scores)})
    rows = [replace(one, psnr=value, pck=2 * value) for value in (1.0, 5.0, 6.0)]
    found = intervals(rows)
    assert set(found) == {field.name for field in fields(Scores)}
    assert found["ssim"] == Interval(1.0, 1.0, 1.0, 3)
    assert found["psnr"].value == 4.0
    assert found["pck"].low == 2 * found["psnr"].low
    with pytest.raises(DataError, match="wrong values"):
        intervals([])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_wrong_values_are_errors(values: list[float]) -> None:
    with pytest.raises(DataError, match="wrong values"):
        mean_interval(values)


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(DataError, match="no resamples"):
        mean_interval([1.0], resamples=0)
    with pytest.raises(DataError, match="wrong level"):
        mean_interval([1.0], level=1.0)
