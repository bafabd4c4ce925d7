"""PSNR, SSIM and sharpness: known values, order, and errors."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import ImageError
from flowpose.metrics import laplacian_ratio, ms_ssim, psnr, spectrum_ratio, ssim

Bytes = NDArray[np.uint8]
METRICS: tuple[Callable[[Bytes, Bytes], object], ...] = (psnr, ssim, ms_ssim, spectrum_ratio, laplacian_ratio)


@pytest.fixture(scope="module")
def truth() -> Bytes:
    return draw(figure_identity(0), figure_pose(np.random.default_rng(0)), 128, 88)[0]


def blurred(picture: Bytes, sigma: float = 1.5) -> Bytes:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def noisy(picture: Bytes, deviation: float) -> Bytes:
    noise = np.random.default_rng(0).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_psnr_of_a_constant_difference_is_known() -> None:
    a, b = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 110, np.uint8)
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / 100))


def test_equal_pictures_score_best(truth: Bytes) -> None:
    assert psnr(truth, truth) == 100
    assert ssim(truth, truth) == pytest.approx(1)
    assert ms_ssim(truth, truth) == pytest.approx(1)
    assert laplacian_ratio(truth, truth) == pytest.approx(1)
    assert spectrum_ratio(truth, truth) == pytest.approx((1, 1, 1, 1))


def test_ssim_of_flat_pictures_is_the_light_term() -> None:
    a, b = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-9)


def test_ssim_agrees_with_its_definition() -> None:
    """One window, summed by hand: an 11x11 picture has exactly one."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (11, 11, 3), np.uint8) for _ in range(2))
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line)[..., None] / line.sum() ** 2
    x, y = a.astype(float), b.astype(float)
    mx, my = (x * weights).sum((0, 1)), (y * weights).sum((0, 1))
    vx, vy = ((x - mx) ** 2 * weights).sum((0, 1)), ((y - my) ** 2 * weights).sum((0, 1))
    both = ((x - mx) * (y - my) * weights).sum((0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(a, b) == pytest.approx(wanted.mean(), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_more_damage_scores_worse(metric: Callable[[Bytes, Bytes], float], truth: Bytes) -> None:
    scores = [metric(noisy(truth, deviation), truth) for deviation in (2, 8, 30)]
    assert scores == sorted(scores, reverse=True)


def test_blur_loses_sharpness_most_in_the_finest_octave(truth: Bytes) -> None:
    ratios = spectrum_ratio(blurred(truth), truth)
    assert list(ratios) == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.25
    assert ratios[0] > 0.8
    assert laplacian_ratio(blurred(truth), truth) < 0.2


def test_noise_is_told_from_blur(truth: Bytes) -> None:
    assert spectrum_ratio(noisy(truth, 15), truth)[-1] > 1.2
    assert laplacian_ratio(noisy(truth, 15), truth) > 1.2


def test_sharpness_does_not_mind_a_shift(truth: Bytes) -> None:
    moved = np.roll(truth, 3, axis=1)
    assert psnr(moved, truth) < 25
    assert laplacian_ratio(moved, truth) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((128, 88, 3), np.float32), "dtype"),
        (np.zeros((128, 88), np.uint8), "shape"),
        (np.zeros((128, 88, 4), np.uint8), "shape"),
        (np.zeros((64, 88, 3), np.uint8), "sizes differ"),
        (np.zeros((0, 88, 3), np.uint8), "shape"),
    ],
)
def test_wrong_pictures_are_errors(
    metric: Callable[[Bytes, Bytes], object], bad: Bytes, words: str, truth: Bytes
) -> None:
    with pytest.raises(ImageError, match=words):
        metric(bad, truth)


def test_pictures_smaller_than_the_window_are_errors() -> None:
    small = np.zeros((8, 8, 3), np.uint8)
    for metric in (ssim, ms_ssim, spectrum_ratio):
        with pytest.raises(ImageError, match="too small"):
            metric(small, small)
