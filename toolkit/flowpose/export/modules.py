"""The graphs as PyTorch modules, batch 1 and without a batch dimension at the edges.

Everything that the grid and z* fix is computed here, once: modulation vectors are constants of the graph, so
the time network is not in it. A grid of K intervals is K - 1 equal steps, which the exporter puts into a loop,
and a last step with the decoder; the one-step student is only a last step.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from flowpose.flow import SOLVERS
from flowpose.model.generator import Generator
from flowpose.model.pictures import signed, to_bytes
from flowpose.model.transformer import RPFMTransformer


class Source(nn.Module):
    """source u8[H, W, 3] -> context f32[1 + L, 2, Ns, C]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor) -> Tensor:
        latents = self.generator.autoencoder.encode(signed(source[None]))
        return self.generator.context(latents)[0]


class _Constant(nn.Module):
    """Always the same tensor, whatever the input."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, _: Tensor) -> Tensor:
        return self.value


def evaluation_times(solver: str, t: float, s: float) -> tuple[float, ...]:
    """The times at which the solver evaluates the velocity in the interval from t to s."""
    seen: list[float] = []

    def velocity(x: Tensor, time: float) -> Tensor:
        seen.append(time)
        return x

    SOLVERS[solver](velocity, torch.zeros(()), t, s)
    return tuple(seen)


@torch.no_grad()
def modulations(generator: Generator, t: float, s: float) -> Tensor:
    """f32[evaluations, rows, C]: the modulation vectors of one interval."""
    table: Tensor = generator.flow.time(torch.tensor(evaluation_times(generator.solver, t, s)))
    return table


class Pose(nn.Module):
    """(context f32[1 + L, 2, Ns, C], keypoints f32[133, 3]) -> tokens before any noise f32[1, N, C]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow = generator.flow

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        return self.flow.pose_tokens(keypoints[None], context[None])


class Step(nn.Module):
    """One interval of the loop: (x f32[1, c, h, w], tables f32[evaluations, rows, C], dt f32[], context, pose) -> x."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow, self.solver = generator.flow, generator.solver

    def forward(self, x: Tensor, tables: Tensor, dt: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        rows = iter(tables.unsqueeze(1).unbind(0))

        def velocity(x: Tensor, _: float) -> Tensor:
            return self.flow.velocity(x, next(rows), context[None], pose)

        return SOLVERS[self.solver](velocity, x, 0.0, dt)  # type: ignore[arg-type]


class Last(nn.Module):
    """The last interval and the decoder: (x, context, pose) -> frame u8[H, W, 3]."""

    tables: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow, self.autoencoder, self.solver = generator.flow, generator.autoencoder, generator.solver
        self.t, self.s = generator.times[-2:]
        self.register_buffer("tables", modulations(generator, self.t, self.s))

    def forward(self, x: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        rows = iter(self.tables.unsqueeze(1).unbind(0))

        def velocity(x: Tensor, _: float) -> Tensor:
            return self.flow.velocity(x, next(rows), context[None], pose)

        return to_bytes(self.autoencoder.decode(SOLVERS[self.solver](velocity, x, self.t, self.s)))[0]


class OneStep(nn.Module):
    """The frame graph of a student: (context f32[1 + L, 2, Ns, C], keypoints f32[133, 3]) -> frame u8[H, W, 3].

    The embedding of z* is a constant, so the first convolution is not in the graph.
    """

    noise: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_buffer("noise", generator.noise)
        last = Last(generator)
        last.flow = _without_embedding(generator)
        self.pose, self.last = Pose(generator), last

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        return self.last(self.noise, context, self.pose(context, keypoints))  # type: ignore[no-any-return]


@torch.no_grad()
def _without_embedding(generator: Generator) -> RPFMTransformer:
    """The velocity network whose embedding is that of z*; the other layers are shared."""
    flow = copy.copy(generator.flow)
    flow._modules = dict(generator.flow._modules)  # a copy of the table only
    flow._modules["embed"] = _Constant(generator.flow.embed(generator.noise))
    return flow


@torch.no_grad()
def loop_tables(generator: Generator) -> tuple[Tensor, Tensor]:
    """(f32[K - 1, evaluations, rows, C], dt f32[K - 1]) of the intervals before the last one."""
    intervals = list(pairwise(generator.times))[:-1]
    tables = torch.stack([modulations(generator, t, s) for t, s in intervals])
    return tables, torch.tensor([s - t for t, s in intervals])


def rounded(generator: Generator) -> Generator:
    """A copy whose weights are values that fp16 holds, in fp32: graphs keep them in two bytes and lose nothing."""
    generator = copy.deepcopy(generator)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.copy_(weight.half().float())
    return generator
