"""The judge's training side: shapes, losses, augmentation that keeps keypoints true, and a short run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from flowpose.judge import JudgeNet, Settings, export, joint_loss, measure, parity, train  # noqa: E402
from flowpose.judge_data import _moved, augmented, figure_pictures, mirrored, training_batch  # noqa: E402
from flowpose.metrics.judge import HEIGHT, WIDTH  # noqa: E402
from flowpose.model.losses import identity_loss  # noqa: E402


@pytest.fixture(scope="module")
def net() -> JudgeNet:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return JudgeNet().eval()


def test_the_net_is_small_and_gives_what_it_promises(net: JudgeNet) -> None:
    assert sum(p.numel() for p in net.parameters()) < 1_000_000
    with torch.no_grad():
        keypoints, identity, *features = net(torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8))
    assert keypoints.shape == (2, 17, 3)
    assert ((keypoints[..., 0] >= 0) & (keypoints[..., 0] <= WIDTH)).all()
    assert ((keypoints[..., 2] >= 0) & (keypoints[..., 2] <= 1)).all()
    assert identity.shape == (2, 64)
    assert [tuple(f.shape[2:]) for f in features] == [(64, 44), (32, 22), (16, 11), (8, 6)]


def test_a_peak_in_the_heat_map_is_found_where_it_is(net: JudgeNet) -> None:
    heat = torch.full((1, 17, 32 * 22), -50.0)
    heat[:, :, 5 * 22 + 7] = 50.0
    places = net.places(heat)
    assert places[0, 0].tolist() == pytest.approx([(7 + 0.5) * 4, (5 + 0.5) * 4])
    right = torch.cat([places, torch.ones(1, 17, 1)], 2)
    wrong = right + torch.tensor([20.0, 0.0, 0.0])
    assert joint_loss(net, heat / 10, right) < joint_loss(net, heat / 10, wrong)
    missing = right * torch.tensor([1.0, 1.0, 0.0])
    assert joint_loss(net, heat, missing) == 0


def test_identity_loss_wants_partners_alike() -> None:
    good = torch.eye(4).repeat_interleave(2, 0)
    bad = torch.eye(4).repeat(2, 1)
    assert identity_loss(good) < 0.01 < identity_loss(bad)


def marked(x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """A black picture with a white spot, and 17 keypoints that all lie on it."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    return picture, np.tile(np.array([x + 0.5, y + 0.5, 1.0], np.float32), (17, 1))


def spot(picture: np.ndarray) -> np.ndarray:
    weights = picture.astype(float).sum(2)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    middle = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    return np.asarray(middle)


def test_keypoints_follow_the_picture_when_moved_or_mirrored() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        picture, keypoints = _moved(*marked(40, 60), rng)
        np.testing.assert_allclose(spot(picture), keypoints[0, :2], atol=0.15)
    picture, keypoints = mirrored(*marked(20, 60))
    np.testing.assert_allclose(spot(picture), keypoints[0, :2], atol=1e-6)


def test_mirroring_twice_is_nothing_and_swaps_left_and_right() -> None:
    data = figure_pictures([1], 1)
    picture, keypoints = data.images[0], data.keypoints[0, :17]
    once = mirrored(picture, keypoints)
    twice = mirrored(*once)
    assert (twice[0] == picture).all()
    np.testing.assert_allclose(twice[1], keypoints, atol=1e-4)
    assert once[1][5, 0] == pytest.approx(WIDTH - keypoints[6, 0])


def test_augmented_pictures_keep_shape_and_range() -> None:
    data = figure_pictures([1, 2], 2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        picture, keypoints = augmented(data.images[0], data.keypoints[0, :17], rng)
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert picture.dtype == np.uint8
        given = keypoints[:, 2] > 0
        assert (keypoints[given, 0] < WIDTH).all()


def test_batches_hold_pairs_and_repeat_with_the_seed() -> None:
    data = figure_pictures(range(6), 3)
    first, second = (training_batch(data, data, 4, 0.5, np.random.default_rng(1)) for _ in range(2))
    assert first[0].shape == (8, HEIGHT, WIDTH, 3)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_a_short_run_trains_measures_and_exports(tmp_path: Path) -> None:
    data = figure_pictures(range(6), 2)
    net = train(data, data, Settings(steps=2, identities=4))
    assert not net.training
    result = measure(net, data)
    assert 0 <= result["pck"] <= 1
    assert result["pictures"] == 12
    export(net, tmp_path / "judge.onnx")
    assert (tmp_path / "judge.onnx").stat().st_size < 3_000_000
    assert parity(net, tmp_path / "judge.onnx", data.images[:2]) < 0.1, (
        "pixels; its weights are rounded to float16"
    )
