"""Smaller students from a teacher's network: fewer of its blocks, a decoder of fewer channels.

What is left starts from the teacher's weights. Channels are chosen by the size of the weights that write them (L1
norm of filters, arXiv 1608.08710), one choice for everything that is added along a width of the decoder.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowpose.model.autoencoder import Autoencoder, Decoder, Residual, Upsample
from flowpose.model.transformer import RPFMTransformer


class Skipped(nn.Module):
    """In the place of a block that was left out: what goes in comes out."""

    def forward(self, x: Tensor, source: Tensor, modulation: Tensor) -> Tensor:
        return x


def keep_blocks(flow: RPFMTransformer, kept: Sequence[int] | None) -> None:
    """Leaves out the blocks of a velocity network that are not in `kept` (None: all); the others' names stay."""
    for index in range(len(flow.blocks)):
        if kept is not None and index not in kept:
            flow.blocks[index] = Skipped()


def with_narrow_decoder(autoencoder: Autoencoder, widths: Sequence[int] | None) -> Autoencoder:
    """A copy of the autoencoder with a decoder of these widths; the autoencoder itself where they are None."""
    if widths is None:
        return autoencoder
    assert isinstance(autoencoder.decoder, Decoder)  # flowpose.spec.check: not with a pretrained autoencoder
    made = copy.deepcopy(autoencoder)
    made.decoder = narrowed(autoencoder.decoder, widths)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def narrowed(decoder: Decoder, widths: Sequence[int]) -> Decoder:
    """A decoder of `widths` channels at strides 1, 2, 4 and 8, with the channels of `decoder` that weigh most."""
    made = Decoder(tuple(widths), decoder.latents, decoder.blocks)
    made.block.load_state_dict(decoder.block.state_dict())
    seen = torch.arange(decoder.latents)
    chosen = iter(_streams(decoder, widths))
    kept = seen
    for new, old in zip(made.layers, decoder.layers, strict=True):
        if isinstance(new, Residual) and isinstance(old, Residual):
            inner = _weightiest(_norms(old.first), len(kept))
            _take(new.first, old.first, inner, kept)
            _take(new.second, old.second, kept, inner)
            continue
        into = (new.conv, old.conv) if isinstance(new, Upsample) and isinstance(old, Upsample) else (new, old)
        if isinstance(into[0], nn.Conv2d) and isinstance(into[1], nn.Conv2d):
            rows = next(chosen, torch.arange(into[1].out_channels))
            _take(into[0], into[1], rows, kept)
            kept = rows
    return made


def _streams(decoder: Decoder, widths: Sequence[int]) -> list[Tensor]:
    """Which channels are kept of each width, coarsest first: by the norms of all that is added to them."""
    sums: list[Tensor] = []
    for layer in list(decoder.layers)[:-1]:  # the last convolution writes colours
        if isinstance(layer, Residual):
            sums[-1] = sums[-1] + _norms(layer.second)
        elif isinstance(layer, Upsample | nn.Conv2d):
            sums.append(_norms(layer.conv if isinstance(layer, Upsample) else layer))
    return [_weightiest(norms, width) for norms, width in zip(sums, reversed(widths), strict=True)]


def _norms(conv: nn.Conv2d) -> Tensor:
    return conv.weight.abs().sum((1, 2, 3))


def _weightiest(norms: Tensor, count: int) -> Tensor:
    """The `count` channels of the largest norms, in their own order."""
    return norms.argsort(descending=True, stable=True)[:count].sort().values


def _take(new: nn.Conv2d, old: nn.Conv2d, rows: Tensor, columns: Tensor) -> None:
    assert new.bias is not None and old.bias is not None  # made with biases
    new.weight.copy_(old.weight[rows][:, columns])
    new.bias.copy_(old.bias[rows])
