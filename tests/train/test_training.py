"""What the teacher is trained on: the direction of the flow, the batches, the times, the crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from micro_line import Line, micro_recipe
from torch import Tensor, nn

from flowpose import data
from flowpose.artifact import open_artifact
from flowpose.data.figures_set import figures
from flowpose.errors import ArtifactError
from flowpose.job import Job
from flowpose.model.joints import JointEstimator
from flowpose.model.weights import load_generator
from flowpose.spec.recipe import FiguresData, TrainSpec
from flowpose.train.autoencoder import crops, load_autoencoder
from flowpose.train.teacher import (
    Batch,
    Latents,
    _source_joints,
    draw_batch,
    draw_pictures,
    draw_times,
    encode_all,
    flow_losses,
    train_joints,
    train_teacher,
)

UNSPOILT = {"parts": 0, "limbs": 0, "half_body": 0, "jitter": 0}


def spec(**changes: object) -> TrainSpec:
    values = {"optim": {"iterations": 4, "batch": 6}, "sigma_min": 0.0, **changes}
    return TrainSpec.parse(values, "recipe.train")


@pytest.fixture(scope="module")
def latents() -> Latents:
    """Latents that say which picture they are of: plain n, mirrored -n."""
    made = figures(FiguresData(identities=4, pictures=3), "train", 48, 32)
    numbers = torch.arange(1.0, len(made) + 1).reshape(-1, 1, 1, 1).expand(-1, 2, 6, 4)
    return Latents(made, numbers.half(), -numbers.half())


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Oracle(nn.Module):
    """Knows the data and gives the velocity of the straight path to it."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.batch = batch

    def forward(self, x_t: Tensor, t: Tensor, source: Tensor, keypoints: Tensor, keep: Tensor) -> Tensor:
        return (self.batch.target - x_t) / (1 - t.reshape(-1, 1, 1, 1))


def test_the_loss_wants_the_velocity_from_noise_to_data(latents: Latents) -> None:
    batch = draw_batch(latents, spec(), np.random.default_rng(0), 6)
    oracle = Oracle(batch)
    losses = flow_losses(oracle, batch, spec(), noise())
    assert set(losses) == {"loss"} and float(losses["loss"]) < 1e-4
    oracle.register_forward_hook(lambda _, __, found: found + 0.5)
    assert float(flow_losses(oracle, batch, spec(), noise())["loss"]) == pytest.approx(0.25, rel=1e-2)


def test_a_batch_is_made_of_sources_and_their_targets(latents: Latents) -> None:
    batch = draw_batch(latents, spec(targets=2, poses=UNSPOILT), np.random.default_rng(0), 12)
    assert batch.source.shape == (6, 2, 6, 4) and batch.target.shape == (12, 2, 6, 4)
    assert batch.keypoints.shape == (12, 133, 3)
    source = batch.source[:, 0, 0, 0].repeat_interleave(2)
    target = batch.target[:, 0, 0, 0]
    assert (source.sign() == target.sign()).all(), "a source and its targets are mirrored together"
    assert (target < 0).any() and (target > 0).any()
    people = latents.pictures.identities
    numbers, aims = source.abs().int().numpy() - 1, target.abs().int().numpy() - 1
    assert (people[numbers] == people[aims]).all() and (numbers != aims).all()
    plain = target.numpy() > 0
    np.testing.assert_array_equal(batch.keypoints.numpy()[plain], latents.pictures.keypoints[aims[plain]])


def test_without_flip_nothing_is_mirrored(latents: Latents) -> None:
    batch = draw_batch(latents, spec(flip=False), np.random.default_rng(0), 12)
    assert (batch.source > 0).all() and (batch.target > 0).all()


