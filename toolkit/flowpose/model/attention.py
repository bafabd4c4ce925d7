"""Attention with normalized queries and keys, over tokens themselves and what is known of a source."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unit(x: Tensor) -> Tensor:
    """x with root mean square 1 over the last dimension (QK normalization without parameters)."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Scores(nn.Module):
    """q k^T of q [..., N, c] and k [..., M, c]; a module, so that quantization can round both (quantizers.py)."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.transpose(-1, -2)


def attend(q: Tensor, k: Tensor, v: Tensor, scores: Scores) -> Tensor:
    """softmax(q k^T / sqrt(c)) v of [B, heads, N, c]; on a GPU as one kernel, unless the scores are quantized.

    PyTorch 2.13's fused CPU kernel takes twice as long as the three operations, forward and backward in bf16
    (48 against 21 ms for 72 heads of 176 x 352 tokens, 2 cores of an AMD EPYC 9004).
    """
    if q.device.type == "cpu" or type(scores) is not Scores:
        return torch.softmax(scores(q / math.sqrt(q.shape[-1]), k), dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head attention over the tokens themselves and, if given, the source's keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.zeros(heads, 1, 1))
        self.scores = Scores()

    def split(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, heads, N, C / heads]."""
        batch, tokens, width = x.shape
        return x.reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """x [B, N, C]; source [B, 2, Ns, C] (normalized keys, values) -> [B, N, C]."""
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = unit(q) * self.log_scale.exp(), unit(k)
        if source is not None:
            keys, values = source.unbind(1)
            k = torch.cat([k, self.split(keys)], dim=2)
            v = torch.cat([v, self.split(values)], dim=2)
        return self.out(attend(q, k, v, self.scores).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
