"""Commands that write, on a full disk and where nothing can be written: typed errors, and no half file.

A command runs in a forked child of a process that has everything imported; what is about Python's own end, a full
stdout, runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reliability_disk import close, grow, small_disk
from reliability_kills import files
from reliability_tally import Lost, Tally

from flowpose import cli

FORK = multiprocessing.get_context("fork")
SECONDS = 300.0  # that a command may take


@dataclass(frozen=True)
class Command:
    """A command of flowpose that writes.

    Attributes:
        name: for the table.
        arguments: with `{out}` for the folder that it writes below.
        kilobytes: sizes of disks that are too small for it.
    """

    name: str
    arguments: tuple[str, ...]
    kilobytes: tuple[int, ...]


def commands(model: Path, bundle: Path, source: Path, motion: Path) -> tuple[Command, ...]:
    """What writes bundles, engines, films, pictures, pages and tables, each with a tiny model."""
    infer = ("infer", str(source), str(motion), "--model", str(model), "-o")
    bench = ("bench", str(model), "-n", "2", "--no-cold", "--threads", "1", "--backends", "onnxruntime")
    sealing = ("bundle", str(model), "--target", "cpu", "--no-wheel", "-o")
    return (
        Command("bundle, tar", (*sealing, "{out}/x/b.tar"), (4, 16, 40)),
        Command("bundle, tar.gz", (*sealing, "{out}/x/b.tar.gz"), (4, 16, 28)),
        Command("bundle, folder", (*sealing, "{out}/x/b"), (4, 16, 40)),
        Command("unbundle", ("unbundle", str(bundle), "--into", "{out}/x/opened"), (4, 16, 28)),
        Command(
            "compile",
            ("compile", str(model), "--target", "cpu", "--threads", "1", "--out", "{out}/x"),
            (4, 24),
        ),
        Command("infer, film", (*infer, "{out}/x/film.mp4"), (0, 4, 16)),
        Command("infer, animation", (*infer, "{out}/x/film.webp"), (0, 4, 8)),
        Command("infer, pictures", (*infer, "{out}/x/made.png"), (4, 8, 60)),
        Command("infer --json", (*infer, "{out}/x/made.png", "--json"), (4,)),
        Command("bench --json", (*bench, "--json"), ()),
        Command("bench --html", (*bench, "--html", "{out}/x/page.html"), (0, 4, 16)),
        Command("inspect --html", ("inspect", str(model), "--html", "{out}/x/page.html"), (0, 4, 16)),
        Command("targets --json", ("targets", "--json"), ()),
    )


def said(arguments: Sequence[str], log: Path) -> str:
    """What a command says of its failure: `typed error`, or `done` where it had none.

    Raises:
        AssertionError: a traceback, or a failure without a word.
    """
    child = FORK.Process(target=_call, args=(arguments, log))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        raise AssertionError(f"{arguments[0]} hangs")
    told = log.read_text(errors="replace")
    return _judged(child.exitcode or 0, told)


def _call(arguments: Sequence[str], log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", closefd=False) for number in (1, 2)
    )  # not what a test caught
    sys.argv = ["flowpose", *arguments]
    try:
        cli.main()
    finally:
        sys.stderr.flush()


def _judged(code: int, told: str) -> str:
    if code == 0:
        return "done"
    assert code == 1 and "Traceback" not in told and "error: " in told, f"exit code {code}: {told[-1500:]}"
    return "typed error"


def on_small_disk(command: Command, scratch: Path, kilobytes: int) -> str:
    """The command on a disk that is too small, then on the grown one; what bears the name of a result is whole.

    Raises:
        Lost: a half-written file bears the name of a whole one, or the command does not end well afterwards.
    """
    log = scratch / "said.txt"
    with small_disk(scratch / "disk", max(kilobytes, 4)) as disk:
        if not kilobytes:  # not even a folder finds room
            (disk / "full").write_bytes(bytes(4096))
        here = [part.format(out=disk) for part in command.arguments]
        first, kept = said(here, log), _named(disk)
        grow(disk)
        if first == "done":
            return "had room"
        for name in kept:
            (disk / name).unlink()
        again = said(here, log)
        if again != "done":
            raise Lost(f"{command.name}: does not go on after the disk was grown: {log.read_text()[-600:]}")
        whole = _named(disk)
        half = [name for name, raw in kept.items() if len(raw) < len(whole.get(name, b"")) * 0.9]
        if half:
            raise Lost(f"{command.name}: half written under their own names: {half}")
    return "typed error, then done"


def _named(disk: Path) -> dict[str, bytes]:
    """The files that a user sees as results."""
    return {name: raw for name, raw in files(disk).items() if "/." not in f"/{name}" and name != "full"}


def on_a_full_disk(chosen: Sequence[Command], scratch: Path, say: Callable[[str], None]) -> Tally:
    """Every command on every size of disk, and with stdout on /dev/full where it prints JSON."""
    tally = Tally("full disk under a command that writes")
    scratch.mkdir(parents=True, exist_ok=True)
    for command in chosen:
        for kilobytes in command.kilobytes:
            case = f"{command.name}, {kilobytes} KB"
            came = tally.take(case, lambda: on_small_disk(command, scratch, kilobytes))  # noqa: B023
            say(f"{case}: {came}")
        if "--json" in command.arguments:
            came = tally.take(f"{command.name} > /dev/full", lambda: to_full(command, scratch))  # noqa: B023
            say(f"{command.name} > /dev/full: {came}")
    return tally


def to_full(command: Command, scratch: Path) -> str:
    """The command with its stdout on /dev/full, as a process of its own.

    Raises:
        Lost: it ended as if its result had reached somebody.
    """
    out = scratch / "out"
    out.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "flowpose.cli", *(part.format(out=out) for part in command.arguments)]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS
        )
    shutil.rmtree(out)
    if ran.returncode == 0:
        raise Lost(f"{command.name}: nobody got the result, and it ended well")
    return _judged(ran.returncode, ran.stderr)


# Places that take nothing


def in_place(command: Command, scratch: Path, place: str) -> str:
    """The command where it cannot write, or has to make the folders.

    Raises:
        Lost: it ended well where it cannot, so what it made is nowhere.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with PLACES[place](scratch) as out:
        ended = said([part.format(out=out) for part in command.arguments], scratch / "said.txt")
    if (ended == "done") != (place == "missing parents"):
        raise Lost(f"{command.name}, {place}: {ended}: {(scratch / 'said.txt').read_text()[-600:]}")
    return ended


