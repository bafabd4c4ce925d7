"""The edge network: the same face as the transformer, at rest when new, and whole in the exported graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from flowpose.export.files import slimmed, traced
from flowpose.export.modules import OneStep, Source
from flowpose.model.autoencoder import Autoencoder, Decoder, Encoder
from flowpose.model.edge import EdgeNetwork
from flowpose.model.generator import Generator
from flowpose.model.limb_field import JOINTS, PLACES
from flowpose.model.transformer import SIZES, RPFMTransformer
from flowpose.model.weights import take_fitting
from flowpose.spec.recipe import EdgeStudent

HEIGHT, WIDE, LATENTS, CHANNELS = 24, 40, 4, 32
TOKENS = 15


def network(blocks: int = 1, width: int = CHANNELS) -> EdgeNetwork:
    """With weights in the layers that start at zero; its grid is odd both ways, 3 x 5."""
    torch.manual_seed(0)
    made = EdgeNetwork(width, blocks, height=HEIGHT, picture_width=WIDE, latents=LATENTS, stride=8).eval()
    for layer in (made.head, made.time.project):
        nn.init.normal_(layer.weight, std=0.05)
    return made


def latents(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, LATENTS, 3, 5, generator=torch.Generator().manual_seed(seed))


def poses(count: int, seed: int = 2) -> Tensor:
    places = torch.rand(count, JOINTS, 2, generator=torch.Generator().manual_seed(seed)) * HEIGHT
    return torch.cat([places, torch.ones(count, JOINTS, 1)], dim=-1)


def velocity(
    net: EdgeNetwork | RPFMTransformer, x: Tensor, t: Tensor, source: Tensor, pose: Tensor
) -> Tensor:
    context = net.source(source)
    return net.velocity(x, net.modulation(t, t), context, net.pose_tokens(pose, context)[0])


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 2])
def test_shapes_are_those_of_the_transformer(blocks: int) -> None:
    net = network(blocks)
    context = net.source(latents(2))
    assert context.shape == (2, 2, 2, TOKENS, CHANNELS) and net.source.layers == 2
    tokens, where = net.pose_tokens(poses(2), context)
    assert tokens.shape == (2, TOKENS, CHANNELS) and where.shape == (2, TOKENS * PLACES, 3)
    assert net.modulation(torch.zeros(3), torch.ones(3)).shape == (3, 2 * blocks + 2, CHANNELS)
    v = velocity(net, latents(2), torch.tensor([0.1, 0.8]), latents(2, 5), poses(2))
    assert v.shape == latents(2).shape and torch.isfinite(v).all() and v.abs().max() > 0
    assert (net.grid, net.patch, net.latents) == ((3, 5), 1, LATENTS)


def test_a_new_network_is_at_rest_and_knows_no_time() -> None:
    fresh = EdgeNetwork(CHANNELS, 1, height=HEIGHT, picture_width=WIDE, latents=LATENTS, stride=8)
    assert not velocity(fresh, latents(2), torch.zeros(2), latents(2), poses(2)).any()
    assert not fresh.modulation(torch.tensor([0.3]), torch.tensor([0.9])).any()


@torch.no_grad()
def test_every_input_counts() -> None:
    net = network()
    given = [latents(1), torch.tensor([0.1]), latents(1, 5), poses(1)]
    other = [latents(1, 7), torch.tensor([0.7]), latents(1, 6), poses(1, 8)]
    base = velocity(net, *given)
    for number, changed in enumerate(other):
        found = velocity(net, *given[:number], changed, *given[number + 1 :])
        assert (found - base).abs().max() > 1e-4, f"input {number}"


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet() -> None:
    net, t = network(), torch.tensor([0.1, 0.5, 0.9])
    whole = velocity(net, latents(3), t, latents(3, 5), poses(3))
    for i in range(3):
        part = slice(i, i + 1)
        alone = velocity(net, latents(3)[part], t[part], latents(3, 5)[part], poses(3)[part])
        torch.testing.assert_close(whole[part], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_span_changes_nothing_until_it_is_trained() -> None:
    net = network()
    t, r = torch.tensor([0.2]), torch.tensor([0.9])
    plain = net.modulation(t, r)
    net.add_span()
    assert torch.equal(net.modulation(t, r), plain)
    nn.init.normal_(net.span.project.weight, std=0.05)
    assert not torch.allclose(net.modulation(t, r), plain)
    assert not torch.allclose(net.modulation(t, r), net.modulation(t, t))


@torch.no_grad()
def test_the_match_and_the_embeddings_of_a_teacher_as_wide_are_taken() -> None:
    torch.manual_seed(4)
    teacher = RPFMTransformer(SIZES["micro"], height=HEIGHT, width=WIDE, latents=LATENTS, stride=8, patch=1)
    nn.init.normal_(teacher.source.null)
    net = network(width=64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    take_fitting(net, teacher)
    theirs, found = teacher.state_dict(), net.state_dict()
    for name in (
        "source.match.project.weight",
        "source.joints.places.weight",
        "embed.weight",
        "pose.0.weight",
    ):
        assert torch.equal(found[name], theirs[name]) and not torch.equal(found[name], before[name])
    for name in ("head.weight", "source.project.weight", "time.project.weight", "down.weight"):
        assert torch.equal(found[name], before[name]), f"{name} is of another shape"


@pytest.mark.parametrize("width", range(32, 385, 32))
def test_every_width_that_a_recipe_may_ask_for_is_divided_by_its_heads(width: int) -> None:
    try:
        EdgeStudent(width=width)
    except ValidationError:
        return
    with torch.device("meta"):
        net = EdgeNetwork(width, 1, height=HEIGHT, picture_width=WIDE, latents=LATENTS, stride=8)
    assert width % net.attention.heads == 0 and width % net.source.heads == 0


@torch.no_grad()
@pytest.mark.parametrize("any_step", [False, True])
def test_source_and_frame_graphs_compute_what_torch_computes(any_step: bool) -> None:
    torch.manual_seed(0)
    widths = (8, 8, 8, 8)
    autoencoder = Autoencoder(Encoder(widths, LATENTS), Decoder(widths, LATENTS, 1), LATENTS)
    net = network()
    if any_step:
        net.add_span()
        nn.init.normal_(net.span.project.weight, std=0.05)
    generator = Generator(autoencoder, net, (0.0, 1.0), "euler").eval()
    picture = torch.randint(0, 256, (HEIGHT, WIDE, 3), dtype=torch.uint8)
    keypoints = poses(1)[0]
    context = run(Source(generator), {"source": picture}, "context")
    assert context.shape == (2, 2, TOKENS, CHANNELS)
    frame = run(OneStep(generator), {"context": torch.from_numpy(context), "keypoints": keypoints}, "frame")
    whole = generator(picture.permute(2, 0, 1)[None].float() / 127.5 - 1, keypoints[None])
    expected = (whole[0] * 127.5 + 127.5).clamp(0, 255).round().permute(1, 2, 0).numpy()
    assert frame.dtype == np.uint8 and frame.std() > 5
    assert np.abs(frame.astype(int) - expected).max() <= 1


def run(module: nn.Module, given: dict[str, Tensor], output: str) -> np.ndarray:
    """What onnxruntime makes of the module's exported graph."""
    model = slimmed(traced(module, given, [output], 17))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run([output], {name: value.numpy() for name, value in given.items()})[0])
