"""PSNR, SSIM and sharpness: known values, order, and errors."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import ImageError
from flowpose.metrics import (
    laplacian_ratio,
    masked_psnr,
    masked_ssim,
    ms_ssim,
    psnr,
    spectrum_ratio,
    ssim,
    ssim_uniform,
)
from flowpose.metrics.fidelity import uniform_window

Bytes = NDArray[np.uint8]
METRICS: tuple[Callable[[Bytes, Bytes], object], ...] = (
    psnr,
    ssim,
    ssim_uniform,
    ms_ssim,
    spectrum_ratio,
    laplacian_ratio,
)


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
    assert ssim_uniform(truth, truth) == pytest.approx(1)
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


def test_uniform_ssim_agrees_with_its_definition() -> None:
    """One window of 7x7, equal weights, sample variances (n - 1)."""
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 256, (7, 7, 3), np.uint8) for _ in range(2))
    wanted = []
    for x, y in zip(a.reshape(49, 3).T.astype(float), b.reshape(49, 3).T.astype(float), strict=True):
        (vx, both), (_, vy) = np.cov(x, y)
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        light = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
        wanted.append(light * (2 * both + c2) / (vx + vy + c2))
    assert ssim_uniform(a, b, window=7) == pytest.approx(np.mean(wanted), abs=1e-9)


def test_the_two_settings_of_ssim_are_not_one(truth: Bytes) -> None:
    figures = {
        ssim(noisy(truth, 15), truth),
        *(ssim_uniform(noisy(truth, 15), truth, window=w) for w in (7, 51)),
    }
    assert len({round(figure, 2) for figure in figures}) == 3
    assert uniform_window(128, 88) == 51
    assert uniform_window(64, 44) == 7


@pytest.mark.parametrize("window", [0, 1, 6])
def test_a_window_without_a_middle_is_an_error(window: int, truth: Bytes) -> None:
    with pytest.raises(ImageError, match="wrong window"):
        ssim_uniform(truth, truth, window=window)


def test_a_mask_leaves_out_the_rest(truth: Bytes) -> None:
    """Damage outside the mask, and further from it than the window reaches, changes nothing."""
    mask = np.zeros(truth.shape[:2], bool)
    mask[:40] = True
    damaged = truth.copy()
    damaged[60:] = 255 - damaged[60:]
    assert masked_psnr(damaged, truth, mask) == 100
    assert masked_ssim(damaged, truth, mask) == pytest.approx(1)
    assert masked_psnr(damaged, truth, ~mask) < psnr(damaged, truth)
    assert masked_ssim(damaged, truth, ~mask) < ssim(damaged, truth)


def test_a_mask_of_everything_is_the_whole_picture(truth: Bytes) -> None:
    whole, damaged = np.ones(truth.shape[:2], bool), noisy(truth, 8)
    assert masked_psnr(damaged, truth, whole) == pytest.approx(psnr(damaged, truth))
    inner = np.zeros_like(whole)
    inner[5:-5, 5:-5] = True
    assert masked_ssim(damaged, truth, inner) == pytest.approx(ssim(damaged, truth))


@pytest.mark.parametrize("metric", [masked_psnr, masked_ssim])
def test_wrong_masks_are_errors(
    metric: Callable[[Bytes, Bytes, NDArray[np.bool_]], float], truth: Bytes
) -> None:
    for bad, words in (
        (np.zeros((128, 88), bool), "empty mask"),
        (np.ones((64, 88), bool), "wrong mask"),
        (np.ones((128, 88), np.uint8), "wrong mask"),
    ):
        with pytest.raises(ImageError, match=words):
            metric(truth, truth, bad)


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_uniform, ms_ssim])
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
    for metric in (ssim, ssim_uniform, ms_ssim, spectrum_ratio):
        with pytest.raises(ImageError, match="too small"):
            metric(small, small)
