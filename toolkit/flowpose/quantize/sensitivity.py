"""Sensitivity: what each layer costs when it alone is quantized, and which must stay in floating point.

The costliest layers go back one after the other, in the order of their cost alone, until the recipe's floor holds.
Costs do not add up exactly, so the floor is measured again after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flowpose.errors import GateFailed
from flowpose.metrics import psnr
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures
from flowpose.progress import tracking
from flowpose.quantize.quantizers import INPUT, switch
from flowpose.quantize.samples import Samples
from flowpose.spec.quantization import Floor

LOW = 5  # percentile of the pairs that the floor's `low` is about


@dataclass(frozen=True)
class Closeness:
    """How near two students' pictures are: PSNR in dB, in the mean and at percentile LOW of the pairs."""

    psnr: float
    low: float

    def holds(self, floor: Floor) -> bool:
        """Whether it is as near as the floor asks."""
        return self.psnr >= floor.psnr and self.low >= floor.low


@dataclass(frozen=True)
class LayerCost:
    """A layer, and how near the student stays when this layer alone is quantized."""

    layer: str
    psnr: float
    low: float

    def plain(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {**asdict(self), "psnr": round(self.psnr, 3), "low": round(self.low, 3)}


class Beside:
    """An unquantized student's pictures of pairs, and how near another one's are.

    What depends on the source alone is computed once: it is never quantized.
    """

    @torch.no_grad()
    def __init__(self, student: Generator, samples: Samples) -> None:
        self.inputs = []
        for sources, keypoints in samples.batches():
            context = student.context(student.autoencoder.encode(sources), sources)
            self.inputs.append((context, keypoints))
        self.own = self.drawn(student)

    def closeness(self, other: Generator) -> Closeness:
        """Of the other one's pictures of the same pairs."""
        return self.of(self.drawn(other))

    def of(self, pictures: NDArray[np.uint8]) -> Closeness:
        """Of pictures u8[n, H, W, 3] of the same pairs."""
        values = [psnr(a, b) for a, b in zip(pictures, self.own, strict=True)]
        return Closeness(float(np.mean(values)), float(np.percentile(values, LOW)))

    @torch.no_grad()
    def drawn(self, generator: Generator) -> NDArray[np.uint8]:
        """A generator's pictures u8[n, H, W, 3] of the pairs."""
        return np.concatenate([to_pictures(generator.pictures(*each)) for each in self.inputs])


def ranked(quantized: Generator, names: Sequence[str], beside: Beside) -> tuple[LayerCost, ...]:
    """The cost of every layer alone, costliest first; all are quantized again afterwards."""
    found = []
    with tracking("sensitivity", len(names), 0) as advance:
        for number, name in enumerate(names):
            switch(quantized, {name}, names)
            close = beside.closeness(quantized)
            found.append(LayerCost(name, close.psnr, close.low))
            advance(number + 1)
    switch(quantized, set(names), names)
    return tuple(sorted(found, key=lambda cost: (cost.psnr, cost.layer)))


def settled(
    quantized: Generator, costs: Sequence[LayerCost], beside: Beside, floor: Floor
) -> tuple[LayerCost, ...]:
    """The layers that had to go back to floating point for the floor to hold; their quantizers are off now.

    Raises:
        GateFailed: one layer left, and the floor does not hold.
    """
    names = [cost.layer for cost in costs]
    for kept in range(len(costs)):
        switch(quantized, set(names[kept:]), names)
        close = beside.closeness(quantized)
        if close.holds(floor):
            return tuple(costs[:kept])
    raise GateFailed(
        "quantize.floor", "does not hold with one layer quantized",
        got=f"{close.psnr:.1f} dB, 5th percentile {close.low:.1f} dB",
        expected=f"{floor.psnr:g} dB and {floor.low:g} dB",
        fix="lower quantize.floor, take a finer method, or set quantize.tune",
    )  # fmt: skip


def reasons(kept: Sequence[LayerCost]) -> list[dict[str, str]]:
    """`kept` as a manifest lists it."""
    return [
        {
            "layer": cost.layer,
            "reason": f"the floor did not hold; quantized alone it costs most: {cost.psnr:.1f} dB to the student",
        }
        for cost in kept
    ]


def layers_of(generator: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Of `names`, those that are quantized now."""
    return tuple(name for name in names if generator.get_submodule(f"{name}.{INPUT}").is_enabled)
