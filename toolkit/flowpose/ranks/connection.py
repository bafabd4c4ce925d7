"""Whether other processes were started with this one, and what is said when the connection to them is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from flowpose.errors import TrainingError

FAULT = "flowpose/fault"  # where the first process that fails says why


def launched() -> tuple[int, int]:
    """(this process's number, how many were started together), as torchrun says; (0, 1) where nothing does."""
    if "RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", "1"))


class PeerFailed(TrainingError):
    """A training that ends because another process failed first."""


@contextmanager
def connected() -> Iterator[None]:
    """Makes of a lost connection an error that says why the first process failed, where it could say so.

    Raises:
        PeerFailed: the connection was lost.
    """
    try:
        yield
    except RuntimeError as error:
        rank, world = launched()
        raise PeerFailed(
            f"process {rank}", "lost the others", got=last_word() or "no word of why",
            expected=f"{world} processes until the end",
            fix="look at what the first failed process wrote; the same command goes on from the last checkpoint",
        ) from error  # fmt: skip


def say_last(text: str) -> None:
    """Nothing; leaves the reason of a failure with the process that keeps the addresses. The first reason stays."""
    import torch.distributed as dist

    try:
        store = dist.distributed_c10d._get_default_store()
        store.compare_set(FAULT, "", f"process {launched()[0]}: {text}")
    except (RuntimeError, ValueError):
        return  # nobody is left to be told, or nobody was met


def last_word() -> str:
    """What the first process that failed said; nothing where none did, or where it cannot be asked any more."""
    import torch.distributed as dist

    try:
        store = dist.distributed_c10d._get_default_store()
        return store.get(FAULT).decode() if store.check([FAULT]) else ""
    except (RuntimeError, ValueError):
        return ""
