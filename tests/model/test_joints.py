"""The estimator of the source's joints: which it finds, how near, and that it says what is not in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from flowpose.model.joints import FOUND, JointEstimator
from flowpose.model.limb_field import JOINTS, LIMBS, NECK, PLACES, SEEN

GRID, PITCH, LATENTS = (6, 4), 8, 4
HEIGHT, WIDE = GRID[0] * PITCH, GRID[1] * PITCH
GONE = (9, 16)  # of the second person: left wrist, right ankle
OTHERS = [joint for joint in range(JOINTS) if joint not in FOUND]


def estimator(patch: int = 1) -> JointEstimator:
    torch.manual_seed(0)
    grid = (GRID[0] // patch, GRID[1] // patch)
    return JointEstimator(LATENTS, patch, grid, PITCH * patch, width=40, blocks=2)


def people(count: int = 4) -> tuple[Tensor, Tensor]:
    """Latents and poses that have nothing in common but their number; every joint is inside the picture."""
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(count, LATENTS, *GRID, generator=draw)
    places = 2 + torch.rand(count, JOINTS, 2, generator=draw) * torch.tensor([WIDE - 4, HEIGHT - 4])
    keypoints = torch.cat([places, torch.ones(count, JOINTS, 1)], dim=-1)
    keypoints[1, list(GONE)] = 0
    return latents, keypoints


def test_the_joints_found_are_those_of_limbs() -> None:
    assert set(FOUND) == {joint for limb in LIMBS for joint in limb if joint < NECK}
    assert set(range(17)) <= set(FOUND) and list(FOUND) == sorted(set(FOUND))


def test_shapes_for_both_patches() -> None:
    latents, keypoints = people()
    for patch in (1, 2):
        made = estimator(patch)
        places = GRID[0] * GRID[1] // patch**2 * PLACES
        assert made.logits(latents).shape == (4, len(FOUND), places + 1)
        assert made(latents).shape == (4, JOINTS, 3)
        assert made.loss(latents, keypoints).shape == ()


@torch.no_grad()
def test_a_token_speaks_of_its_own_places() -> None:
    """Without blocks, a latent in row 2, column 3 speaks of the places of that token, a bias of one place of each."""
    made = JointEstimator(LATENTS, 1, GRID, PITCH, width=40, blocks=0)
    for layer in (made.embed, made.places):
        torch.nn.init.zeros_(layer.bias)
    latents, joint, place = torch.zeros(1, LATENTS, *GRID), 3, 2
    latents[..., 2, 3] = 1.0
    token = 2 * GRID[1] + 3
    spoken = made.logits(latents)[0, :, :-1].unflatten(1, (-1, PLACES))
    assert (
        spoken[:, token].abs().min() > 0 and not spoken[:, :token].any() and not spoken[:, token + 1 :].any()
    )
    made.places.bias[joint * PLACES + place] = 1.0
    biased = made.logits(torch.zeros_like(latents))[0, :, :-1].unflatten(1, (-1, PLACES))
    assert (biased[joint, :, place] == 1).all() and float(biased.sum()) == GRID[0] * GRID[1]


def test_only_the_joints_of_limbs_have_a_score() -> None:
    found = estimator()(people()[0])
    assert not found[:, OTHERS].any()
    xy, score = found[:, list(FOUND), :2], found[:, list(FOUND), 2]
    assert (score > 0).all() and (score < 1).all()
    assert (xy > 0).all() and (xy < torch.tensor([WIDE, HEIGHT])).all()


def test_an_estimate_needs_no_gradient_and_a_loss_has_one() -> None:
    made, (latents, keypoints) = estimator(), people()
    latents.requires_grad_()
    assert not made(latents).requires_grad
    made.loss(latents, keypoints).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


def certain(keypoints: Tensor, made: JointEstimator) -> Tensor:
    """Logits of someone who knows: peaks at the places nearest to the joints, or at `absent`."""
    joints = keypoints[:, list(FOUND)]
    near = torch.cdist(joints[..., :2], made.centres.expand(len(joints), -1, -1)).argmin(-1)
    near[joints[..., 2] <= SEEN] = len(made.centres)
    return 4.0 * torch.nn.functional.one_hot(near, len(made.centres) + 1).float()


@torch.no_grad()
def test_the_loss_is_least_at_the_truth() -> None:
    made, (latents, keypoints) = estimator(), people()
    told = certain(keypoints, made)
    made.logits = lambda _: told
    best = float(made.loss(latents, keypoints))
    moved = keypoints + torch.tensor([10.0, 0.0, 0.0])
    hidden = keypoints * torch.tensor([1.0, 1.0, 0.0])
    for name, other in (("of another", keypoints.roll(1, 0)), ("moved", moved), ("hidden", hidden)):
        assert best < float(made.loss(latents, other)) - 0.5, name


@torch.no_grad()
def test_an_estimate_lies_at_the_peak_and_absence_lowers_its_score() -> None:
    made, (latents, keypoints) = estimator(), people()
    told = 4 * certain(keypoints, made)
    made.logits = lambda _: told
    found = made(latents)[:, list(FOUND)]
    truth = keypoints[:, list(FOUND)]
    seen = truth[..., 2] > SEEN
    off = (found - truth)[..., :2].norm(dim=-1)
    assert off[seen].max() <= PITCH / 4 * 2**0.5 + 0.01, "within the place that holds the joint"
    assert (found[..., 2][seen] > 0.9).all() and (found[..., 2][~seen] < 0.1).all()


def test_few_people_are_learnt_by_heart() -> None:
    made, (latents, keypoints) = estimator(), people()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        made.loss(latents, keypoints).backward()
        optimizer.step()
    found, joints = made(latents), list(FOUND)
    seen = keypoints[:, joints, 2] > SEEN
    off = (found - keypoints)[:, joints, :2].norm(dim=-1)
    assert float(off[seen].max()) < 2 and (found[:, joints, 2][seen] > 0.5).all()
    assert int((~seen).sum()) == len(GONE) and (found[1, list(GONE), 2] < 0.5).all()
