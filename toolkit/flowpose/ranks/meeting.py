"""How processes meet, and how they part."""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flowpose.errors import FlowposeError, TrainingError
from flowpose.ranks.connection import PeerFailed, connected, launched, say_last
from flowpose.ranks.share import Share

STEP = timedelta(minutes=30)  # the longest that one process may be behind another in a training step
WAIT = timedelta(days=2)  # the longest that the others wait for what the main process does alone
REFUSED = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
STOPPED = "it was stopped by an error of its own, or from outside"


class Meeting:
    """What this process keeps of its meeting with the others.

    Attributes:
        waiting: the group whose messages may take WAIT; None before they met.
        alone: whether this is the main process at work while the others wait for it.
        failed: whether something went wrong, so that nobody waits for a farewell.
    """

    def __init__(self) -> None:
        self.waiting: Any = None
        self.alone = False
        self.failed = False


here = Meeting()


def current() -> Share:
    """This process's share; all of it while the main one works alone. Meets the other processes at the first call.

    Raises:
        TrainingError: the others do not come.
    """
    rank, world = launched()
    if here.alone or world == 1:
        return Share()
    if here.waiting is None:
        _meet()
    return Share(rank, world)


def _meet() -> None:
    """Connects the processes: accelerate's group for tensors (nccl or gloo), and one of gloo that waits long."""
    for name in REFUSED:
        if os.environ.get(name, "false").lower() == "true":
            raise TrainingError(
                name, "weights are whole in every process here", got="true",
                fix="accelerate config without DeepSpeed and FSDP, or torchrun",
            )  # fmt: skip
    import torch.distributed as dist
    from accelerate.state import PartialState

    with connected():
        PartialState(timeout=STEP)
        here.waiting = dist.new_group(backend="gloo", timeout=WAIT)
    atexit.register(_leave)
    if not Share(*launched()).main:
        sys.stdout = io.StringIO()  # else every process prints the same result


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized() and not here.failed:
        dist.destroy_process_group()


@contextmanager
def together() -> Iterator[Share]:
    """This process's share for the block; where it fails, the other processes are told why."""
    share, fault = current(), STOPPED
    try:
        yield share
        fault = ""
    except PeerFailed:
        fault, here.failed = "", True
        raise
    except FlowposeError as error:
        fault = str(error)
        raise
    finally:
        if fault and share.world > 1:
            here.failed = True
            say_last(fault)