@contextlib.contextmanager
def _read_only(scratch: Path) -> Iterator[Path]:
    with small_disk(scratch / "disk", 1024) as disk:
        close(disk)
        yield disk


@contextlib.contextmanager
def _under_a_file(scratch: Path) -> Iterator[Path]:
    (scratch / "file").write_bytes(b"")
    yield scratch / "file"
    (scratch / "file").unlink()


@contextlib.contextmanager
def _long_name(scratch: Path) -> Iterator[Path]:
    yield scratch / ("n" * 300)


@contextlib.contextmanager
def _looped(scratch: Path) -> Iterator[Path]:
    (scratch / "loop").symlink_to("loop")
    yield scratch / "loop"
    (scratch / "loop").unlink()


@contextlib.contextmanager
def _device(scratch: Path) -> Iterator[Path]:
    yield Path("/dev/null")


@contextlib.contextmanager
def _missing(scratch: Path) -> Iterator[Path]:
    yield scratch / "a" / "b" / "c"
    shutil.rmtree(scratch / "a")


Place = Callable[[Path], contextlib.AbstractContextManager[Path]]
PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "read-only disk": _read_only,
        "under a file": _under_a_file,
        "a name of 300 letters": _long_name,
        "a link to itself": _looped,
        "under a device": _device,
        "missing parents": _missing,
    }
)
"""Where commands write to; the last one has to be made."""


def in_places(chosen: Sequence[Command], scratch: Path, say: Callable[[str], None]) -> Tally:
    """Every command that writes a file in every place."""
    tally = Tally("place that cannot be written")
    for command in chosen:
        for place in PLACES if any("{out}" in part for part in command.arguments) else ():
            case = f"{command.name}, {place}"
            came = tally.take(case, lambda: in_place(command, scratch, place))  # noqa: B023
            say(f"{case}: {came}")
    return tally
