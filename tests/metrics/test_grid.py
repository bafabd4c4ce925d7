"""Artefacts on the autoencoder's grid: about 1 without them, and well above with dots or seams of every block."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import ImageError
from flowpose.metrics import grid_excess
from flowpose.metrics.grid import BLOCK

Bytes = NDArray[np.uint8]
SIZES = [(128, 88), (256, 176), (48, 32)]


def natural(height: int = 128, width: int = 88, seed: int = 0) -> Bytes:
    """Smooth shapes of all sizes and a little noise, as in photographs."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height, width, 3))
    octaves = sum(2**n * cv2.GaussianBlur(noise, (0, 0), 0.8 * 1.5**n) for n in range(6))
    shapes = 128 + 40 * (octaves - np.mean(octaves)) / np.std(octaves)
    return np.clip(shapes + rng.normal(0, 2, noise.shape), 0, 255).astype(np.uint8)


def figure(number: int = 0) -> Bytes:
    return draw(figure_identity(9000 + number), figure_pose(np.random.default_rng(number)), 128, 88)[0]


def dotted(
    picture: Bytes, period: int = BLOCK, at: tuple[int, int] = (3, 5), alternating: bool = False
) -> Bytes:
    """20 levels brighter at one pixel of every block, in every second one darker if they alternate."""
    marked = picture.astype(int)
    rows, columns = (np.arange(first, side, period) for first, side in zip(at, picture.shape, strict=False))
    signs = (-1) ** (np.arange(len(rows))[:, None] + np.arange(len(columns))) if alternating else 1
    marked[np.ix_(rows, columns)] += (20 * signs * np.ones((len(rows), len(columns)), int))[..., None]
    return np.clip(marked, 0, 255).astype(np.uint8)


def in_blocks(picture: Bytes) -> Bytes:
    """Every block has one colour."""
    height, width = (side // BLOCK for side in picture.shape[:2])
    small = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return small.repeat(BLOCK, 0).repeat(BLOCK, 1)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pictures_without_a_grid_are_about_one(height: int, width: int) -> None:
    for seed in range(4):
        assert 0.6 < grid_excess(natural(height, width, seed)) < 1.5
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        assert 0.6 < grid_excess(noise) < 1.5


def test_drawn_people_are_about_one() -> None:
    assert all(0.6 < grid_excess(figure(number)) < 1.6 for number in range(4))
    assert grid_excess(np.full((64, 48, 3), 90, np.uint8)) == 1, "nothing repeats where nothing is"


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_dots_in_every_block_are_found(height: int, width: int, alternating: bool) -> None:
    for at in ((3, 5), (0, 0), (7, 4)):
        assert grid_excess(dotted(natural(height, width), at=at, alternating=alternating)) > 5
    assert height != 128 or grid_excess(dotted(figure(), alternating=alternating)) > 3


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_seams_are_found(height: int, width: int) -> None:
    assert grid_excess(in_blocks(natural(height, width))) > 2.5
    assert height != 128 or grid_excess(in_blocks(figure())) > 3


def test_more_of_it_costs_more() -> None:
    plain, dots = natural().astype(float), dotted(natural()).astype(float)
    values = [grid_excess((plain + share * (dots - plain)).astype(np.uint8)) for share in (0, 0.25, 0.5, 1)]
    assert values == sorted(values) and values[-1] > 1.5 * values[-2]


@pytest.mark.parametrize("period", [7, 9])
def test_what_repeats_with_another_period_is_no_grid(period: int) -> None:
    made = dotted(natural(), period)
    assert grid_excess(made) < 1.5
    assert grid_excess(made, block=period) > 5


def test_rows_and_columns_that_fill_no_block_do_not_count() -> None:
    picture = dotted(natural(53, 39))
    assert grid_excess(picture) == grid_excess(picture[:48, :32])


def test_wrong_pictures_are_errors() -> None:
    for small in (natural(23, 23), natural(7, 64), natural(8, 8)):
        with pytest.raises(ImageError, match=r"too small.*24 pixels a side"):
            grid_excess(small)
    assert 0.5 < grid_excess(natural(24, 24)) < 2
    with pytest.raises(ImageError, match="dtype"):
        grid_excess(natural().astype(np.float32))  # type: ignore[arg-type]
