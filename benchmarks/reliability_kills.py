"""SIGKILL at a random place of a run: what was whole stays, nothing else can be opened, the next start ends well.

A trial copies what an undisturbed run had made before one of its stages, starts that stage in a child, and kills it:
before a random one of the child's file operations below its folder, or at a random share of the processor time that the
stage takes. Then a second child is started and has to end as the undisturbed one did, to the byte.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliability_tally import FAULTS, Lost, Tally

from flowpose.artifact import open_artifact
from flowpose.errors import ArtifactError, FlowposeError
from flowpose.spec.manifest import MANIFEST

Start = Callable[[Path, str], None]
"""(root, stage): makes a recipe up to a stage; called in a child."""

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link")
MEASURED = ("compile", "report")  # stages that hold times, so their manifests differ from run to run
TICK = os.sysconf("SC_CLK_TCK")
EARLY = "ended before the kill"  # not counted
PATIENCE = 900.0  # seconds that a start may take


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes:
        root: its artifacts, `root/tiny/STAGE-KEY`.
        stages: in order, with `report` where one is made.
        seconds, events: what each stage's start took in processor time and in file operations.
    """

    root: Path
    stages: tuple[str, ...]
    seconds: Mapping[str, float]
    events: Mapping[str, int]

    def folder(self, stage: str, root: Path | None = None) -> Path | None:
        """Where the stage's artifact lies, in this run's root or in another."""
        found = sorted((root or self.root).glob(f"tiny/{stage}-*"))
        return found[0] if found else None


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def prepared(reference: Reference, stage: str, root: Path) -> None:
    """Copies what was made before a stage."""
    root.joinpath("tiny").mkdir(parents=True)
    for before in reference.stages[: reference.stages.index(stage)]:
        folder = reference.folder(before)
        assert folder is not None, before
        shutil.copytree(folder, root / "tiny" / folder.name)


