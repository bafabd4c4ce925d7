"""The velocity network: shapes, the three rates, dropout of the condition, grouped targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flowpose.model.autoencoder import Autoencoder, Decoder, Encoder
from flowpose.model.limb_field import JOINTS, PLACES, token_centres, token_order
from flowpose.model.skeleton import SkeletonLatent
from flowpose.model.transformer import SIZES, RPFMTransformer, by_token, positions

HEIGHT, WIDE, LATENTS = 32, 48, 4


def network(size: str = "micro", patch: int = 1) -> RPFMTransformer:
    """With weights in the layers that start at zero, so that every input has a say."""
    torch.manual_seed(0)
    made = RPFMTransformer(
        SIZES[size], height=HEIGHT, width=WIDE, latents=LATENTS, stride=8, patch=patch
    ).eval()
    for layer in (made.head, made.time.project):
        nn.init.normal_(layer.weight, std=0.05)
    nn.init.normal_(made.source.null)
    return made


def latents(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, LATENTS, HEIGHT // 8, WIDE // 8, generator=torch.Generator().manual_seed(seed))


def poses(count: int, seed: int = 2) -> Tensor:
    places = torch.rand(count, JOINTS, 2, generator=torch.Generator().manual_seed(seed)) * HEIGHT
    return torch.cat([places, torch.ones(count, JOINTS, 1)], dim=-1)


def times(count: int) -> Tensor:
    return torch.linspace(0, 0.9, count)


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", ["micro", "tiny", "mini", "small"])
def test_shapes(size: str, patch: int) -> None:
    net = network(size, patch)
    tokens = (HEIGHT // 8 // patch) * (WIDE // 8 // patch)
    context = net.source(latents(2))
    assert context.shape == (2, net.source.layers, 2, tokens, SIZES[size].width)
    assert net.source.layers == 1 + SIZES[size].depth
    carried, where = net.pose_tokens(poses(2), context)
    assert carried.shape == (2, tokens, SIZES[size].width) and where.shape == (2, tokens * PLACES, 3)
    v = net(latents(4), times(4), latents(2), poses(4))
    assert v.shape == latents(4).shape
    assert torch.isfinite(v).all() and v.abs().max() > 0


def test_every_size_divides_its_width() -> None:
    for size in SIZES.values():
        assert size.width % size.heads == 0 and size.width % 4 == 0
        assert size.source_depth <= size.depth


def test_a_new_network_is_at_rest() -> None:
    fresh = RPFMTransformer(SIZES["micro"], height=HEIGHT, width=WIDE, latents=LATENTS, stride=8, patch=1)
    v = fresh(latents(2), times(2), latents(2), poses(2))
    assert (v == 0).all()


@torch.no_grad()
def test_the_context_knows_nothing_of_pose_and_time() -> None:
    net = network()
    seen: list[Tensor] = []
    hook = net.source.register_forward_hook(lambda module, given, made: seen.append(made))
    first = net(latents(2), times(2), latents(2, 5), poses(2))
    second = net(latents(2, 7), times(2) + 0.1, latents(2, 5), poses(2, 8))
    hook.remove()
    assert torch.equal(*seen)
    assert not torch.allclose(first, second)


@torch.no_grad()
def test_every_input_counts() -> None:
    net = network()
    given = [latents(1), times(1), latents(1, 5), poses(1)]
    other = [latents(1, 7), times(1) + 0.5, latents(1, 6), poses(1, 8)]
    base = net(*given)
    for number, changed in enumerate(other):
        found = net(*given[:number], changed, *given[number + 1 :])
        assert (found - base).abs().max() > 1e-4, f"input {number}"


@torch.no_grad()
def test_a_dropped_condition_is_the_null_token_and_no_pose() -> None:
    net = network()
    dropped, kept = torch.tensor([False]), torch.tensor([True])
    base = net(latents(1), times(1), latents(1, 5), poses(1), dropped)
    other = net(latents(1), times(1), latents(1, 6), poses(1, 9), dropped)
    torch.testing.assert_close(base, other)
    assert not torch.allclose(base, net(latents(1), times(1), latents(1, 5), poses(1), kept))
    context = net.source(latents(1), dropped)
    blocks, carried = context[:, 1:], context[:, 0, 1]
    assert torch.allclose(blocks[:, :, :, :1].expand_as(blocks), blocks), "every token is the null token"
    assert torch.allclose(carried[:, :1].expand_as(carried), carried), "wherever it is matched"
    no_pose = torch.zeros(1, JOINTS, 3)
    torch.testing.assert_close(base, net(latents(1), times(1), latents(1, 5), no_pose, dropped))


@torch.no_grad()
def test_all_kept_is_the_same_as_no_dropout() -> None:
    net = network()
    given = (latents(2), times(2), latents(2, 5), poses(2))
    assert torch.equal(net(*given), net(*given, torch.tensor([True, True])))


@torch.no_grad()
def test_targets_in_groups_are_repeated_sources() -> None:
    net = network()
    sources, keep = latents(2, 5), torch.tensor([True, False])
    grouped = net(latents(6), times(6), sources, poses(6), keep)
    single = net(latents(6), times(6), sources.repeat_interleave(3, 0), poses(6), keep.repeat_interleave(3))
    torch.testing.assert_close(grouped, single, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet() -> None:
    net = network()
    whole = net(latents(3), times(3), latents(3, 5), poses(3))
    for i in range(3):
        part = slice(i, i + 1)
        alone = net(latents(3)[part], times(3)[part], latents(3, 5)[part], poses(3)[part])
        torch.testing.assert_close(whole[part], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_token_carries_what_the_source_shows_at_the_same_limb() -> None:
    """The source's field is set to the field of a pose: the same pose, even moved, finds its own limbs."""
    net = network()
    keypoints = poses(1)
    tokens = net.grid[0] * net.grid[1]
    width = SIZES["micro"].width // PLACES
    codes = torch.eye(tokens * PLACES)[:, :, None].expand(
        -1, -1, width
    )  # one picture of values for each place
    field = net.pose_field(keypoints)
    keys = by_token(net.source.match(field))
    found = []
    for code in codes.split(1, dim=1):
        matched = torch.stack([keys, by_token(code[None, :, 0])], dim=1)
        carried, where = net.source.match.carry(field, matched, net.log_sharpness)
        found.append(carried.unflatten(-1, (PLACES, width)).flatten(1, 2)[0, :, 0])
    shares = torch.stack(found, dim=1)  # of every source place in every target place
    assert (shares.argmax(dim=1) == torch.arange(tokens * PLACES)).float().mean() > 0.9
    torch.testing.assert_close(shares.sum(1), torch.ones(tokens * PLACES), atol=1e-4, rtol=0)
    xy = 2 * token_centres(net.grid, 8) / torch.tensor([WIDE, HEIGHT]) - 1
    mean = shares @ xy
    torch.testing.assert_close(where[0, :, :2], mean, atol=1e-4, rtol=0)
    variance = shares @ xy.square().sum(1) - mean.square().sum(1)
    torch.testing.assert_close(where[0, :, 2], variance, atol=1e-4, rtol=0)
    assert mean.abs().max() < 1 and (mean[0] < 0).all(), "x and y in -1..1 from the upper left"


