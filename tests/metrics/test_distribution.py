"""Distances between sets: known values, no bias, and sets that are blurred, of one person or of one pose."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import DataError
from flowpose.metrics import Judge, frechet_distance, kernel_distance, view_features, with_interval

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
COUNT = 20


def normal(seed: int, count: int, width: int = 4, mean: float = 0.0, deviation: float = 1.0) -> Floats:
    return np.random.default_rng(seed).normal(mean, deviation, (count, width))


def test_frechet_of_normal_sets_is_known() -> None:
    """d (m^2 + (s - 1)^2) for two round normal distributions a mean m apart."""
    found = frechet_distance(normal(0, 20_000, mean=1.5, deviation=2.0), normal(1, 20_000))
    assert found == pytest.approx(4 * (1.5**2 + 1.0), rel=0.05)


def test_frechet_does_not_mind_a_turn_of_both_sets() -> None:
    a, b = normal(0, 60) * [1, 2, 3, 4], normal(1, 60) + 1
    turn = np.linalg.qr(normal(2, 4))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_is_exact_where_covariances_commute() -> None:
    """Diagonal covariances: the sum of squared differences of the deviations."""
    rows = normal(3, 50)
    white = (rows - rows.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    assert frechet_distance(white * [1, 2, 3, 4], white * [2, 2, 2, 2]) == pytest.approx(1 + 0 + 1 + 4)


def test_kernel_distance_agrees_with_its_definition() -> None:
    a, b = normal(0, 5, 3), normal(1, 4, 3) + 1

    def k(x: Floats, y: Floats) -> float:
        return float((x @ y / 3 + 1) ** 3)

    own = np.mean([k(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    true = np.mean([k(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
    both = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(own + true - 2 * both)


def test_kernel_distance_has_no_bias() -> None:
    """Over many small sets of one distribution its mean is 0 within three standard errors; Frechet's is not."""
    rows = [kernel_distance(normal(i, 8), normal(i + 1000, 8)) for i in range(300)]
    assert abs(np.mean(rows)) < 3 * np.std(rows) / np.sqrt(300)
    assert np.mean([frechet_distance(normal(i, 8), normal(i + 1000, 8)) for i in range(100)]) > 0.5


def test_the_interval_holds_the_value_and_tells_sets_apart() -> None:
    a, same, other = normal(0, 60), normal(1, 60), normal(2, 60, mean=1.0)
    alike, apart = with_interval(kernel_distance, a, same), with_interval(kernel_distance, a, other)
    assert alike.low <= 0.0 <= alike.high
    assert 0.0 < apart.low <= apart.value <= apart.high
    assert alike.high < apart.low
    assert apart.value == kernel_distance(a, other)
    assert apart.n == 60
    assert apart == with_interval(kernel_distance, a, other)
    assert apart != with_interval(kernel_distance, a, other, seed=1)


def figure(identity: int, pose: int) -> Bytes:
    return draw(figure_identity(9000 + identity), figure_pose(np.random.default_rng(pose)), 64, 44)[0]


@pytest.fixture(scope="module")
def features() -> dict[str, NDArray[np.float32]]:
    """Sets of figures: the real one, another as good, and ones with a fault."""
    good = [figure(i + 500, i + 500) for i in range(COUNT)]
    sets = {
        "real": [figure(i, i) for i in range(COUNT)],
        "good": good,
        "blurred": [np.asarray(cv2.GaussianBlur(p, (0, 0), 1.0), np.uint8) for p in good],
        "one person": [figure(1, i + 700) for i in range(COUNT)],
        "one pose": [figure(i + 800, 3) for i in range(COUNT)],
    }
    judge = Judge()
    return {name: np.stack([view_features(judge.view(p)) for p in found]) for name, found in sets.items()}


@pytest.mark.parametrize("fault", ["blurred", "one person", "one pose"])
def test_a_faulty_set_is_further_from_the_real_one(
    fault: str, features: dict[str, NDArray[np.float32]]
) -> None:
    real, good = features["real"], features["good"]
    assert kernel_distance(features[fault], real) > kernel_distance(good, real) + 0.1
    assert kernel_distance(good, real) < 0.15
    few = slice(152, 168)  # the last maps and the first of the identity: fewer than the pictures
    far, near = (frechet_distance(x[:, few], real[:, few]) for x in (features[fault], good))
    assert far > near


def test_features_are_of_one_scale(features: dict[str, NDArray[np.float32]]) -> None:
    found = features["real"]
    assert found.shape == (COUNT, 224)
    assert (found[:, :160] ** 2).mean(1) == pytest.approx(1, abs=1e-3)
    assert (found[:, 160:] ** 2).mean(1) == pytest.approx(1, abs=1e-3)


def test_too_few_rows_and_unlike_features_are_errors(features: dict[str, NDArray[np.float32]]) -> None:
    with pytest.raises(DataError, match="too few rows"):
        frechet_distance(features["real"], features["good"])
    with pytest.raises(DataError, match="too few rows"):
        kernel_distance(normal(0, 1), normal(0, 5))
    with pytest.raises(DataError, match="two kinds"):
        kernel_distance(normal(0, 5, 3), normal(0, 5, 4))
    with pytest.raises(DataError, match="not finite"):
        kernel_distance(normal(0, 5), np.full((5, 4), np.nan))
    with pytest.raises(DataError, match="no resamples"):
        with_interval(kernel_distance, normal(0, 5), normal(1, 5), resamples=0)
