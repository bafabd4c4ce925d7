"""The person's mask: all of the joints, little of the backdrop, whatever the size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import PoseError
from flowpose.metrics import person_mask


def keypoints(*points: tuple[float, float]) -> NDArray[np.float32]:
    rows = np.zeros((17, 3), np.float32)
    rows[: len(points)] = [(x, y, 1.0) for x, y in points]
    return rows


def test_two_joints_make_a_stripe_as_wide_as_the_margin() -> None:
    mask = person_mask(keypoints((20.5, 30.5), (20.5, 80.5)), 120, 60)
    assert mask.shape == (120, 60)
    assert mask.dtype == np.bool_
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max()) == (16, 24)  # 8 % of 50 pixels on either side of column 20
    assert (rows.min(), rows.max()) == (26, 84)


def test_it_holds_the_figure_and_not_the_corners() -> None:
    """The backdrop is what the upper corners show; most of what differs from it is the person."""
    for number in range(4):
        picture, points = draw(
            figure_identity(9000 + number), figure_pose(np.random.default_rng(number)), 128, 88
        )
        mask = person_mask(points, 128, 88)
        given = points[(points[:, 2] > 0) & (points[:, :2] >= 0).all(1)]
        inside = given[(given[:, 0] < 88) & (given[:, 1] < 128), :2].astype(int)
        assert mask[inside[:, 1], inside[:, 0]].all()
        assert 0.1 < mask.mean() < 0.75
        assert not mask[0, 0]
        assert picture[mask].std() > picture[~mask].std()


def test_twice_the_size_is_the_same_share() -> None:
    points = keypoints((20, 10), (60, 20), (40, 110))
    double = points * np.array([2, 2, 1], np.float32)
    assert person_mask(double, 256, 176).mean() == pytest.approx(
        person_mask(points, 128, 88).mean(), abs=0.02
    )


def test_missing_joints_do_not_count_and_those_outside_reach_in() -> None:
    points = keypoints((20, 30), (20, 80))
    points[5] = (80, 100, 0)
    assert (person_mask(points, 120, 90) == person_mask(keypoints((20, 30), (20, 80)), 120, 90)).all()
    half = person_mask(keypoints((20, 80), (20, 400)), 120, 60)
    assert half[119, 20]
    assert not half[20].any()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((18, 3)), "wrong shape"),
        (np.full((17, 3), np.nan), "not finite"),
        (keypoints((5, 5)), "too few joints"),
        (keypoints((500, 500), (520, 540)), "outside the picture"),
    ],
)
def test_wrong_keypoints_are_errors(bad: NDArray[np.floating], words: str) -> None:
    with pytest.raises(PoseError, match=words):
        person_mask(bad, 120, 60)
