"""The peers: what networks each runs for a frame, and in what order. Random weights: only their speed is looked at.

What a peer does once a person (its source's encoding, DINOv2 or Swin features of the source) and text encoders are
left out: embeddings are random numbers of the right shape. So is what the notes at each peer name.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from peers_dit import DitNetwork
from peers_shapes import Shapes
from torch import Tensor, nn

from flowpose.model.generator import Generator, build_autoencoder, build_flow
from flowpose.model.pictures import to_bytes
from flowpose.model.pretrained import PretrainedDecoder, PretrainedEncoder
from flowpose.model.transformer import SIZES
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe

Arrays = Mapping[str, NDArray[Any]]
Module = TypeVar("Module", bound=nn.Module)
GUIDANCE = 2.0
STRIDE, LATENTS = 8, 4
SCALE = 0.18215  # of SD's latents
JOINTS = 133
T_TURBO = 999.0  # the one time of a one-step sampler
NOISE = 0.9  # of SD-Turbo's latents at that time; the rest is the picture


class Run(Protocol):
    """Runs a network of a peer; inputs that are not given are its examples."""

    def __call__(self, name: str, **changed: NDArray[Any]) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Network:
    """A network that is run as one.

    Attributes:
        make: returns the module, always with the same weights; one tensor comes out.
        inputs: examples of the arguments of its `forward`, in that order.
        calls: how often a frame runs it.
    """

    make: Callable[[], nn.Module]
    inputs: Arrays
    calls: int


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes:
        about: what is run, for the table's text.
        networks: name -> network.
        frame: draws a picture u8[H, W, 3] by running them.
    """

    about: str
    networks: Mapping[str, Network]
    frame: Callable[[Run], NDArray[Any]]


def weighted(make: Callable[[], Module]) -> Callable[[], Module]:
    """`make` with the same random weights in every process, for inference. What is no weight comes from `normal`.

    Matrices that start at zero (gates, heads) are drawn too: no backend may find out that a branch does nothing.
    """

    @functools.cache
    def made() -> Module:
        torch.manual_seed(0)
        module = make().eval().requires_grad_(False)
        for weight in module.parameters():
            if weight.ndim > 1 and not weight.is_meta and not weight.any():
                nn.init.normal_(weight, std=0.02)
        return module

    return made


def normal(*shape: int) -> NDArray[np.float32]:
    """Standard normal numbers, always the same ones of a shape."""
    return np.random.default_rng(shape).standard_normal(shape, dtype=np.float32)


def value(number: float) -> NDArray[np.float32]:
    """f32[1], as times and sizes of steps are given to networks."""
    return np.array([number], np.float32)


