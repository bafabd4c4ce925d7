"""The parts of a generator as they are exported: one person, one frame, pictures of bytes at the outer edges.

The student's grid is fixed, so its modulation vectors are constants of its graph and the time network is not in
it. The any-step frame graph (export/anystep.py) is put together from Pose, Step and Decode and takes its times
as an input.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowpose.model.generator import Generator, Network
from flowpose.model.pictures import signed, to_levels


class Source(nn.Module):
    """source u8[H, W, 3] -> context f32[1 + L, 2, Ns, C]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor) -> Tensor:
        latents = self.generator.autoencoder.encode(signed(source.float()[None]))
        return self.generator.context(latents)[0]


class _Constant(nn.Module):
    """Always the same tensor, whatever the input."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, _: Tensor) -> Tensor:
        return self.value


class Pose(nn.Module):
    """(context f32[1 + L, 2, Ns, C], keypoints f32[133, 3]) -> tokens before any noise f32[1, N, C]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow = generator.flow

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        return self.flow.pose_tokens(keypoints[None], context[None])


class Step(nn.Module):
    """One Euler step: (x f32[1, c, h, w] at t f32[1], r f32[1], context, pose tokens) -> x at r."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow = generator.flow

    def forward(self, x: Tensor, t: Tensor, r: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        return x + (r - t) * self.flow.velocity(x, self.flow.modulation(t, r), context[None], pose)


class FixedStep(nn.Module):
    """Step number `here` i64[1] of a known grid: as `Step`, with the modulation looked up instead of computed."""

    table: Tensor

    @torch.no_grad()
    def __init__(self, generator: Generator, times: Sequence[float]) -> None:
        super().__init__()
        self.flow, grid = generator.flow, torch.tensor(times)
        self.register_buffer("table", generator.flow.modulation(grid[:-1], grid[1:]))

    def forward(self, x: Tensor, t: Tensor, r: Tensor, here: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        return x + (r - t) * self.flow.velocity(x, self.table[here], context[None], pose)


class Decode(nn.Module):
    """Latents f32[1, c, h, w] -> frame u8[H, W, 3]. The cast is last: TensorRT has uint8 at a network's edges only."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.autoencoder = generator.autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return to_levels(self.autoencoder.decode(latents))[0].to(torch.uint8)


class OneStep(nn.Module):
    """The frame graph of a student: (context f32[1 + L, 2, Ns, C], keypoints f32[133, 3]) -> frame u8[H, W, 3].

    One step from t = 0 to 1. The embedding of z* is a constant, so the first convolution is not in the graph.
    """

    noise: Tensor
    modulation: Tensor

    @torch.no_grad()
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_buffer("noise", generator.noise)
        self.register_buffer("modulation", generator.flow.modulation(torch.zeros(1), torch.ones(1)))
        self.flow = _without_embedding(generator)
        self.pose, self.decode = Pose(generator), Decode(generator)

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        pose = self.pose(context, keypoints)
        velocity = self.flow.velocity(self.noise, self.modulation, context[None], pose)
        return self.decode(self.noise + velocity)  # type: ignore[no-any-return]


def _without_embedding(generator: Generator) -> Network:
    """The velocity network whose embedding is that of z*; the other layers are shared."""
    flow = copy.copy(generator.flow)
    flow._modules = dict(generator.flow._modules)  # a copy of the table only
    flow._modules["embed"] = _Constant(generator.flow.embed(generator.noise))
    return flow


def rounded(generator: Generator) -> Generator:
    """A copy whose weights are values that fp16 holds, in fp32: graphs keep them in two bytes and lose nothing."""
    generator = copy.deepcopy(generator).requires_grad_(False)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.copy_(weight.half().float())
    return generator
