"""A diffusion transformer with conditions in one vector, as X-MDPT has it (DiT: arXiv 2212.09748)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from peers_shapes import Dit
from torch import Tensor, nn

from flowpose.model.transformer import modulate, positions

LATENTS, PATCH, ANGLES = 4, 2, 256


class DitBlock(nn.Module):
    """Attention and two layers, both shifted, scaled and gated by the conditions' vector (AdaLN-zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, N, C], condition [B, C] -> [B, N, C]."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(condition)[:, None].chunk(
            6, dim=-1
        )
        x = x + gate_1 * self.attention(modulate(x, shift_1, scale_1))
        return x + gate_2 * self.mlp(modulate(x, shift_2, scale_2))  # type: ignore[no-any-return]

    def attention(self, x: Tensor) -> Tensor:
        """Self-attention of tokens [B, N, C]."""
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))  # type: ignore[no-any-return]


class DitNetwork(nn.Module):
    """x f32[1, 4, h, w] at t f32[1], source f32[1, n], pose f32[1, m] -> noise and its variance f32[1, 8, h, w]."""

    table: Tensor

    def __init__(self, size: Dit, rows: int, columns: int) -> None:
        super().__init__()
        self.grid = (rows, columns)
        self.embed = nn.Conv2d(LATENTS, size.width, PATCH, stride=PATCH)
        self.register_buffer("table", positions(rows, columns, size.width), persistent=False)
        self.time = nn.Sequential(nn.Linear(ANGLES, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        self.source, self.pose = nn.Linear(size.source, size.width), nn.Linear(size.pose, size.width)
        self.blocks = nn.ModuleList(DitBlock(size.width, size.heads) for _ in range(size.depth))
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(size.width, 2 * size.width))
        self.head = nn.Linear(size.width, 2 * LATENTS * PATCH * PATCH)

    def forward(self, x: Tensor, t: Tensor, source: Tensor, pose: Tensor) -> Tensor:
        condition = self.time(angles(t)) + self.source(source) + self.pose(pose)
        x = self.embed(x).flatten(2).transpose(1, 2) + self.table
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.last(condition)[:, None].chunk(2, dim=-1)
        made = self.head(modulate(x, shift, scale)).transpose(1, 2)
        return F.pixel_shuffle(made.reshape(len(made), -1, *self.grid), PATCH)


def angles(t: Tensor) -> Tensor:
    """Sines and cosines f32[B, ANGLES] of times f32[B] in 0..1."""
    half = ANGLES // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / half)
    turned = 1000.0 * t[:, None] * frequencies
    return torch.cat([turned.cos(), turned.sin()], dim=-1)