def latents(shapes: Shapes) -> NDArray[np.float32]:
    """The noise that samplers start from, f32[1, 4, h, w]."""
    return normal(1, LATENTS, shapes.height // STRIDE, shapes.width // STRIDE)


def times(steps: int) -> list[NDArray[np.float32]]:
    """The left ends of an even grid from 0 to 1, f32[1] each."""
    return [value(number / steps) for number in range(steps)]


class Decode(nn.Module):
    """Latents f32[1, 4, h, w] -> frame u8[H, W, 3]."""

    def __init__(self, network: Any, scale: float) -> None:
        super().__init__()
        self.decoder, self.scale = PretrainedDecoder(network), scale

    def forward(self, x: Tensor) -> Tensor:
        return to_bytes(self.decoder(x / self.scale))[0]


class Encode(nn.Module):
    """Picture u8[H, W, 3] -> latents f32[1, 4, h, w]."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder = PretrainedEncoder(network)

    def forward(self, picture: Tensor) -> Tensor:
        return self.encoder(picture.float().permute(2, 0, 1)[None] / 127.5 - 1.0)  # type: ignore[no-any-return]


def decoded(shapes: Shapes) -> Network:
    """The SD-VAE's decoder, of every peer but StreamDiffusion."""
    make = weighted(lambda: Decode(AutoencoderKL.from_config(dict(shapes.vae)), SCALE))
    return Network(make, {"x": latents(shapes)}, calls=1)


# --- RPFM's teacher, as the recipe rpfm-deepfashion-256 has it ---------------------------------------------------


class TeacherPose(nn.Module):
    """Keypoints f32[1, 133, 3] -> pose tokens f32[1, N, C]: a skeleton is drawn and goes through the VAE's encoder."""

    table: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        flow, self.autoencoder = generator.flow, without(generator.autoencoder, "decoder")
        self.draw, self.patch, self.pose = flow.pose_field.draw, flow.pose_field.patch, flow.pose
        self.register_buffer("table", flow.table)

    def forward(self, keypoints: Tensor) -> Tensor:
        drawn = self.autoencoder.encode(self.draw(keypoints))
        return self.pose(F.pixel_unshuffle(drawn, self.patch).flatten(2).transpose(1, 2)) + self.table


class TeacherStep(nn.Module):
    """One Euler step with guidance: a batch of two, with and without conditions.

    x f32[1, 4, h, w] at t f32[1], context f32[2, L, 2, Ns, C] (with, without a source) and pose f32[1, N, C] -> x.
    """

    empty: Tensor

    def __init__(self, generator: Generator, steps: int) -> None:
        super().__init__()
        flow, self.size = generator.flow, 1.0 / steps
        self.flow = without(flow, "pose", "pose_field")
        self.flow.source = without(flow.source, *flow.source._modules)
        self.register_buffer("empty", torch.tensor(normal(1, *flow.table.shape)))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        both = torch.cat([pose, self.empty])
        v = self.flow.velocity(torch.cat([x, x]), self.flow.modulation(t, t), context, both)
        given, without = v.chunk(2)
        return x + self.size * (without + GUIDANCE * (given - without))


def without(module: Module, *names: str) -> Module:
    """The module without what is not run here, so that nobody counts, copies or exports it; the rest is shared."""
    other = copy.copy(module)
    other._modules = {name: part for name, part in module._modules.items() if name not in names}
    return other


def _teacher(recipe: Recipe, shapes: Shapes) -> Generator:
    vae = AutoencoderKL.from_config(dict(shapes.vae))
    spec = recipe.autoencoder.model_copy(update={"config": dict(vae.config)})
    autoencoder = build_autoencoder(spec)
    flow = build_flow(recipe.model, recipe.image, autoencoder)
    return Generator(autoencoder, flow, (0.0, 1.0), "euler")


def rpfm_teacher(shapes: Shapes) -> Peer:
    """The source's keys and values are there: they are made once a person."""
    recipe, steps = load_recipe("rpfm-deepfashion-256", shapes.teacher), shapes.steps
    size, pitch = SIZES[recipe.model.size], STRIDE * recipe.model.patch
    tokens = (shapes.height // pitch) * (shapes.width // pitch)
    build = weighted(lambda: _teacher(recipe, shapes))
    start, grid = latents(shapes), times(steps)
    context, pose = normal(2, size.depth, 2, tokens, size.width), normal(1, tokens, size.width)
    keypoints = np.abs(normal(1, JOINTS, 3)) * np.array([shapes.width / 3, shapes.height / 3, 1], np.float32)

    def frame(run: Run) -> NDArray[Any]:
        x, pose = start, run("pose")
        for t in grid:
            x = run("step", x=x, t=t, pose=pose)
        return run("decode", x=x)

    networks = {
        "pose": Network(weighted(lambda: TeacherPose(build())), {"keypoints": keypoints}, 1),
        "step": Network(
            weighted(lambda: TeacherStep(build(), steps)),
            {"x": start, "t": grid[0], "context": context, "pose": pose}, steps,
        ),
        "decode": decoded(shapes),
    }  # fmt: skip
    about = (
        f"DiT-{recipe.model.size}, {steps} evaluations with guidance (batches of two), drawn pose through the"
        " SD-VAE's encoder, SD-VAE's decoder"
    )
    return Peer(about, networks, frame)


# --- StreamDiffusion with SD-Turbo ------------------------------------------------------------------------------


class TurboStep(nn.Module):
    """Picture's latents f32[1, 4, h, w] and prompt f32[1, tokens, C] -> latents, in one evaluation."""

    noise: Tensor

    def __init__(self, config: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**config)
        self.register_buffer("noise", torch.tensor(normal(*shape)))
        self.register_buffer("t", torch.tensor([T_TURBO]))

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        rest = (1 - NOISE**2) ** 0.5
        noised = rest * x + NOISE * self.noise
        return (noised - NOISE * self.unet(noised, self.t, prompt, return_dict=False)[0]) / rest


def sd_turbo(shapes: Shapes) -> Peer:
    """Guidance is off, as SD-Turbo is run; the similarity filter, which skips frames, is off too."""
    start, channels = latents(shapes), shapes.turbo["cross_attention_dim"]
    picture = np.random.default_rng(0).integers(0, 256, (shapes.height, shapes.width, 3), dtype=np.uint8)
    tiny = dict(shapes.tiny)

    def frame(run: Run) -> NDArray[Any]:
        return run("decode", x=run("step", x=run("encode")))

    networks = {
        "encode": Network(weighted(lambda: Encode(AutoencoderTiny(**tiny))), {"picture": picture}, 1),
        "step": Network(
            weighted(lambda: TurboStep(shapes.turbo, start.shape)),
            {"x": start, "prompt": normal(1, shapes.tokens, channels)}, 1,
        ),
        "decode": Network(weighted(lambda: Decode(AutoencoderTiny(**tiny), 1.0)), {"x": start}, 1),
    }  # fmt: skip
    return Peer("TAESD's encoder, SD 2.1's UNet once without guidance, TAESD's decoder", networks, frame)


# --- CFLD -------------------------------------------------------------------------------------------------------


class GuidedStep(nn.Module):
    """x f32[1, 4, h, w] at t f32[1], size f32[1] of the step, tokens f32[2, n, C] (with, without) -> x."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**config)

    def forward(self, x: Tensor, t: Tensor, size: Tensor, tokens: Tensor) -> Tensor:
        noise = self.unet(torch.cat([x, x]), 1000 * t, tokens, return_dict=False)[0]
        given, without = noise.chunk(2)
        return x + size * (without + GUIDANCE * (given - without))


def cfld(shapes: Shapes) -> Peer:
    """Two branches; its released configuration has three. Its pose encoder and its Swin-B are left out."""
    start, grid, channels = latents(shapes), times(shapes.steps), shapes.cfld["cross_attention_dim"]

    def frame(run: Run) -> NDArray[Any]:
        x = start
        for t in grid:
            x = run("step", x=x, t=t)
        return run("decode", x=x)

    inputs = {
        "x": start,
        "t": grid[0],
        "size": value(-1 / shapes.steps),
        "tokens": normal(2, shapes.tokens, channels),
    }
    networks = {
        "step": Network(weighted(lambda: GuidedStep(shapes.cfld)), inputs, shapes.steps),
        "decode": decoded(shapes),
    }
    about = f"SD 1.5's UNet, {shapes.steps} evaluations with guidance (batches of two), SD-VAE's decoder"
    return Peer(about, networks, frame)


# --- X-MDPT-S ---------------------------------------------------------------------------------------------------


def x_mdpt_s(shapes: Shapes) -> Peer:
    """Two calls a step, one after the other, as its code does; DINOv2 of pose and source, and masks, are left out."""
    start, grid, size = latents(shapes), times(shapes.steps), shapes.mdpt
    given = {"source": normal(1, size.source), "pose": normal(1, size.pose)}
    without = {name: np.zeros_like(values) for name, values in given.items()}
    rows, columns = shapes.height // (2 * STRIDE), shapes.width // (2 * STRIDE)

    def frame(run: Run) -> NDArray[Any]:
        x = start
        for t in grid:
            one, other = run("call", x=x, t=t), run("call", x=x, t=t, **without)
            x = x - (other + GUIDANCE * (one - other))[:, :LATENTS] / np.float32(shapes.steps)
        return run("decode", x=x)

    make = weighted(lambda: DitNetwork(size, rows, columns))
    networks = {
        "call": Network(make, {"x": start, "t": grid[0], **given}, 2 * shapes.steps),
        "decode": decoded(shapes),
    }
    about = f"DiT-S, {shapes.steps} evaluations with guidance (two calls each), SD-VAE's decoder"
    return Peer(about, networks, frame)


PEERS: Mapping[str, Callable[[Shapes], Peer]] = MappingProxyType(
    {
        "rpfm-teacher": rpfm_teacher, "sd-turbo-shape": sd_turbo, "cfld-shape": cfld, "x-mdpt-s-shape": x_mdpt_s,
    }
)  # fmt: skip
"""Name -> what makes the peer at some sizes."""
