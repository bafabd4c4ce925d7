"""The network of the feature loss: what it is shown, what it is asked, and that it is trained once a recipe."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize.tiny_student import recipe

from flowpose.data import Pictures
from flowpose.data.figures_set import figures
from flowpose.distill.student import Features
from flowpose.job import Job, stage_config, stage_keys
from flowpose.model.joints import FOUND
from flowpose.model.losses import feature, identity_loss
from flowpose.model.pictures import to_tensor
from flowpose.spec.recipe import FeaturesSpec, FiguresData
from flowpose.train import features
from flowpose.train.augment import mirror_keypoints
from flowpose.train.features import (
    HEAT_STRIDE,
    FeatureNetwork,
    FeatureTask,
    _joint_loss,
    draw_people,
    loss_features,
)

SPEC = FeaturesSpec.parse({"optim": {"iterations": 2, "batch": 4, "warmup": 1}}, "recipe.features")


@cache
def people() -> Pictures:
    return figures(FiguresData(identities=4, pictures=3), "train", 48, 32)


def job(root: Path, spec: FeaturesSpec = SPEC) -> Job:
    return Job(recipe=recipe().model_copy(update={"features": spec}), stage="finish", key="0" * 64, root=root)


def marked() -> Pictures:
    """Every picture is white in one pixel, where its nose is; a person's brightness is its number."""
    images, keypoints = np.zeros((6, 32, 32, 3), np.uint8), np.zeros((6, 133, 3), np.float32)
    for i in range(6):
        x, y = 5 + 3 * i, 20 - 2 * i
        images[i], images[i, y, x] = 40 * (i // 2), 255
        keypoints[i, 0] = (x + 0.5, y + 0.5, 1)
    return Pictures("train", images, keypoints, np.arange(6) // 2, tuple("abcdef"))


@pytest.mark.parametrize("crop", [0, 16])
def test_joints_stay_on_their_pixels_and_pairs_are_of_one_person(crop: int) -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(20):
        shown, keypoints = draw_people(marked(), rng, 4, crop)
        side = crop or 32
        assert shown.shape == (4, side, side, 3) and keypoints.shape == (4, 133, 3)
        for a, b in ((0, 1), (2, 3)):
            levels = [float(np.median(shown[i])) for i in (a, b)]
            assert abs(levels[0] - levels[1]) <= 0.35 * max(levels), "light varies, people do not"
        for image, pose in zip(shown, keypoints, strict=True):
            x, y = pose[0, :2]
            if 0 <= x < side and 0 <= y < side:
                inside += 1
                assert image[int(y), int(x)].min() > 200 and (image.min(-1) > 200).sum() == 1
    assert inside > 10


def test_mirrored_people_have_their_sides_exchanged() -> None:
    one = marked()
    one.keypoints[:, 5] = (3, 4, 1)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(10):
        _, keypoints = draw_people(one, rng, 2, 0)
        for pose in keypoints:
            seen.add((tuple(pose[5]), tuple(pose[6])))
    turned = mirror_keypoints(one.keypoints[:1], 32)[0]
    assert seen == {((3.0, 4.0, 1.0), (0.0, 0.0, 0.0)), (tuple(turned[5]), tuple(turned[6]))}


def test_the_joint_loss_is_least_at_the_joint_and_counts_those_inside() -> None:
    sides = (6, 4)
    keypoints = torch.zeros(1, 133, 3)
    keypoints[0, FOUND[0]] = torch.tensor([2.5 * HEAT_STRIDE, 3.5 * HEAT_STRIDE, 1.0])

    def at(row: int, column: int) -> float:
        heat = torch.zeros(1, len(FOUND), *sides)
        heat[0, 0, row, column] = 8
        return float(_joint_loss(heat.flatten(2), keypoints, sides))

    assert at(3, 2) < min(at(3, 1), at(2, 2), at(0, 0))
    keypoints[0, FOUND[0], 0] = -1
    assert float(_joint_loss(torch.randn(1, len(FOUND), 24), keypoints, sides)) == 0, "outside of the window"


def test_the_identity_loss_asks_for_ones_own_partner() -> None:
    a, b = torch.eye(2, 8)
    assert float(identity_loss(torch.stack([a, a, b, b]))) < 0.01
    assert float(identity_loss(torch.stack([a, b, a, b]))) > 2


def test_a_few_steps_teach_both(tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner, rng = FeatureTask(FeatureNetwork()), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(learner.parameters(), 3e-3)
    shown, keypoints = draw_people(people(), rng, 8, 0)
    found = []
    for _ in range(40):
        joints, identity = learner(to_tensor(shown), torch.from_numpy(keypoints))
        optimizer.zero_grad()
        (joints + 0.3 * identity).backward()
        optimizer.step()
        found.append((joints.item(), identity.item()))
    assert found[-1][0] < 0.9 * found[0][0] and found[-1][1] < 0.7 * found[0][1], (found[0], found[-1])


def test_maps_halve_and_any_window_will_do() -> None:
    network = FeatureNetwork()
    sizes = [tuple(each.shape[-2:]) for each in network(torch.zeros(1, 3, 128, 88))]
    assert sizes == [(128, 88), (64, 44), (32, 22), (16, 11), (8, 6)]
    assert network(torch.zeros(1, 3, 24, 40))[-1].shape[-2:] == (2, 3)


def test_it_is_trained_once_and_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loss_features(job(tmp_path), SPEC, people())
    assert not any(p.requires_grad for p in first.parameters()) and not first.training
    calls: list[Any] = []
    monkeypatch.setattr(features, "_train", lambda *given: calls.append(given))
    again = loss_features(job(tmp_path), SPEC, people())
    assert not calls
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    other = SPEC.model_copy(update={"crop": 32})
    loss_features(job(tmp_path, other), other, people())
    assert len(calls) == 1, "another setting is another network"


def test_features_count_in_the_key_of_who_uses_them() -> None:
    plain = recipe("features=null")
    named = plain.model_copy(update={"features": SPEC})
    for weight, same in ((0.0, True), (0.5, False)):
        distill = plain.distill.model_copy(update={"feature": weight})
        keys = [
            stage_keys(each.model_copy(update={"distill": distill}))["distill"] for each in (plain, named)
        ]
        assert (keys[0] == keys[1]) is same
    assert "features" not in stage_config(plain, "distill")


def test_the_loss_grows_with_blur_and_with_another_person(tmp_path: Path) -> None:
    see: Features = loss_features(job(tmp_path), SPEC, people())
    truth = to_tensor(people().images[:3])
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    worse = torch.nn.functional.avg_pool2d(truth, 7, 1, 3)
    other = to_tensor(people().images[3:6])
    own, near, far, wrong = (float(feature(see(x), see(truth))) for x in (truth, blurred, worse, other))
    assert own == 0 < near < far < wrong
