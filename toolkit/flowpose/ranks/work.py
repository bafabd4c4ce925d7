"""Work that one process does for all, or that all deal among themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flowpose.artifact import Artifact, open_artifact
from flowpose.errors import ArtifactError, FlowposeError, TrainingError
from flowpose.progress import Advance, tracking
from flowpose.ranks.connection import PeerFailed, connected
from flowpose.ranks.meeting import STOPPED, current, here
from flowpose.spec.manifest import MANIFEST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

SEEN = 60.0  # seconds in which a shared folder shows what another machine wrote

Value = TypeVar("Value")


def by_main(work: Callable[[], Value]) -> Value:
    """What the main process makes of `work`, given to all; it works as if it were alone, the others wait.

    Raises:
        PeerFailed: to the others, when the main process failed; it raises its own error.
    """
    share = current()
    if share.world == 1:
        return work()
    if not share.main:
        value, fault = _told([None, None])
        if fault is not None:
            raise PeerFailed("process 0", f"failed, and all stop with it: {fault}")
        return value  # type: ignore[no-any-return]
    told: list[Any] = [None, STOPPED]
    try:
        with _alone():
            told = [work(), None]
    except FlowposeError as error:
        told = [None, str(error)]
        raise
    finally:
        _told(told)
    return told[0]  # type: ignore[no-any-return]


@contextmanager
def _alone() -> Iterator[None]:
    """Lets the main process work as if there were no other; libraries too, which ask PyTorch (modelopt does)."""
    import torch.distributed as dist

    group, dist.GroupMember.WORLD = dist.GroupMember.WORLD, None
    here.alone = True
    try:
        yield
    finally:
        here.alone, dist.GroupMember.WORLD = False, group


def _told(message: list[Any]) -> list[Any]:
    """The main process's message."""
    import torch.distributed as dist

    with connected():
        dist.broadcast_object_list(message, src=0, group=here.waiting)
    return message


def sealed_by_main(path: Path, write: Callable[[], None]) -> Artifact:
    """The artifact that the main process writes at `path`; all processes open it.

    Raises:
        ArtifactError: another process does not see it, because their output folder is not shared.
    """
    by_main(write)
    return seen(path)


def seen(path: Path) -> Artifact:
    """An artifact that the main process wrote or found; another machine's folder may show it a moment later.

    Raises:
        ArtifactError: it does not.
    """
    share, until = current(), time.monotonic() + SEEN
    while share.world > 1 and not (path / MANIFEST).is_file():
        if time.monotonic() > until:
            raise ArtifactError(
                path, f"process {share.rank} does not see what process 0 wrote",
                fix="give all machines one shared output folder (--out)",
            )  # fmt: skip
        time.sleep(0.2)
    return open_artifact(path, verify=False)


def agree(what: str, own: object) -> None:
    """Nothing; all processes compare what should be the same for all.

    Raises:
        TrainingError: it is not.
    """
    if current().world == 1:
        return
    found = gathered_objects(own)
    other = next((number for number, value in enumerate(found) if value != found[0]), None)
    if other is not None:
        raise TrainingError(
            f"process {other}", f"has other {what} than process 0", got=found[other], expected=found[0],
            fix="give all machines the same flowpose, recipe, data and shared output folder",
        )  # fmt: skip


def gathered_objects(own: Value) -> list[Value]:
    """What each process has, in their order.

    Raises:
        TrainingError: the other processes were lost.
    """
    import torch.distributed as dist

    found: list[Any] = [None] * current().world
    with connected():
        dist.all_gather_object(found, own, group=here.waiting)
    return found


def dealt(
    title: str, total: int, make: Callable[[int], Tensor], ready: Sequence[Tensor] = ()
) -> Iterator[list[Tensor]]:
    """Yields all tensors that are there, `ready` ones first, after each round in which every process made one.

    `make(number)` gives tensor `number` of `total`, on the CPU. All processes get all of them, in their order.
    """
    share, done = current(), list(ready)
    with shown(title, total, len(done)) as advance:
        for first in range(len(done), total, share.world):
            number = first + share.rank
            own = make(number) if number < total else None
            made = gathered_objects(own) if share.world > 1 else [own]
            done += [each for each in made if each is not None]
            advance(len(done))
            yield done


def shown(title: str, total: int, start: int = 0) -> AbstractContextManager[Advance]:
    """`tracking` of the main process; the others show nothing."""
    return tracking(title, total, start) if current().main else nullcontext(_unseen)


def _unseen(done: int, text: str = "") -> None:
    """Shows nothing."""
