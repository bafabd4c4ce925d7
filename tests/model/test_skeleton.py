"""The drawn skeleton and its latents: where limbs lie, which are left out, and who owns the autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from quantize.tiny_student import generator, recipe
from torch import Tensor, nn

from flowpose.export.files import slimmed, traced
from flowpose.export.modules import OneStep, Pose, rounded
from flowpose.model.generator import Generator, build_autoencoder, build_flow
from flowpose.model.limb_field import JOINTS, LIMBS
from flowpose.model.skeleton import SkeletonLatent, SkeletonPicture, hues
from flowpose.spec.recipe import Recipe, TrainSpec
from flowpose.train.augment import mirror_keypoints
from flowpose.train.teacher import Batch, flow_losses

HEIGHT, WIDE = 48, 32
LEFT_FOREARM, RIGHT_FOREARM = LIMBS.index((7, 9)), LIMBS.index((8, 10))
SKELETON = "model.pose=skeleton-latent"


def forearm(left: bool = True, score: float = 1.0) -> Tensor:
    """f32[1, 133, 3]: from (8.5, 10.5) down to (8.5, 30.5), and nothing else."""
    keypoints = torch.zeros(1, JOINTS, 3)
    elbow, wrist = (7, 9) if left else (8, 10)
    keypoints[0, elbow] = torch.tensor([8.5, 10.5, score])
    keypoints[0, wrist] = torch.tensor([8.5, 30.5, 1.0])
    return keypoints


def person(count: int = 1) -> Tensor:
    places = torch.rand(count, JOINTS, 2, generator=torch.Generator().manual_seed(4))
    return torch.cat([places * torch.tensor([WIDE, HEIGHT]), torch.ones(count, JOINTS, 1)], dim=-1)


def drawn(keypoints: Tensor) -> Tensor:
    return SkeletonPicture(HEIGHT, WIDE)(keypoints)


def test_a_limb_lies_between_its_joints_in_its_own_colour() -> None:
    picture, colour = drawn(forearm())[0], 2 * hues(len(LIMBS))[LEFT_FOREARM] - 1
    for row in (10, 20, 30):
        torch.testing.assert_close(picture[:, row, 8], colour, atol=1e-2, rtol=0)
    covered = (picture > -1).any(0)
    rows, columns = (torch.nonzero(covered.any(axis)).flatten() for axis in (1, 0))
    assert (int(rows.min()), int(rows.max())) == (9, 31) and columns.tolist() == [7, 8, 9]


def test_colours_are_all_different() -> None:
    colours = hues(len(LIMBS))
    assert colours.min() >= 0 and colours.max() <= 1
    assert torch.cdist(colours, colours).fill_diagonal_(1).min() > 0.05


@pytest.mark.parametrize("score", [0.0, 0.1])
def test_a_limb_with_a_missing_joint_is_not_drawn(score: float) -> None:
    assert (drawn(forearm(score=score)) == -1).all()


def test_nobody_is_an_empty_picture() -> None:
    assert (drawn(torch.zeros(2, JOINTS, 3)) == -1).all()


def test_the_picture_stays_in_its_range_and_is_made_one_by_one() -> None:
    whole = drawn(person(3))
    assert whole.shape == (3, 3, HEIGHT, WIDE)
    assert whole.min() == -1 and whole.max() <= 1 and whole.max() > 0.9
    torch.testing.assert_close(drawn(person(3)[1:2]), whole[1:2])


def test_where_limbs_cross_the_brighter_channel_wins() -> None:
    both = forearm()
    both[0, 8], both[0, 10] = torch.tensor([2.5, 20.5, 1.0]), torch.tensor([14.5, 20.5, 1.0])
    colours = hues(len(LIMBS))
    expected = 2 * torch.maximum(colours[LEFT_FOREARM], colours[RIGHT_FOREARM]) - 1
    torch.testing.assert_close(drawn(both)[0, :, 20, 8], expected, atol=1e-2, rtol=0)


def test_a_mirrored_pose_is_drawn_on_the_other_side() -> None:
    """In one colour it is the mirrored drawing."""
    draw = SkeletonPicture(HEIGHT, WIDE)
    draw.colours.fill_(1.0)
    turned = torch.from_numpy(mirror_keypoints(person().numpy(), WIDE))
    torch.testing.assert_close(draw(turned), draw(person()).flip(-1), atol=2e-3, rtol=0)


def test_colours_change_sides_with_the_limbs() -> None:
    turned = torch.from_numpy(mirror_keypoints(forearm().numpy(), WIDE))
    colours = 2 * hues(len(LIMBS)) - 1
    assert not torch.allclose(colours[LEFT_FOREARM], colours[RIGHT_FOREARM])
    torch.testing.assert_close(drawn(turned)[0, :, 20, WIDE - 9], colours[RIGHT_FOREARM], atol=1e-2, rtol=0)
    assert (drawn(turned)[..., : WIDE // 2] == -1).all()


def test_limbs_grow_with_the_picture() -> None:
    small, large = SkeletonPicture(96, 64), SkeletonPicture(384, 256)
    keypoints = forearm() * torch.tensor([2.0, 2.0, 1.0])
    larger = keypoints * torch.tensor([4.0, 4.0, 1.0])
    area = [(draw(pose) > -1).any(1).float().mean() for draw, pose in ((small, keypoints), (large, larger))]
    assert 0.5 < float(area[1] / area[0]) < 1.1


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
def test_tokens_are_the_latents_of_the_drawing(patch: int) -> None:
    autoencoder = generator(recipe()).autoencoder
    skeleton = SkeletonLatent(HEIGHT, WIDE, patch, autoencoder)
    tokens = skeleton(person(2))
    z = autoencoder.encode(drawn(person(2)))
    rows, columns = HEIGHT // 8 // patch, WIDE // 8 // patch
    assert tokens.shape == (2, rows * columns, 8 * patch * patch)
    folded = tokens.transpose(1, 2).reshape(2, -1, rows, columns)
    torch.testing.assert_close(F.pixel_shuffle(folded, patch) if patch > 1 else folded, z)


def test_the_autoencoder_is_no_part_of_it() -> None:
    whole = recipe(SKELETON)
    autoencoder = build_autoencoder(whole.autoencoder)
    flow = build_flow(whole.model, whole.image, autoencoder)
    assert isinstance(flow.pose_field, SkeletonLatent) and not flow.source.matched
    assert not list(flow.pose_field.parameters()) and not flow.pose_field.state_dict()
    assert not [name for name in flow.state_dict() if "autoencoder" in name]


def test_a_copied_generator_draws_with_its_own_autoencoder() -> None:
    """Export rounds the weights of a copy: its skeletons must go through the rounded encoder."""
    copied = copy.deepcopy(generator(recipe(SKELETON)))
    assert copied.flow.pose_field.autoencoder[0] is copied.autoencoder


def teacher_batch(whole: Recipe, train: TrainSpec) -> Batch:
    shape = (whole.autoencoder.latents, whole.image.height // 8, whole.image.width // 8)
    count = 2 * train.targets
    return Batch(torch.randn(2, *shape), torch.randn(count, *shape), person(count))


@pytest.mark.parametrize("patch", [1, 2])
def test_a_teacher_that_sees_drawings_trains(patch: int) -> None:
    whole = recipe(SKELETON, f"model.patch={patch}")
    torch.manual_seed(0)
    built = generator(whole).train()
    optimizer = torch.optim.AdamW(built.flow.parameters(), lr=3e-3)
    batch, noise = teacher_batch(whole, whole.train), torch.Generator()
    found = []
    for _ in range(4):
        losses = flow_losses(built.flow, batch, whole.train, noise.manual_seed(0))
        found.append(float(losses["loss"].detach()))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert np.isfinite(found).all() and found[-1] < found[0]
    pose = built.flow.pose[0].weight.grad
    assert pose is not None and pose.abs().max() > 0
    assert all(p.requires_grad and p.grad is None for p in built.autoencoder.parameters())


@torch.no_grad()
def test_a_dropped_condition_is_an_empty_drawing() -> None:
    whole = recipe(SKELETON)
    flow = generator(whole).flow
    source, x, t = torch.randn(1, 8, 6, 4), torch.randn(1, 8, 6, 4), torch.zeros(1)
    dropped = torch.tensor([False])
    first = flow(x, t, source, person(), dropped)
    nothing = flow(x, t, source, torch.zeros(1, JOINTS, 3), dropped)
    kept = flow(x, t, source, person())
    torch.testing.assert_close(first, nothing)
    assert not torch.allclose(kept, first)


@torch.no_grad()
@pytest.mark.parametrize("part", [Pose, OneStep])
def test_the_drawing_is_a_part_of_the_exported_graphs(part: Callable[[Generator], nn.Module]) -> None:
    built = rounded(generator(recipe(SKELETON, "autoencoder.widths=[8, 8, 8, 16]")))
    module = part(built).eval()
    context = built.context(torch.randn(1, 8, 6, 4))[0]
    model = slimmed(traced(module, {"context": context, "keypoints": person()[0]}, ["made"], 17))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for pose in (forearm()[0], forearm(left=False)[0], forearm(score=0.0)[0]):
        given = {"context": context.numpy(), "keypoints": pose.numpy()}
        asked = {each.name: given[each.name] for each in session.get_inputs()}  # Pose alone needs no context
        (found,) = session.run(["made"], asked)
        expected = module(context, pose).float().numpy()
        np.testing.assert_allclose(found.astype(np.float32), expected, atol=1e-3 if part is Pose else 1)
