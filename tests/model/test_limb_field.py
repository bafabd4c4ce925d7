"""The limb field: what it shows, where, and that it does not depend on the resolution."""

from __future__ import annotations

import torch
from torch import Tensor

from flowpose.model.limb_field import (
    FEATURES,
    JOINTS,
    LIMBS,
    NECK,
    PELVIS,
    PLACES,
    WIDTH,
    LimbField,
)
from flowpose.train.augment import MIRROR

HEIGHT, WIDE, PITCH = 64, 48, 8


def person() -> Tensor:
    """f32[1, 133, 3]: every joint in view, none in another's place."""
    generator = torch.Generator().manual_seed(4)
    places = torch.rand(1, JOINTS, 2, generator=generator) * torch.tensor([WIDE, HEIGHT])
    return torch.cat([places, torch.ones(1, JOINTS, 1)], dim=-1)


def limbs(keypoints: Tensor, scale: int = 1) -> Tensor:
    """f32[tokens * PLACES, limbs, features]."""
    field = LimbField(HEIGHT * scale, WIDE * scale, PITCH * scale)(keypoints)
    assert field.shape == (1, (HEIGHT // PITCH) * (WIDE // PITCH) * PLACES, WIDTH)
    return field.reshape(field.shape[1], len(LIMBS), FEATURES)


def touching(joint: int) -> list[int]:
    return [number for number, limb in enumerate(LIMBS) if joint in limb]


def test_limbs_are_the_canonical_ones() -> None:
    assert len(LIMBS) == 32
    assert len({frozenset(limb) for limb in LIMBS}) == len(LIMBS)
    used = {joint for limb in LIMBS for joint in limb}
    assert set(range(17)) <= used <= {*range(JOINTS), NECK, PELVIS}
    assert {91 + 4, 91 + 20, 112 + 4, 112 + 20} <= used, "finger tips"


def test_left_limbs_have_right_twins() -> None:
    mirror = {**dict(enumerate(MIRROR.tolist())), NECK: NECK, PELVIS: PELVIS}
    assert {frozenset(limb) for limb in LIMBS} == {frozenset((mirror[a], mirror[b])) for a, b in LIMBS}


def test_a_missing_joint_gives_zeros_in_its_limbs_only() -> None:
    keypoints = person()
    keypoints[0, 9] = 0
    found, whole = limbs(keypoints), limbs(person())
    gone = touching(9)
    assert len(gone) == 6, "the forearm and five fingers"
    others = [number for number in range(len(LIMBS)) if number not in gone]
    assert (found[:, gone] == 0).all()
    assert torch.equal(found[:, others], whole[:, others])
    assert (whole != 0).any(dim=0).any(dim=-1).all()


def test_neck_and_pelvis_are_made_of_both_sides() -> None:
    keypoints = person()
    keypoints[0, 5] = 0
    gone = sorted({*touching(5), *touching(NECK)})
    found = limbs(keypoints)
    assert (found[:, gone] == 0).all()
    assert (found[:, touching(15)] != 0).any()


def test_nobody_is_an_empty_field() -> None:
    assert (limbs(torch.zeros(1, JOINTS, 3)) == 0).all()


def test_moving_a_joint_moves_its_limbs_only() -> None:
    moved = person()
    moved[0, 10, :2] += 5.0
    before, after = limbs(person()), limbs(moved)
    changed = [number for number in range(len(LIMBS)) if not torch.equal(before[:, number], after[:, number])]
    assert changed == touching(10)


def test_the_field_points_at_the_limb() -> None:
    """A vertical forearm at x = 20: nearest tokens glow, and delta points from the limb to the token."""
    keypoints = torch.zeros(1, JOINTS, 3)
    keypoints[0, 7], keypoints[0, 9] = torch.tensor([20.0, 12.0, 1.0]), torch.tensor([20.0, 52.0, 1.0])
    tokens = limbs(keypoints)[:, LIMBS.index((7, 9))].unflatten(0, (HEIGHT // PITCH, WIDE // PITCH, 2, 2))
    grid = tokens.transpose(1, 2).flatten(0, 1).flatten(1, 2)  # quarters of tokens, 4 pixels each
    row = grid[6]
    assert int(row[:, 0].argmax()) in (4, 5), "the places with x = 18 and 22"
    assert (row[:5, 2] < 0).all() and (row[5:9, 2] > 0).all()
    along = grid[3:13, 4, 4]
    assert (along.diff() > 0).all(), "the place along the limb grows from elbow to wrist"


def test_the_field_does_not_depend_on_the_resolution() -> None:
    larger = person() * torch.tensor([2.0, 2.0, 1.0])
    torch.testing.assert_close(limbs(person()), limbs(larger, scale=2), atol=1e-4, rtol=1e-3)


def test_the_field_can_be_differentiated_at_a_joint() -> None:
    keypoints = torch.zeros(1, JOINTS, 3)
    keypoints[0, 7], keypoints[0, 9] = torch.tensor([20.0, 28.0, 1.0]), torch.tensor([20.0, 28.0, 1.0])
    keypoints.requires_grad_(True)
    limbs(keypoints).sum().backward()
    assert keypoints.grad is not None and torch.isfinite(keypoints.grad).all()
