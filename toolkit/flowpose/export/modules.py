"""The parts of a generator as they are exported: one person, one frame, pictures of bytes at the outer edges.

The student's grid is fixed, so its modulation vectors are constants of its graph and the time network is not in
it. The any-step frame graph (export/anystep.py) is put together from Pose, Step and Decode and takes its times
as an input.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from flowpose.export.files import HALF_FROM
from flowpose.export.storage import coded
from flowpose.model.generator import Generator
from flowpose.model.pictures import signed, to_levels

SOURCE_RATE = ("flow.source", "autoencoder.encoder")
Module = TypeVar("Module", bound=nn.Module)


class Source(nn.Module):
    """source u8[H, W, 3] -> context f32[1 + L + R, 2, Ns, C], with R layers of pixels for a student with detail."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor) -> Tensor:
        picture = signed(source.float()[None])
        return self.generator.context(self.generator.autoencoder.encode(picture), picture)[0]


class _Constant(nn.Module):
    """Always the same tensor, whatever the input."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, _: Tensor) -> Tensor:
        return self.value


class Pose(nn.Module):
    """(context, keypoints f32[133, 3]) -> tokens before any noise f32[1, N, C]; with detail also where f32[1, P, 3]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, context: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        layers, _ = self.generator.split(context[None])
        tokens, where = self.generator.flow.pose_tokens(keypoints[None], layers)
        return tokens if where is None or self.generator.detail is None else (tokens, where)


class Step(nn.Module):
    """One Euler step: (x f32[1, c, h, w] at t f32[1], r f32[1], context, pose tokens) -> x at r."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor, t: Tensor, r: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        flow, (layers, _) = self.generator.flow, self.generator.split(context[None])
        return x + (r - t) * flow.velocity(x, flow.modulation(t, r), layers, pose)


class FixedStep(nn.Module):
    """Step number `here` i64[1] of a known grid: as `Step`, with the modulation looked up instead of computed."""

    table: Tensor

    @torch.no_grad()
    def __init__(self, generator: Generator, times: Sequence[float]) -> None:
        super().__init__()
        self.generator, grid = generator, torch.tensor(times)
        self.register_buffer("table", generator.flow.modulation(grid[:-1], grid[1:]))

    def forward(self, x: Tensor, t: Tensor, r: Tensor, here: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        layers, _ = self.generator.split(context[None])
        return x + (r - t) * self.generator.flow.velocity(x, self.table[here], layers, pose)


class Decode(nn.Module):
    """Latents f32[1, c, h, w] -> frame u8[H, W, 3]; with detail also from where f32[1, P, 3] and the context.

    The cast is last: TensorRT has uint8 at a network's edges only.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, where: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        sources = None if context is None else self.generator.split(context[None])[1]
        return to_levels(self.generator.shown(latents, where, sources))[0].to(torch.uint8)


class OneStep(nn.Module):
    """The frame graph of a student: (context f32[1 + L + R, 2, Ns, C], keypoints f32[133, 3]) -> frame u8[H, W, 3].

    One step from t = 0 to 1. The embedding of z* is a constant, so the first convolution is not in the graph.
    """

    noise: Tensor
    modulation: Tensor

    @torch.no_grad()
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_buffer("noise", generator.noise)
        self.register_buffer("modulation", generator.flow.modulation(torch.zeros(1), torch.ones(1)))
        self.generator = _with(
            generator, flow=_with(generator.flow, embed=_Constant(generator.flow.embed(generator.noise)))
        )

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        flow, (layers, sources) = self.generator.flow, self.generator.split(context[None])
        pose, where = flow.pose_tokens(keypoints[None], layers)
        latents = self.noise + flow.velocity(self.noise, self.modulation, layers, pose)
        return to_levels(self.generator.shown(latents, where, sources))[0].to(torch.uint8)


def _with(module: Module, **parts: nn.Module) -> Module:
    """The module with other parts in place of its own; all else is shared."""
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}  # a copy of the table only
    return other


def rounded(generator: Generator, weights: Literal["fp16", "int8"] = "fp16") -> Generator:
    """A copy whose weights are those that graph files hold, in fp32: nothing is lost between torch and graph.

    Of what runs once a person the large weights are kept in a byte each, which is 2 MB of people-128; of what runs each
    frame in fp16, or in a byte too.
    """
    generator = copy.deepcopy(generator).requires_grad_(False)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            short = weights == "int8" or name.startswith(SOURCE_RATE)
            if short and weight.ndim > 1 and weight.numel() >= HALF_FROM:
                codes, scale = coded(weight.numpy(), 0)
                weight.copy_(torch.from_numpy(codes * scale))
            else:
                weight.copy_(weight.half().float())
    return generator


def same_source(generator: Generator, other: Generator) -> bool:
    """Whether both make the same context of a source, but for layers of detail."""
    parts = [
        (each.flow.source.state_dict(), each.autoencoder.encoder.state_dict()) for each in (generator, other)
    ]
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(*parts, strict=True)
    )
