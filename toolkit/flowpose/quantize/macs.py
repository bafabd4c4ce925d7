"""Multiply-accumulates of one frame: how many there are, and which share of them INT8 computes."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from flowpose.model.attention import Attention
from flowpose.model.generator import Generator
from flowpose.model.limb_field import PLACES
from flowpose.quantize.quantizers import weighted


def _layer(module: nn.Linear | nn.Conv2d, y: Tensor) -> int:
    """Of a layer with output y."""
    return y.numel() * (module.weight.numel() // module.weight.shape[0])


def _attention(inputs: tuple[Tensor, ...]) -> int:
    """Of each of the two products of an attention layer."""
    x, source = inputs
    return x.shape[1] * (x.shape[1] + source.shape[2]) * x.shape[2]


@torch.no_grad()
def frame_macs(generator: Generator, context: Tensor, keypoints: Tensor) -> dict[str, int]:
    """Name -> multiply-accumulates of one frame (batch 1): layers, and the products of each attention and the match.

    Those are `.scores` (q k^T) and `.mix` (what is mixed by them).
    """
    counts: dict[str, int] = {}

    def add(name: str, macs: int) -> None:
        counts[name] = counts.get(name, 0) + macs

    def both(name: str, macs: int) -> None:
        add(f"{name}.scores", macs)
        add(f"{name}.mix", macs)

    hooks, layers = [], weighted(generator)
    for name, module in generator.named_modules():
        if name in layers:
            layer = layers[name]
            hooks.append(layer.register_forward_hook(lambda _, __, y, n=name, m=layer: add(n, _layer(m, y))))
        elif isinstance(module, Attention) and name.startswith(("flow.blocks", "flow.attention")):
            hooks.append(module.register_forward_hook(lambda _, x, __, n=name: both(n, _attention(x))))
    generator.pictures(context[:1], keypoints[:1])
    for hook in hooks:
        hook.remove()
    flow = generator.flow
    if flow.source.matched:
        places = [PLACES * tokens for tokens in (flow.grid[0] * flow.grid[1], context.shape[3])]
        both("flow.source.match", places[0] * places[1] * flow.source.match.width)
    return counts


def share(counts: dict[str, int], names: Collection[str]) -> float:
    """The named layers' share, 0..1, of all multiply-accumulates."""
    return sum(counts.get(name, 0) for name in names) / sum(counts.values())