def _counted(root: Path, fatal: int, told: Callable[[], None]) -> None:
    """From here on counts this process's file operations below root, and dies before the one of that number."""
    here, seen = str(root), 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in EVENTS or here not in str(arguments[0]):
            return
        if event == "open" and not (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            return
        seen += 1
        told()
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _child(
    start: Start, root: Path, stage: str, fatal: int, seconds: float, count: object, quiet: bool
) -> None:
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def told() -> None:
        count.value += 1  # type: ignore[attr-defined]

    _counted(root, fatal, told)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the kernel ends the process, as by SIGKILL
    signal.setitimer(signal.ITIMER_PROF, seconds)  # 0 sets none; whoever watches from outside may come late
    start(root, stage)


@dataclass(frozen=True)
class Ended:
    """How a start ended: its exit code, processor seconds and file operations."""

    code: int | None
    seconds: float
    events: int


def started(
    start: Start, root: Path, stage: str, *, event: int = 0, seconds: float = 0, quiet: bool = False
) -> Ended:
    """Starts a child and waits; it kills itself at a file operation or at so much processor time, if one is given."""
    fork = multiprocessing.get_context("fork")
    count = fork.Value("i", 0, lock=False)
    child = fork.Process(target=_child, args=(start, root, stage, event, seconds, count, quiet))
    child.start()
    begun, used = time.monotonic(), 0.0
    while child.is_alive():
        child.join(0.02)
        used = _used(child.pid) or used
        if time.monotonic() - begun > PATIENCE:
            child.kill()
    child.join()
    return Ended(child.exitcode, used, count.value)


def _used(pid: int | None) -> float:
    """Processor seconds of a process; 0 where it has ended."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ProcessLookupError):
        return 0.0
    return (int(parts[11]) + int(parts[12])) / TICK


def measured(start: Start, root: Path, stages: Sequence[str]) -> Reference:
    """Makes the undisturbed run, each stage by a start of its own."""
    seconds, events = {}, {}
    for stage in stages:
        ended = started(start, root, stage, quiet=True)
        if ended.code:
            raise RuntimeError(f"the undisturbed run fails at {stage}: exit code {ended.code}")
        seconds[stage], events[stage] = ended.seconds, ended.events
    return Reference(root, tuple(stages), seconds, events)


def found_whole(reference: Reference, root: Path, before: str | None) -> dict[Path, int]:
    """What lies in its place, each opened and compared with the undisturbed run: folder -> inode of its manifest.

    Raises:
        Lost: something of an earlier stage is gone, something in its place cannot be opened or differs, or a leftover
            opens.
    """
    found = {}
    for stage in reference.stages:
        folder = reference.folder(stage, root)
        if folder is None:
            if before is not None and reference.stages.index(stage) < reference.stages.index(before):
                raise Lost(f"{stage} is gone")
            continue
        _same(reference, stage, folder)
        sealed = folder / (MANIFEST if stage != "report" else "report.json")
        found[folder] = sealed.stat().st_ino
    for partial in root.rglob(".*.partial"):
        for folder in (partial, partial / "artifact"):
            try:
                open_artifact(folder)
            except ArtifactError:
                continue
            raise Lost(f"a leftover can be opened: {folder}")
    return found


def _same(reference: Reference, stage: str, folder: Path) -> None:
    whole = reference.folder(stage)
    assert whole is not None
    if stage == "report":
        if files(folder).keys() != files(whole).keys():
            raise Lost(f"half a report: {sorted(files(folder))}")
        return
    try:
        opened = open_artifact(folder)
    except FlowposeError as error:
        raise Lost(f"{stage} cannot be opened: {error}") from error
    if stage in MEASURED:
        if opened.manifest.files != open_artifact(whole).manifest.files:
            raise Lost(f"{stage} has other files")
    elif files(folder) != files(whole):
        raise Lost(f"{stage} differs from an undisturbed run's")


def trial(
    reference: Reference, start: Start, root: Path, stage: str, rng: random.Random, last: str | None = None
) -> str:
    """Kills one start in a stage, or in what follows up to `last`, and makes the next one end; how it was killed.

    Raises:
        Lost: as `found_whole`, or the next start did not end well.
    """
    end = last or stage
    span = reference.stages[reference.stages.index(stage) : reference.stages.index(end) + 1]
    prepared(reference, stage, root)
    by_event = rng.random() < 0.5
    event = rng.randint(1, sum(reference.events[each] for each in span)) if by_event else 0
    seconds = 0.0 if by_event else rng.random() * sum(reference.seconds[each] for each in span)
    ended = started(
        start, root, end, event=event, seconds=max(seconds, 0.01) if not by_event else 0, quiet=True
    )
    if ended.code not in (0, -signal.SIGKILL, -signal.SIGPROF):
        raise Lost(f"{stage}: exit code {ended.code} before the kill")
    kept = found_whole(reference, root, stage)
    again = started(start, root, end, quiet=True)
    if again.code:
        raise Lost(
            f"{stage}, killed at event {event} or {seconds:.2f} s: the next start ends with {again.code}"
        )
    after = found_whole(reference, root, None)
    for folder, inode in kept.items():
        if after.get(folder) != inode:
            raise Lost(f"{folder.name} was whole and was made again")
    if reference.folder(end, root) is None:
        raise Lost(f"{end} was not made")
    left = [path.name for path in root.rglob("*") if path.name.endswith((".partial", ".new"))]
    if left:
        raise Lost(f"left behind after the next start: {left}")
    if ended.code == 0:
        return EARLY
    return "killed before a file operation" if by_event else "killed at a moment"


def kills(
    reference: Reference,
    start: Start,
    scratch: Path,
    count: int,
    *,
    seed: int = 0,
    whole: int = 0,
    say: Callable[[str], None] = print,
) -> Tally:
    """`count` kills; `whole` of them anywhere in a run from nothing to the end, the others in single stages.

    A stage is drawn by one over the root of its cost: each often enough, and the dear ones not for most of the time.
    """
    weights = [max(reference.seconds[each], 0.5) ** -0.5 for each in reference.stages]
    tally, rng, number, early = Tally("SIGKILL at a random place of a run"), random.Random(seed), 0, 0
    while tally.tried < count:
        stage, last = rng.choices(reference.stages, weights)[0], None
        if number < whole:
            stage, last = reference.stages[0], reference.stages[-1]
        root = scratch / f"kill-{number}"
        came = tally.take(f"{number}, {stage}", lambda: trial(reference, start, root, stage, rng, last))  # noqa: B023
        shutil.rmtree(root, ignore_errors=True)
        say(f"kill {number} {stage} {last or ''}: {came} {tally.faults[-1] if came in FAULTS else ''}")
        number, early = number + 1, early + tally.outcomes.pop(EARLY, 0)
        tally.further = {"whole_runs": min(whole, number), "ended_before_the_kill": early, "seed": seed}
    return tally