@torch.no_grad()
def test_the_source_is_matched_by_its_estimated_joints(monkeypatch: pytest.MonkeyPatch) -> None:
    net, known = network(), poses(1)
    known[0, 9, 2] = 0.4  # rather not in the picture
    monkeypatch.setattr(net.source.joints, "forward", lambda _: known)
    keys = net.source(latents(1))[:, 0, 0]
    shown = known.clone()
    shown[0, 9] = 0
    torch.testing.assert_close(keys, by_token(net.source.match(net.pose_field(shown))))
    known[0, 9, 2] = 0.6
    assert not torch.allclose(net.source(latents(1))[:, 0, 0], keys)


def test_the_estimator_of_joints_is_not_trained_with_the_flow() -> None:
    net = network()
    net(latents(2), times(2), latents(2), poses(2)).square().sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in net.source.joints.parameters())
    assert all(p.grad is not None for p in net.source.match.parameters())


def test_places_follow_each_other_token_by_token() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    order = token_order(torch.stack([rows, columns], -1)[None])[0].tolist()
    assert order[:5] == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]] and len(order) == 24
    assert by_token(torch.arange(24.0)[None, :, None]).shape == (1, 6, PLACES)


@torch.no_grad()
def test_a_span_changes_nothing_until_it_is_trained() -> None:
    net = network()
    t, r = torch.tensor([0.2, 0.4]), torch.tensor([0.9, 0.4])
    plain = net.modulation(t, r)
    assert torch.equal(plain, net.time(t)) and plain.shape == (2, 6 * SIZES["micro"].depth + 2, 64)
    assert torch.equal(net.modulation(t, t), plain), "only an any-step network looks at r"
    net.add_span()
    assert torch.equal(net.modulation(t, r), plain)
    nn.init.normal_(net.span.project.weight, std=0.05)
    found = net.modulation(t, r)
    assert not torch.allclose(found[0], plain[0])
    torch.testing.assert_close(found[1] - plain[1], net.span(torch.zeros(1))[0])


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
def test_with_drawn_skeletons_nothing_is_matched_by_limb(patch: int) -> None:
    widths = (8, 8, 8, 8)
    autoencoder = Autoencoder(Encoder(widths, LATENTS), Decoder(widths, LATENTS, 1), LATENTS)
    size, skeleton = SIZES["micro"], SkeletonLatent(HEIGHT, WIDE, patch, autoencoder)
    net = RPFMTransformer(
        size, height=HEIGHT, width=WIDE, latents=LATENTS, stride=8, patch=patch, skeleton=skeleton
    )
    nn.init.normal_(net.head.weight, std=0.05)
    context = net.source(latents(2))
    tokens = net.grid[0] * net.grid[1]
    assert context.shape == (2, size.depth, 2, tokens, size.width) and net.source.layers == size.depth
    assert not [
        name for name in net.state_dict() if any(part in name for part in ("match", "sharpness", "joints"))
    ]
    (seen, where), (blind, _) = (net.pose_tokens(poses(2), each) for each in (context, 0 * context))
    assert torch.equal(seen, blind) and where is None
    first = net(latents(2), times(2), latents(2, 5), poses(2))
    for other in (
        net(latents(2), times(2), latents(2, 6), poses(2)),
        net(latents(2), times(2), latents(2, 5), poses(2, 8)),
    ):
        assert (other - first).abs().max() > 1e-4


def test_unpatch_undoes_the_order_of_patches() -> None:
    net = network(patch=2)
    tokens = torch.zeros(1, 6, LATENTS * 4)
    tokens[0, 1, 0:4] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # second patch of the first row, first channel
    found = net.unpatch(tokens)
    assert found.shape == (1, LATENTS, 4, 6)
    assert found[0, 0, :2, 2:4].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.count_nonzero() == 4


def test_every_place_has_its_own_code() -> None:
    table = positions(4, 6, 64)
    assert table.shape == (24, 64)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1
