"""Processes that train together: which one this is, its share of a batch, and what all of them add up.

torchrun and `accelerate launch` start the processes and tell each its number in the environment (RANK, WORLD_SIZE).
Example i of a whole batch belongs to process i modulo their number. So the first few of a batch and the last few are
spread evenly, whatever is asked of them, and every process has its examples in the batch's order.

Losses are means over the own examples, and gradients are averaged: where all processes have equally many, that is the
gradient of one process with the whole batch. What is no such mean says so: a part of the batch is weighted
(`Share.weight`), and a number of the whole batch inside a loss is `Share.mean` or `Share.gathered`.

PyTorch is imported only where there are other processes.
"""

from flowpose.ranks.batches import check_batches
from flowpose.ranks.connection import launched
from flowpose.ranks.meeting import current, together
from flowpose.ranks.share import WHOLE, Share
from flowpose.ranks.work import agree, by_main, dealt, sealed_by_main, seen, shown

__all__ = [
    "WHOLE",
    "Share",
    "agree",
    "by_main",
    "check_batches",
    "current",
    "dealt",
    "launched",
    "sealed_by_main",
    "seen",
    "shown",
    "together",
]
