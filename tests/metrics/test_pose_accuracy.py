"""Pose accuracy: exact, shifted, missing and wrong keypoints."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.metrics import pose_accuracy


def square() -> NDArray[np.float32]:
    """17 joints on the diagonal of a box whose diagonal is 100 pixels."""
    line = np.linspace(0, 100 / np.sqrt(2), 17)
    return np.stack([line, line, np.ones(17)], 1).astype(np.float32)


def test_exact_joints_are_all_right() -> None:
    result = pose_accuracy(square(), square())
    assert (result.pck, result.error, result.joints) == (1.0, 0.0, 17)


@pytest.mark.parametrize(("pixels", "pck"), [(9.0, 1.0), (11.0, 0.0)])
def test_a_tenth_of_the_diagonal_is_the_limit(pixels: float, pck: float) -> None:
    found = square()
    found[:, 0] += pixels
    result = pose_accuracy(found, square())
    assert result.pck == pck
    assert result.error == pytest.approx(pixels / 100, rel=1e-5)


def test_only_given_joints_count() -> None:
    true, found = square(), square()
    found[3, :2] = 1000
    assert pose_accuracy(found, true).pck == pytest.approx(16 / 17)
    true[3, 2] = 0
    result = pose_accuracy(found, true)
    assert (result.pck, result.joints) == (1.0, 16)
    assert pose_accuracy(found, square(), body_only=True).joints == 12


def test_wholebody_keypoints_are_cut_to_the_body() -> None:
    whole = np.zeros((133, 3), np.float32)
    whole[:17] = square()
    assert pose_accuracy(square(), whole).pck == 1.0


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((18, 3)), "shape"),
        (np.zeros((17, 2)), "shape"),
        (np.full((17, 3), np.nan), "not finite"),
        (np.zeros((17, 3)), "too few"),
    ],
)
def test_wrong_keypoints_are_errors(bad: NDArray[np.float64], words: str) -> None:
    with pytest.raises(PoseError, match=words):
        pose_accuracy(square(), bad)