def test_times_lie_in_the_flow_and_a_share_of_them_at_its_start() -> None:
    t = draw_times(4000, 0.3, noise())
    assert float(t.min()) == 0 and float(t.max()) < 1
    assert float((t == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(t[t > 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(t, draw_times(4000, 0.3, noise()))


def test_crops_are_parts_of_pictures(latents: Latents) -> None:
    made = latents.pictures
    found = crops(made, np.random.default_rng(0), 8, 16)
    assert found.shape == (8, 16, 16, 3) and found.dtype == np.uint8
    assert crops(made, np.random.default_rng(0), 3, 0).shape == (3, 48, 32, 3)
    whole = crops(made, np.random.default_rng(0), 8, 0)
    every = {picture.tobytes() for images in (made.images, made.images[:, :, ::-1]) for picture in images}
    assert all(picture.tobytes() in every for picture in whole)


def test_target_poses_are_spoilt(latents: Latents) -> None:
    changes = {**UNSPOILT, "half_body": 1.0}
    batch = draw_batch(latents, spec(poses=changes, flip=False), np.random.default_rng(0), 12)
    assert not batch.keypoints[:, 13:23].any() and batch.keypoints[:, :13].any()


def test_joints_are_learnt_from_every_picture_and_its_own_pose(latents: Latents) -> None:
    found, keypoints = draw_pictures(latents, np.random.default_rng(0), 60, flip=True)
    codes = found[:, 0, 0, 0].int().numpy()
    numbers, mirrored = np.abs(codes) - 1, codes < 0
    assert set(numbers) == set(range(len(latents.pictures))) and mirrored.any() and not mirrored.all()
    np.testing.assert_array_equal(keypoints.numpy(), latents.poses(numbers, mirrored))
    assert keypoints[:, 13:17].any(), "nothing is spoilt"
    plain, _ = draw_pictures(latents, np.random.default_rng(0), 60, flip=False)
    assert (plain > 0).all()


def test_joints_are_learnt_once_and_then_left_alone(
    latents: Latents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = micro_recipe(tmp_path, "train.joints.iterations=20", "train.joints.lr=1e-2")
    job = Job(recipe=recipe, stage="train", key="0" * 64, root=tmp_path)
    joints, again = (JointEstimator(2, 1, (6, 4), 8, width=40, blocks=1) for _ in range(2))
    drawn = draw_pictures(latents, np.random.default_rng(0), 24, flip=True)
    before = joints.loss(*drawn).item()
    train_joints(job, joints.requires_grad_(False), latents)
    assert joints.loss(*drawn).item() < before - 0.3
    assert not joints.training and not any(p.requires_grad for p in joints.parameters())
    monkeypatch.setattr("flowpose.train.teacher.draw_pictures", None)
    train_joints(job, again, latents)
    found = again.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in joints.state_dict().items())


def test_a_teacher_says_how_well_its_joints_are_found(line: Line) -> None:
    (found,) = (
        m for m in open_artifact(line.path("train")).manifest.measurements if m.metric == "source_joints_pck"
    )
    assert 0 <= found.value <= 1 and found.set == "figures/val" and found.against == "truth"


def test_pictures_without_joints_are_left_out_of_how_well_joints_are_found(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(recipe=line.recipe(), stage="train", key="0" * 64, root=line.root)
    generator = load_generator(open_artifact(line.path("train")))
    val = figures(line.recipe().data, "val", 48, 32)
    keypoints = val.keypoints.copy()
    keypoints[1:, 1:, 2] = 0
    monkeypatch.setattr(data, "read", lambda *_: replace(val, keypoints=keypoints))
    (found,) = _source_joints(job, generator)
    assert found.n == 1
    keypoints[:, :, 2] = 0
    assert _source_joints(job, generator) == []


def test_latents_are_made_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = open_artifact(line.path("autoencoder"))
    job = Job(recipe=line.recipe(), stage="train", key="0" * 64, root=line.root, parent=parent)
    autoencoder = load_autoencoder(parent)
    made = figures(line.recipe().data, "train", 48, 32)
    monkeypatch.setattr("flowpose.train.teacher._encoded", None)
    found = encode_all(job, autoencoder, made)
    assert found.plain.shape == found.mirrored.shape == (18, 4, 6, 4)
    together = found.plain.float()
    assert abs(float(together.mean())) < 0.1 and float(together.std()) == pytest.approx(1, abs=0.1)


def test_latents_of_other_pictures_or_of_another_precision_are_not_taken(line: Line, tmp_path: Path) -> None:
    parent = open_artifact(line.path("autoencoder"))
    plain = Job(recipe=line.recipe(), stage="train", key="0" * 64, root=tmp_path, parent=parent)
    short = replace(plain, recipe=line.recipe("train.optim.precision=bf16"))
    autoencoder, made = load_autoencoder(parent), figures(line.recipe().data, "train", 48, 32)
    first = encode_all(plain, autoencoder, made)
    swapped = replace(made, images=made.images[::-1].copy())  # as many, at the same places
    other = encode_all(plain, autoencoder, swapped)
    assert torch.equal(other.plain, first.plain.flip(0)) and not torch.equal(other.plain, first.plain)
    halves = encode_all(short, autoencoder, made).plain
    assert not torch.equal(halves, first.plain) and torch.allclose(halves, first.plain, atol=0.2)
    files = sorted(path.name.split("-")[-1] for path in (tmp_path / "tiny" / "work").iterdir())
    assert files == ["bf16.safetensors", "fp32.safetensors", "fp32.safetensors"]


def test_the_trained_model_holds_the_autoencoder_it_was_given(line: Line) -> None:
    own = load_autoencoder(open_artifact(line.path("autoencoder"))).state_dict()
    teacher = load_generator(open_artifact(line.path("train")))
    assert all(torch.equal(value, own[name]) for name, value in teacher.autoencoder.state_dict().items())
    assert len(teacher.times) == 9 and teacher.solver == "heun" and not teacher.training


def test_without_an_autoencoder_there_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="needs an autoencoder"):
        train_teacher(Job(recipe=micro_recipe(tmp_path), stage="train", key="0" * 64, root=tmp_path))
