"""The edge student: convolutions and ReLU at the latents' resolution, one attention to the source at half of it.

It has the same face as `RPFMTransformer` (source branch, pose tokens, modulation, velocity), so that training,
export and the runtime need not know which one they hold. There is no norm and no softmax outside the one
attention and the match, which is what INT8 engines like; time enters as a bias of each block, which one step
folds into the convolution before it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.model import limb_field
from flowpose.model.attention import Attention
from flowpose.model.autoencoder import conv
from flowpose.model.transformer import (
    ESTIMATED,
    SHARPNESS,
    Size,
    SourceBranch,
    TimeEmbedding,
    by_token,
    positions,
)


class TimedResidual(nn.Module):
    """x + two 3x3 convolutions with ReLU, after a bias [B or 1, C] was added between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x) + bias[:, :, None, None]))  # type: ignore[no-any-return]


class EdgeNetwork(nn.Module):
    """Velocity of the latent flow, f32[B, c, h, w], from x_t, pose tokens and the source's context.

    The context is f32[B, 2, 2, Ns, C]: the match of limbs, and keys and values of the one attention.
    """

    table: Tensor
    patch = 1

    def __init__(
        self, width: int, blocks: int, *, height: int, picture_width: int, latents: int, stride: int
    ) -> None:
        super().__init__()
        self.latents, self.count = latents, blocks
        self.grid = (height // stride, picture_width // stride)
        size = Size(depth=1, width=width, heads=width // 32, source_depth=2)
        limbs = limb_field.LimbField(height, picture_width, stride, ESTIMATED)
        self.source = SourceBranch(size, self.grid, latents, 1, limbs)
        self.pose_field = limb_field.LimbField(height, picture_width, stride)
        places = limb_field.PLACES * limb_field.WIDTH
        self.pose = nn.Sequential(nn.Linear(places, width), nn.ReLU(), nn.Linear(width, width))
        self.carried = nn.Linear(width, width)
        self.register_buffer("table", positions(*self.grid, width), persistent=False)
        self.embed = nn.Conv2d(latents, width, 1)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.time = _BiasTime(width, 2 * blocks + 2)
        self.register_module("span", None)
        self.before = nn.ModuleList(TimedResidual(width) for _ in range(blocks))
        self.down = conv(width, width, stride=2)
        self.low = nn.ModuleList(TimedResidual(width) for _ in range(2))
        self.attention = Attention(width, size.heads)
        self.up = conv(width, width)
        self.after = nn.ModuleList(TimedResidual(width) for _ in range(blocks))
        self.head = nn.Conv2d(width, latents, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def add_span(self) -> None:
        """Makes the network any-step, as `RPFMTransformer.add_span` does."""
        self.span = _BiasTime(self.table.shape[-1], 2 * self.count + 2)

    def modulation(self, t: Tensor, r: Tensor) -> Tensor:
        """f32[B, rows, C] of steps from t to r, both f32[B]."""
        own = self.time(t)
        return own if self.span is None else own + self.span(r - t)  # type: ignore[no-any-return]

    def pose_tokens(self, keypoints: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """As `RPFMTransformer.pose_tokens`."""
        field = self.pose_field(keypoints)
        seen, where = self.source.match.carry(field, context[:, 0], self.log_sharpness)
        return self.pose(by_token(field)) + self.table + self.carried(seen), where

    def velocity(self, x_t: Tensor, modulation: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        """v f32[B, c, h, w] at x_t; the arguments are those of `RPFMTransformer.velocity`."""
        rows = iter(modulation.unbind(1))
        tokens = self.embed(x_t).flatten(2).transpose(1, 2) + pose
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        for block in self.before:
            x = block(x, next(rows))
        low = F.relu(self.down(x))
        low = self.low[0](low, next(rows))
        seen = self.attention(low.flatten(2).transpose(1, 2), context[:, 1])
        low = self.low[1](low + seen.transpose(1, 2).unflatten(2, low.shape[2:]), next(rows))
        x = x + F.relu(self.up(F.interpolate(low, size=self.grid, mode="nearest")))
        for block in self.after:
            x = block(x, next(rows))
        return self.head(x)  # type: ignore[no-any-return]


class _BiasTime(TimeEmbedding):
    """t f32[B] -> biases f32[B, rows, C], zero at the start of training."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__(width, 0)
        self.rows = rows
        self.project = nn.Linear(width, rows * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
