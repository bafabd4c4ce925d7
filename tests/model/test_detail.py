"""The source's own pixels: how they travel in the context, where they are sampled, and how much of them is let in."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from quantize.tiny_student import generator, recipe
from torch import Tensor, nn

from flowpose.distill.student import Window
from flowpose.model.detail import (
    BLURRED,
    CLOSED,
    HALF,
    OPEN,
    SHIFT,
    TOLERANCE,
    Detail,
    on_grid,
    packed,
    unpacked,
)
from flowpose.model.generator import Generator, build_detail
from flowpose.model.limb_field import JOINTS, PLACES, SPLIT, token_order
from flowpose.model.transformer import Match

GRID, LATENTS = (6, 4), 4
HEIGHT, WIDE = 48, 32
EDGE = 2  # pixels outside the outermost places, where the map is repeated


def pictures(count: int = 2, height: int = HEIGHT, width: int = WIDE, seed: int = 0) -> Tensor:
    """Smooth ones, f32[count, 3, height, width], which lose nothing when they are sampled between pixels."""
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(2 * coarse - 1, size=(height, width), mode="bicubic", align_corners=False)


def latents(count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, LATENTS, *GRID, generator=torch.Generator().manual_seed(seed))


def fresh(patch: int = 1) -> Detail:
    torch.manual_seed(0)
    return Detail(LATENTS, (GRID[0] // patch, GRID[1] // patch), patch, (HEIGHT, WIDE)).eval()


def trained() -> Detail:
    """With weights in the layers that start at zero."""
    made = fresh()
    for layer in (made.offsets[-1], made.refine[-1], made.choice[-1]):
        nn.init.normal_(layer.weight, std=0.05)
    return made


def carry(detail: Detail, drawn: Tensor, where: Tensor, given: Tensor) -> Tensor:
    """What is carried to latents under a decoded picture that is always the same."""
    return detail.both(pictures(seed=9), detail.placed(drawn, where), given)[0]


def at_home(patch: int = 1, variance: float = 0.25) -> Tensor:
    """f32[2, places, 3]: every place of the target is the same place of the source."""
    seats = Match((GRID[0] // patch, GRID[1] // patch), 64).seats.clone()
    seats[:, 2] = variance
    return seats.expand(2, -1, -1)


@pytest.mark.parametrize(("pitch", "width", "layers"), [(8, 64, 2), (8, 96, 1), (16, 64, 6), (16, 80, 5)])
def test_pictures_travel_in_a_context_and_come_back(pitch: int, width: int, layers: int) -> None:
    given = pictures()
    grid = (HEIGHT // pitch, WIDE // pitch)
    found = packed(given, pitch, width)
    assert found.shape == (2, layers, 2, grid[0] * grid[1], width)
    assert torch.equal(unpacked(found, grid, pitch), given)
    rest = layers * 2 * width - 3 * pitch * pitch
    assert int((found == 0).sum()) == 2 * grid[0] * grid[1] * rest, "the rest is zero"


def test_places_go_back_to_where_they_are() -> None:
    grid = torch.arange(SPLIT * 6 * SPLIT * 4 * 3.0).reshape(1, SPLIT * 6, SPLIT * 4, 3)
    assert torch.equal(on_grid(token_order(grid), (6, 4)), grid.permute(0, 3, 1, 2))


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
def test_a_target_in_the_sources_place_is_the_source(patch: int) -> None:
    given = pictures()
    found = carry(fresh(patch), latents(), at_home(patch), given)
    assert found.shape == (2, 5, HEIGHT, WIDE)
    inner = (..., slice(EDGE * patch, -EDGE * patch), slice(EDGE * patch, -EDGE * patch))
    torch.testing.assert_close(found[:, :3][inner], given[inner], atol=1e-4, rtol=0)
    assert float((found[:, :3] - given).abs().mean()) < 0.05 * patch, "the edges are smeared and no more"
    torch.testing.assert_close(found[:, 3], torch.full((2, HEIGHT, WIDE), 0.25))


@torch.no_grad()
@pytest.mark.parametrize(("down", "right"), [(0, 8), (12, 0), (-4, 4)])
def test_pixels_are_taken_from_where_the_match_says(down: int, right: int) -> None:
    where = at_home().clone()
    where[..., 0] += 2 * right / WIDE
    where[..., 1] += 2 * down / HEIGHT
    given = pictures()
    found = carry(fresh(), latents(), where, given)[:, :3]
    inner = (..., slice(16, -16), slice(12, -12))
    expected = given.roll((-down, -right), (-2, -1))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_place_has_an_offset_of_its_own() -> None:
    """The offsets of a token's four places are x and y of each in turn, in tenths of half the picture."""
    detail, given = fresh(), pictures()
    moves = torch.tensor([[0.1, 0.0], [0.0, 0.2], [-0.1, 0.1], [0.3, 0.3]])
    detail.offsets[-1].bias.copy_(moves.flatten())
    where = at_home()
    moved = where.unflatten(1, (-1, PLACES)).clone()
    moved[..., :2] += SHIFT * moves
    expected = carry(fresh(), latents(), moved.flatten(1, 2), given)
    torch.testing.assert_close(carry(detail, latents(), where, given), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_offsets_depend_on_what_is_drawn_and_on_the_match() -> None:
    detail, given = trained(), pictures()
    base = carry(detail, latents(), at_home(), given)
    for other in (
        carry(detail, latents(seed=5), at_home(), given),
        carry(detail, latents(), at_home(variance=0.75), given),
    ):
        assert (other[:, :3] - base[:, :3]).abs().max() > 1e-3


@torch.no_grad()
def test_the_map_is_put_right_by_what_was_decoded() -> None:
    """The corrections are x and y of four places of every QUARTER x QUARTER pixels, in tenths of half the picture."""
    detail, given = fresh(), pictures()
    placed = detail.placed(latents(), at_home())
    detail.refine[-1].bias.copy_(torch.tensor([0.5] * 4 + [-0.25] * 4))
    moved = placed.clone()
    moved[:, 0] += SHIFT * 0.5
    moved[:, 1] -= SHIFT * 0.25
    found = detail.both(pictures(seed=9), placed, given)[0]
    torch.testing.assert_close(found, fresh().both(pictures(seed=9), moved, given)[0], atol=1e-5, rtol=0)
    nn.init.normal_(detail.refine[-1].weight, std=0.05)
    one, other = (detail.both(pictures(seed=seed), placed, given)[0] for seed in (9, 10))
    assert (one[:, :3] - other[:, :3]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(("zoom", "expected"), [(1.0, 1 / 3), (8.0, 0.8), (0.0, 0.0)])
def test_the_stretch_tells_how_far_apart_neighbours_were(zoom: float, expected: float) -> None:
    x, y = ((2 * torch.arange(side) + 1) / side - 1 for side in (WIDE, HEIGHT))
    places = zoom * torch.stack(torch.broadcast_tensors(x, y[:, None]))[None]
    found = fresh().stretch(places)
    torch.testing.assert_close(found[..., :-1, :-1], torch.full((1, 1, HEIGHT - 1, WIDE - 1), expected))
    jump = torch.where(x < 0, 0.0, 16 * 2 / WIDE).expand(1, 1, HEIGHT, WIDE)
    found = fresh().stretch(torch.cat([jump, torch.zeros_like(jump)], dim=1))
    assert sorted(set(found.flatten().tolist())) == [0.0, pytest.approx(0.8)]


def test_what_was_decoded_is_not_trained_by_the_correction() -> None:
    detail, decoded = trained(), pictures(seed=9).requires_grad_()
    placed = detail.placed(latents(), at_home())
    detail.both(decoded, placed, pictures())[0][:, :3].square().sum().backward()
    assert decoded.grad is None
    assert detail.refine[-1].weight.grad.abs().max() > 0 and detail.offsets[-1].weight.grad.abs().max() > 0


INSIDE = (..., slice(BLURRED, -BLURRED), slice(None))


def with_match(given: Tensor) -> Tensor:
    """Carried pictures: beside the pixels how unsure the match is, and the stretch."""
    match = torch.rand(len(given), 2, *given.shape[-2:], generator=torch.Generator().manual_seed(3))
    return torch.cat([given, match], dim=1)


def striped(decoded: Tensor) -> Tensor:
    """Carried pictures that have stripes which the decoded ones lack, and away from the edges the same local means."""
    stripes = torch.tensor([0.3, -0.3, 0.2, -0.2, 0.0]).repeat(HEIGHT)[:HEIGHT].reshape(1, 1, -1, 1)
    assert BLURRED == 5, "as many as the stripes' period"
    return with_match(decoded + stripes)


@torch.no_grad()
def test_a_new_detail_lets_in_its_closed_share_and_changes_nothing_else() -> None:
    decoded = pictures()
    carried = striped(decoded)
    share = float(torch.sigmoid(torch.tensor(CLOSED)))
    expected = (1 - share) * decoded + share * carried[:, :3]
    found = fresh().joined(decoded, carried)
    torch.testing.assert_close(found[INSIDE], expected[INSIDE], atol=1e-6, rtol=0)
    assert share == pytest.approx(0.12, abs=0.005)


@torch.no_grad()
def test_an_open_share_is_the_carried_picture_and_a_change_is_added() -> None:
    detail = fresh()
    detail.choice[-1].bias[3 * HALF * HALF :] = 50.0
    decoded = pictures()
    carried = striped(decoded)
    found = detail.joined(decoded, carried)
    torch.testing.assert_close(found[INSIDE], carried[:, :3][INSIDE], atol=1e-5, rtol=1e-5)
    detail.choice[-1].bias[: HALF * HALF] = 0.5
    change = torch.tensor([0.5, 0.0, 0.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(detail.joined(decoded, carried), found + change, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("off", [0.0, 0.1, 0.2, 0.5])
def test_detail_is_let_in_and_wrong_colours_are_not(off: float) -> None:
    """Stripes of the right mean colour pass whole; the same ones in another colour by how far it is off."""
    detail = fresh()
    detail.choice[-1].bias[3 * HALF * HALF :] = 50.0
    decoded = pictures()
    carried = striped(decoded)
    carried[:, :3] += off
    share = detail._choice(decoded, carried)[0][INSIDE]
    expected = math.exp(-0.5 * (off / TOLERANCE) ** 2)
    torch.testing.assert_close(share, torch.full_like(share, expected), atol=1e-4, rtol=1e-4)


def test_the_gradient_of_what_is_joined_has_two_halves() -> None:
    detail = trained()
    drawn_rows = slice(3 * HALF * HALF)
    gradients = []
    for part in ("whole", "drawn", "chosen"):
        decoded = pictures().requires_grad_()
        carried = with_match(pictures(seed=7))
        drawn, chosen, _ = detail.halves(decoded, carried)
        whole = detail.joined(decoded, carried)
        for half in (drawn, chosen):
            torch.testing.assert_close(half, whole)
        detail.zero_grad()
        {"whole": whole, "drawn": drawn, "chosen": chosen}[part].square().sum().backward()
        gradients.append((decoded.grad, detail.choice[-1].weight.grad.clone()))
    (_, all_of_it), (to_decoded, drawn_part), (nothing, share_part) = gradients
    assert to_decoded is not None and nothing is None
    assert not drawn_part[3 * HALF * HALF :].any() and not share_part[drawn_rows].any()
    assert share_part.abs().max() > 0
    torch.testing.assert_close(drawn_part + share_part, all_of_it, atol=1e-3, rtol=1e-4)


def test_the_bare_picture_trains_the_share_alone_and_knows_no_bricks() -> None:
    detail = trained()
    decoded, carried = pictures(), with_match(pictures(seed=7))
    decoded.requires_grad_(True)
    carried.requires_grad_(True)
    share = detail._choice(decoded, carried)[0].detach()
    detail.halves(decoded, carried)[2].square().sum().backward()
    weight = detail.choice[-1].weight.grad
    assert decoded.grad is None and carried.grad is None
    assert not weight[: 3 * HALF * HALF].any() and weight[3 * HALF * HALF :].abs().max() > 0
    bricks = torch.zeros_like(decoded)
    bricks[..., ::BLURRED, :] = 0.5  # as many in every window, so that blurring leaves one level
    detail._choice = lambda *_: (share, torch.zeros(()))  # type: ignore[method-assign]
    level = detail.halves(decoded + bricks, carried)[2] - detail.halves(decoded, carried)[2]
    inside = (level / (1 - share))[..., BLURRED:-BLURRED, :]
    assert inside.std() < 1e-5 < inside.mean()


@torch.no_grad()
def test_a_detail_is_opened_everywhere() -> None:
    detail = trained()
    decoded = pictures()
    carried = striped(decoded)
    _, change = detail._choice(decoded, carried)
    detail.open()
    share, same = detail._choice(decoded, carried)
    opened = torch.sigmoid(torch.tensor(OPEN)).expand_as(share)
    torch.testing.assert_close(share[INSIDE], opened[INSIDE], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(same, change)


@torch.no_grad()
def test_what_is_joined_in_a_window_is_the_window_of_what_is_joined() -> None:
    detail, window, far = trained(), Window(1, 2, 5), 10  # four convolutions and a smooth share
    decoded, carried = pictures(1, 64, 64), with_match(pictures(1, 64, 64, 7))
    whole = window.of(detail.joined(decoded, carried))
    part = detail.joined(window.of(decoded), window.of(carried))
    inner = (..., slice(far, -far), slice(far, -far))
    torch.testing.assert_close(part[inner], whole[inner], atol=1e-5, rtol=1e-5)
    assert (part - whole).abs().max() > 1e-3, "at its edges a window sees less"


def given() -> tuple[Tensor, Tensor]:
    places = torch.rand(2, JOINTS, 2, generator=torch.Generator().manual_seed(0)) * WIDE
    return pictures(), torch.cat([places, torch.ones(2, JOINTS, 1)], dim=-1)


@pytest.fixture(scope="module")
def student() -> Generator:
    return generator(recipe(), student=True)


@torch.no_grad()
def test_a_generator_draws_from_the_context_alone(student: Generator) -> None:
    sources, keypoints = given()
    z = student.autoencoder.encode(sources)
    context, own = student.context(z, sources), student.context(z)
    assert own.shape[1] == student.flow.source.layers < context.shape[1]
    layers, shown = student.split(context)
    assert shown is not None and torch.equal(layers, own) and torch.equal(shown, sources)
    found = student.pictures(context, keypoints)
    torch.testing.assert_close(student(sources, keypoints), found)
    _, where = student.flow.pose_tokens(keypoints, own)
    drawn = student.latents(own, keypoints)
    torch.testing.assert_close(student.shown(drawn, where, sources), found)
    assert student.detail is not None
    decoded = student.autoencoder.decode(drawn)
    carried = student.detail.both(decoded, student.detail.placed(drawn, where), sources)[0]
    expected = student.detail.joined(decoded, carried)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_layers_of_detail_are_nothing_to_the_flow(student: Generator) -> None:
    """A teacher may be given the context of its student."""
    sources, keypoints = given()
    z = student.autoencoder.encode(sources)
    whole, own = student.context(z, sources), student.context(z)
    assert torch.equal(student.latents(whole, keypoints), student.latents(own, keypoints))
    plain = Generator(student.autoencoder, student.flow, student.times, student.solver)
    assert torch.equal(plain.pictures(whole, keypoints), plain(sources, keypoints))
    assert (plain(sources, keypoints) - student(sources, keypoints)).abs().mean() > 1e-3


def test_only_a_recipe_that_asks_for_it_has_detail(student: Generator) -> None:
    asked, plain = recipe(), recipe("distill.detail=false")
    assert asked.distill.detail and build_detail(asked.distill, student.flow, student.autoencoder) is not None
    assert build_detail(plain.distill, student.flow, student.autoencoder) is None
    assert generator(plain, student=True).detail is None
    other = student.on_grid((0.0, 0.5, 1.0), "euler")
    assert other.detail is student.detail
