"""A full disk, and places that take nothing: a typed error that says where and what mends it, and nothing is lost.

The small disk is a tmpfs, which only root can mount; its size can be raised while it is mounted. Elsewhere these cases
are skipped, with that reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reliability_kills import Reference, Start, found_whole, prepared, started
from reliability_tally import FAULTS, Lost, Skipped, Tally

from flowpose.errors import FlowposeError

ROOM = "1g"  # of the disk after it has been grown


@contextlib.contextmanager
def small_disk(at: Path, kilobytes: int, *, mode: str = "rw") -> Iterator[Path]:
    """A disk of that size at a new folder.

    Raises:
        Skipped: this process may not mount one.
    """
    at.mkdir(parents=True)
    _mount(at, "-t", "tmpfs", "-o", f"size={kilobytes}k,{mode}", "tmpfs")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)
        at.rmdir()


def grow(at: Path) -> None:
    """Makes the disk large enough."""
    _mount(at, "-o", f"remount,rw,size={ROOM}")


def close(at: Path) -> None:
    """Makes the disk take nothing any more."""
    _mount(at, "-o", "remount,ro")


def _mount(at: Path, *arguments: str) -> None:
    if os.geteuid():
        raise Skipped("mounting a small disk needs root")
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"mount: {done.stderr.strip()}")


def telling(start: Start, into: Path) -> Start:
    """The start, which writes what it raised into a file of another disk: class, where, what, fix; or a traceback."""

    def tell(root: Path, stage: str) -> None:
        try:
            start(root, stage)
        except FlowposeError as error:
            told = {"error": type(error).__name__, "where": error.where, "what": error.what, "fix": error.fix}
        except BaseException:  # noqa: BLE001 - what nobody foresaw is what is looked for
            told = {"untyped": traceback.format_exc(limit=-8)}
        else:
            told = {}
        into.write_text(json.dumps(told))
        os._exit(1 if told else 0)

    return tell


def filled(
    reference: Reference, start: Start, scratch: Path, stage: str, room: float, spare: int = 64
) -> str:
    """One stage on a disk that has room for that share of what it writes; then grown, and run again.

    Raises:
        Lost: what was there before is gone or changed, or the run does not end as another one after the disk was grown.
        AssertionError: an error that is untyped, or says neither where nor what mends it.
    """
    told = scratch / "told.json"
    before = _kilobytes(reference.root, reference.stages[: reference.stages.index(stage)])
    own = _kilobytes(reference.root, (stage,)) + _work(reference, stage)
    with small_disk(scratch / "disk", before + spare + int(own * room)) as disk:
        root = disk / "out"
        prepared(reference, stage, root)
        ended = started(telling(start, told), root, stage, quiet=True)
        said = json.loads(told.read_text()) if ended.code else {}
        found_whole(reference, root, stage)
        grow(disk)
        again = started(telling(start, told), root, stage, quiet=True)
        if again.code:
            raise Lost(f"{stage}: does not go on after the disk was grown: {told.read_text()}")
        found_whole(reference, root, stage)
        if reference.folder(stage, root) is None:
            raise Lost(f"{stage} was not made")
        left = [path.name for path in root.rglob("*") if path.name.endswith((".partial", ".new"))]
        if left:
            raise Lost(f"left behind: {left}")
    if "untyped" in said:
        raise AssertionError(f"{stage}, room {room:.2f}: {said['untyped']}")
    if said and not (said["where"] and said["fix"]):
        raise AssertionError(f"{stage}: says neither where nor what mends it: {said}")
    return f"{said['error']}, then made" if said else "had room"


def _kilobytes(root: Path, stages: Sequence[str]) -> int:
    """What the stages' folders take on a disk of 4 KB pages."""
    paths = [path for stage in stages for path in root.glob(f"tiny/{stage}-*/**/*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4 + 4 for path in paths)


def _work(reference: Reference, stage: str) -> int:
    """What the stage's work folder takes: checkpoints, solved paths, latents."""
    paths = [path for path in reference.root.glob(f"tiny/work/{stage}-*/**/*") if path.is_file()]
    shared = [path for path in reference.root.glob("tiny/work/*.safetensors")] if stage == "train" else []
    return sum(path.stat().st_size // 1024 + 8 for path in [*paths, *shared])


def stages_on_a_full_disk(
    reference: Reference, start: Start, scratch: Path, rooms: Sequence[float], say: Callable[[str], None]
) -> Tally:
    """Every stage on disks of several sizes."""
    tally = Tally("full disk in a stage of a run")
    for stage in reference.stages:
        for number, room in enumerate(rooms):
            place = scratch / f"full-{stage}-{number}"
            place.mkdir(parents=True)
            came = tally.take(f"{stage}, {room:.2f}", lambda: filled(reference, start, place, stage, room))  # noqa: B023
            shutil.rmtree(place, ignore_errors=True)
            say(f"full disk {stage} {room:.2f}: {came} {tally.faults[-1] if came in FAULTS else ''}")
    return tally
