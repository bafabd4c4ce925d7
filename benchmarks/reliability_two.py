"""Two at once: runs, bundles and artifacts made by several processes in the same place at the same time."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from reliability_kills import Reference, Start, found_whole
from reliability_pretended import STAGES, Pretended
from reliability_tally import Lost, Tally

from flowpose.bundle import open_bundle, seal
from flowpose.errors import FlowposeError

FORK = multiprocessing.get_context("fork")
WAIT = 600.0  # seconds


def started(act: Callable[[], None], quiet: bool = True) -> multiprocessing.process.BaseProcess:
    def child() -> None:
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            act()
        except FlowposeError:
            os._exit(3)

    process = FORK.Process(target=child)
    process.start()
    return process


def runs(
    reference: Reference, start: Start, root: Path, log: Path | None, rng: random.Random, kill: bool
) -> str:
    """Two starts on one output folder, the second a moment later, or when the log says that the first is making a
    stage; with `kill` the first dies on the way.

    Raises:
        Lost: one did not end well, what they made differs from one run's, or a stage was made twice.
    """
    last = reference.stages[-1]
    first = started(lambda: start(root, last))
    if log is None:
        time.sleep(rng.random() * 0.2)
    while log is not None and first.is_alive() and not (log.exists() and "making" in log.read_text()):
        time.sleep(0.002)
    second = started(lambda: start(root, last))
    if kill:
        time.sleep(rng.random() * 0.3)
        first.kill()
    for process in (first, second):
        process.join(WAIT)
    codes = [first.exitcode, second.exitcode]
    if codes[1] != 0 or codes[0] not in ((0, -signal.SIGKILL) if kill else (0,)):
        raise Lost(f"exit codes {codes}")
    found_whole(reference, root, None)
    if len([stage for stage in reference.stages if reference.folder(stage, root)]) != len(reference.stages):
        raise Lost("a stage was not made")
    told = log.read_text() if log is not None and log.exists() else ""
    made = [line.split()[1] for line in told.splitlines() if line.endswith("making")]
    if not kill and sorted(made) != sorted(set(made)):
        raise Lost(f"a stage was made twice: {made}")
    return "one waited for the other" if "waiting" in told else "one after the other"


def several_runs(scratch: Path, count: int, seed: int = 0) -> Tally:
    """`count` pairs of pretended runs, every other one with the first killed."""
    tally, rng = Tally("two runs on one output folder"), random.Random(seed)
    whole = Pretended(scratch / "calibration")
    process = started(lambda: whole(scratch / "reference", STAGES[-1]))
    process.join()
    reference = Reference(scratch / "reference", STAGES, {}, {})
    for number in range(count):
        root, log = scratch / f"two-{number}", scratch / f"two-{number}.log"
        start = Pretended(scratch / "calibration", 0.03, log)
        kill = number % 2 == 1
        tally.take(f"pair {number}", lambda: runs(reference, start, root, log, rng, kill))  # noqa: B023
        shutil.rmtree(root, ignore_errors=True)
        log.unlink(missing_ok=True)
    return tally


def bundles(model: Path, scratch: Path, name: str, processes: int = 3) -> str:
    """Several processes seal one bundle: one makes it, the others say that it is there.

    Raises:
        Lost: none or several made it, or it cannot be opened.
    """
    scratch.mkdir(parents=True)
    out = scratch / name
    made = [started(lambda: (seal(model, ["cpu"], out), None)[1]) for _ in range(processes)]
    for process in made:
        process.join(WAIT)
    codes = sorted(process.exitcode or 0 for process in made)
    if codes != [0] + [3] * (processes - 1):
        raise Lost(f"exit codes {codes}")
    open_bundle(out, scratch / "opened")
    if left := [path.name for path in scratch.iterdir() if path.name not in (name, "opened")]:
        raise Lost(f"left behind: {left}")
    return "one made it, the others were told"


def several_bundles(model: Path, scratch: Path, count: int) -> Tally:
    """`count` times each kind of bundle, three processes at once."""
    tally = Tally("three processes that seal one bundle")
    for number in range(count):
        for name in ("b.tar", "b.tar.gz", "b"):
            place = scratch / f"seal-{number}"
            tally.take(f"{name}, {number}", lambda: bundles(model, place, name))  # noqa: B023
            shutil.rmtree(place, ignore_errors=True)
    return tally
