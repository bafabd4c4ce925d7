"""What the teacher is trained on: the direction of the flow, the batches, the times, the crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from micro_line import Line, micro_recipe
from torch import Tensor, nn

from flowpose.artifact import open_artifact
from flowpose.data.figures_set import figures
from flowpose.errors import ArtifactError
from flowpose.job import Job
from flowpose.model.limb_field import LimbField
from flowpose.model.weights import load_generator
from flowpose.spec.recipe import FiguresData, TrainSpec
from flowpose.train.autoencoder import crops, load_autoencoder
from flowpose.train.teacher import (
    Batch,
    Latents,
    draw_batch,
    draw_times,
    encode_all,
    flow_losses,
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

    def __init__(self, field: LimbField, batch: Batch) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.field, self.batch = field, batch

    def forward(
        self, x_t: Tensor, t: Tensor, source: Tensor, keypoints: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor]:
        v = (self.batch.target - x_t) / (1 - t.reshape(-1, 1, 1, 1))
        return v, self.field(self.batch.source_keypoints)


def test_the_loss_wants_the_velocity_from_noise_to_data(latents: Latents) -> None:
    batch, field = draw_batch(latents, spec(), np.random.default_rng(0), 6), LimbField(48, 32, 8)
    losses = flow_losses(Oracle(field, batch), field, batch, spec(), noise())
    assert float(losses["flow"]) < 1e-4 and float(losses["pose"]) == 0 and float(losses["loss"]) < 1e-4


def test_a_batch_is_made_of_sources_and_their_targets(latents: Latents) -> None:
    batch = draw_batch(latents, spec(targets=2, poses=UNSPOILT), np.random.default_rng(0), 12)
    assert batch.source.shape == (6, 2, 6, 4) and batch.target.shape == (12, 2, 6, 4)
    assert batch.keypoints.shape == (12, 133, 3) and batch.source_keypoints.shape == (6, 133, 3)
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


def test_target_poses_are_spoilt_and_the_sources_own_are_not(latents: Latents) -> None:
    changes = {**UNSPOILT, "half_body": 1.0}
    batch = draw_batch(latents, spec(poses=changes, flip=False), np.random.default_rng(0), 12)
    assert not batch.keypoints[:, 13:23].any() and batch.keypoints[:, :13].any()
    assert batch.source_keypoints[:, 13:17].any()


def test_a_weight_of_zero_leaves_the_auxiliary_task_out(latents: Latents) -> None:
    batch, field = draw_batch(latents, spec(), np.random.default_rng(0), 6), LimbField(48, 32, 8)
    oracle = Oracle(field, batch)
    oracle.register_forward_hook(lambda _, __, found: (found[0], found[1] + 1.0))
    wrong = flow_losses(oracle, field, batch, spec(source_pose=0.5), noise())
    assert float(wrong["pose"]) == pytest.approx(1.0, rel=1e-4)
    assert float(wrong["loss"] - wrong["flow"]) == pytest.approx(0.5, rel=1e-4)
    without = flow_losses(oracle, field, batch, spec(source_pose=0.0), noise())
    assert float(without["loss"]) == float(without["flow"])


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


def test_the_trained_model_holds_the_autoencoder_it_was_given(line: Line) -> None:
    own = load_autoencoder(open_artifact(line.path("autoencoder"))).state_dict()
    teacher = load_generator(open_artifact(line.path("train")))
    assert all(torch.equal(value, own[name]) for name, value in teacher.autoencoder.state_dict().items())
    assert len(teacher.times) == 9 and teacher.solver == "heun" and not teacher.training


def test_without_an_autoencoder_there_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="needs an autoencoder"):
        train_teacher(Job(recipe=micro_recipe(tmp_path), stage="train", key="0" * 64, root=tmp_path))
