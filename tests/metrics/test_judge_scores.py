"""The packaged judge and its scores: blur, a wrong person and a wrong pose lose where they must."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.errors import DataError, ImageError, IntegrityError
from flowpose.metrics import (
    Judge,
    Scores,
    grid_excess,
    identity_similarity,
    own_lpips,
    pose_accuracy,
    score,
    summary,
)
from flowpose.metrics.judge import PATH

Bytes = NDArray[np.uint8]
Sample = tuple[Bytes, NDArray[np.float32]]
COUNT = 12


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def sample(identity: int, pose: int, height: int = 128, width: int = 88) -> Sample:
    return draw(figure_identity(9000 + identity), figure_pose(np.random.default_rng(pose)), height, width)


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def test_the_judge_finds_joints_of_figures_it_never_saw(judge: Judge) -> None:
    results = [pose_accuracy(judge.view(p).keypoints, k) for p, k in (sample(i, i) for i in range(COUNT))]
    assert mean([r.pck for r in results]) > 0.85


@pytest.mark.parametrize(("height", "width"), [(64, 44), (256, 176)])
def test_keypoints_are_in_the_pictures_own_pixels(judge: Judge, height: int, width: int) -> None:
    for number in range(3):
        own = judge.view(sample(number, number, height, width)[0]).keypoints
        at_128 = judge.view(sample(number, number)[0]).keypoints
        np.testing.assert_allclose(own[:, :2] * (128 / height), at_128[:, :2], atol=12)
        assert own.shape == (17, 3)


def test_a_view_is_the_same_twice_and_normalised(judge: Judge) -> None:
    picture, _ = sample(0, 0)
    first, second = judge.view(picture), judge.view(picture)
    assert (first.keypoints == second.keypoints).all()
    assert np.linalg.norm(first.identity) == pytest.approx(1, abs=1e-4)
    assert [f.shape[1:] for f in first.features] == [(64, 44), (32, 22), (16, 11), (8, 6)]


def test_a_picture_is_nearest_to_itself(judge: Judge) -> None:
    picture, keypoints = sample(0, 0)
    own = score(picture, picture, keypoints, judge)
    assert own.own_lpips == 0
    assert own.identity == pytest.approx(1, abs=1e-4)
    assert own.psnr == 100


def test_own_lpips_grows_with_damage_and_is_symmetric(judge: Judge) -> None:
    picture, _ = sample(1, 1)
    views = [judge.view(np.asarray(cv2.GaussianBlur(picture, (0, 0), s), np.uint8)) for s in (0.6, 1.5, 4.0)]
    whole = judge.view(picture)
    distances = [own_lpips(view, whole) for view in views]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert own_lpips(whole, views[1]) == pytest.approx(distances[1])


def test_a_blurred_truth_loses_sharpness_but_not_pose(judge: Judge) -> None:
    for number in range(4):
        picture, keypoints = sample(number, number)
        soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2), np.uint8)
        whole, lost = score(picture, picture, keypoints, judge), score(soft, picture, keypoints, judge)
        assert lost.spectrum_top < 0.5 * whole.spectrum_top
        assert lost.laplacian < 0.5 * whole.laplacian
        assert lost.own_lpips > 0.001
        assert lost.pck >= whole.pck - 0.2


def test_a_wrong_person_loses_identity_but_not_pose(judge: Judge) -> None:
    right, wrong = [], []
    for number in range(COUNT):
        truth, keypoints = sample(number, number)
        right.append(score(sample(number, number + 50)[0], truth, keypoints, judge))
        wrong.append(score(sample(number + 100, number)[0], truth, keypoints, judge))
    assert summary(wrong).identity < summary(right).identity - 0.2
    assert summary(wrong).pck > 0.8


def test_a_wrong_pose_loses_pose_but_not_identity(judge: Judge) -> None:
    right, wrong = [], []
    for number in range(COUNT):
        truth, keypoints = sample(number, number)
        right.append(score(truth, truth, keypoints, judge))
        wrong.append(score(sample(number, number + 50)[0], truth, keypoints, judge))
    assert summary(wrong).pck < summary(right).pck - 0.2
    assert summary(wrong).pose_error > 2 * summary(right).pose_error
    assert summary(wrong).identity > 0.5


def test_same_people_are_more_alike_than_others(judge: Judge) -> None:
    views = [[judge.view(sample(i, 10 * i + j)[0]) for j in range(2)] for i in range(COUNT)]
    same = mean([identity_similarity(a, b) for a, b in views])
    other = mean([identity_similarity(views[i][0], views[i - 1][1]) for i in range(COUNT)])
    assert same > other + 0.3


def test_a_given_truth_view_changes_nothing(judge: Judge) -> None:
    truth, keypoints = sample(0, 0)
    picture, _ = sample(0, 1)
    assert score(picture, truth, keypoints, judge) == score(
        picture, truth, keypoints, judge, truth_view=judge.view(truth)
    )


def test_the_grid_is_the_pictures_own(judge: Judge) -> None:
    """Whatever the truth has of it."""
    truth, keypoints = sample(0, 0)
    dotted = truth.copy()
    dotted[3::8, 5::8] ^= 64
    assert score(dotted, truth, keypoints, judge).grid == grid_excess(dotted) > 3 * grid_excess(truth)
    assert score(truth, dotted, keypoints, judge).grid == grid_excess(truth)


def test_summary_is_the_mean_of_every_score() -> None:
    one = Scores(**{field.name: 1.0 for field in fields(Scores)})
    result = summary([one, replace(one, psnr=3.0)])
    assert result == replace(one, psnr=2.0)
    with pytest.raises(DataError, match="no scores"):
        summary([])


def test_wrong_pictures_are_errors(judge: Judge) -> None:
    truth, keypoints = sample(0, 0)
    with pytest.raises(ImageError, match="dtype"):
        judge.view(truth.astype(np.float32))
    with pytest.raises(ImageError, match="sizes differ"):
        score(truth[:64], truth, keypoints, judge)


def test_another_or_missing_judge_is_refused(tmp_path: Path) -> None:
    changed = tmp_path / "judge.onnx"
    data = bytearray(PATH.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(IntegrityError, match="not this version's judge"):
        Judge(changed)
    with pytest.raises(IntegrityError, match="no such file"):
        Judge(tmp_path / "none.onnx")
