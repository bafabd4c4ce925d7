"""Networks that several processes train: the same start, the mean gradients, the mean losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flowpose.ranks.connection import connected
from flowpose.ranks.share import Share

BUCKET = 1 << 23  # numbers that are averaged in one message: 32 MB


def start_alike(tensors: Sequence[Tensor], share: Share) -> None:
    """Nothing; gives the tensors of all processes the values of the main one's.

    Raises:
        TrainingError: the other processes were lost.
    """
    if share.world == 1:
        return
    for each in tensors:
        plain = each.detach().contiguous()
        with connected():
            dist.broadcast(plain, src=0)
        each.detach().copy_(plain)


def share_gradients(module: nn.Module, share: Share) -> None:
    """Nothing; gives all processes the mean of their gradients. A parameter that no loss reaches stays without.

    Raises:
        TrainingError: the other processes were lost.
    """
    if share.world == 1:
        return
    trained = [p for p in module.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    with connected():
        _to_means(gradients, share)


def _to_means(tensors: Sequence[Tensor], share: Share) -> None:
    """Gives tensors the mean of all processes', in few large messages that are under way together."""
    sent: list[tuple[list[Tensor], Tensor, Any]] = []
    for bucket in _buckets(tensors):
        flat = torch.cat([each.reshape(-1) for each in bucket])
        sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, message in sent:
        message.wait()
        parts = torch.split(flat / share.world, [each.numel() for each in bucket])
        for each, part in zip(bucket, parts, strict=True):
            each.copy_(part.view(each.shape))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, in groups of about BUCKET numbers."""
    bucket: list[Tensor] = []
    for each in tensors:
        bucket.append(each)
        if sum(part.numel() for part in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def mean_losses(parts: Sequence[Mapping[str, Tensor]], share: Share) -> Sequence[Mapping[str, Tensor]]:
    """Named losses, those of each micro-batch, as means over all processes."""
    if share.world == 1:
        return parts
    values = share.mean(torch.stack([value.float() for losses in parts for value in losses.values()]))
    means = iter(values.unbind())
    return [{name: next(means) for name in losses} for losses in parts]


def size(module: nn.Module, share: Share) -> float:
    """The sum of all weights' sizes, a number that two networks hardly share; 0 where nobody is to be compared with."""
    if share.world == 1:
        return 0.0
    return float(sum(p.detach().double().abs().sum() for p in module.parameters()))
