"""Clocks that jump: locks, sweeping, keys, bundles and streams, with the clock years off, or jumping meanwhile.

libfaketime (Debian: libfaketime), where it is installed or given, moves the clock of whole processes; times of files
are set far ahead and behind; `time.time` jumps in a process that runs a stream.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reliability_kills import Start, files
from reliability_tally import Lost, Skipped, Tally
from reliability_two import WAIT, started

import flowpose
from flowpose.artifact import open_artifact
from flowpose.bundle import open_bundle, seal
from flowpose.half_made import sweep, temporary
from flowpose.runtime import load

YEAR = 365 * 86400.0
JUMPS = (-60 * YEAR, -YEAR, -3600.0, -1.0, 1.0, 3600.0, YEAR, 100 * YEAR)  # seconds
PLACES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
CLOCKS = ("time.time", "time.time_ns", "datetime.now", "datetime.today", "datetime.utcnow", "date.today")
LOGS = (
    "compile/tensorrt_build.py",
    "reporting.py",
)  # write the time of day into a log and a page, and decide nothing by it
MAKE = """
import sys
from flowpose.bundle import open_bundle, seal
from pathlib import Path
seal(sys.argv[1], ["cpu"], sys.argv[2])
open_bundle(sys.argv[2], sys.argv[2] + ".opened")
"""


def faketime() -> Path:
    """The library, from FAKETIME_LIBRARY or where Debian puts it.

    Raises:
        Skipped: it is not there.
    """
    for place in (os.environ.get("FAKETIME_LIBRARY"), *PLACES):
        if place and Path(place).is_file():
            return Path(place)
    raise Skipped("libfaketime is not installed (apt-get install libfaketime)")


@contextlib.contextmanager
def jumping(offsets: Iterator[float]) -> Iterator[None]:
    """Each look at `time.time` in this process is off by the next offset."""
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + next(offsets)  # type: ignore[assignment]
    time.time_ns = lambda: true_ns() + int(next(offsets) * 1e9)  # type: ignore[assignment]
    try:
        yield
    finally:
        time.time, time.time_ns = true, true_ns  # type: ignore[assignment]


def swept(place: Path, offset: float) -> str:
    """What nobody holds is swept and what somebody makes is not, whatever the times of their files.

    Raises:
        Lost: a living maker's folder is gone, or a dead one's is left.
    """
    place.mkdir(parents=True)
    dead = place / ".dead.x1.partial"
    with temporary(place / "living") as folder:
        (folder / "half").write_bytes(b"x")
        (dead / "artifact").mkdir(parents=True)
        (dead / "lock").write_bytes(b"")
        then = time.time() + offset
        for path in (dead, dead / "lock", folder, folder.parent, folder.parent / "lock"):
            os.utime(path, (max(then, 0), max(then, 0)))
        with jumping(itertools.repeat(offset)):
            sweep(place)
        if not (folder / "half").is_file() or dead.exists():
            raise Lost("a living maker's folder was swept, or a dead one's is left")
    if left := [path.name for path in place.iterdir()]:
        raise Lost(f"left behind: {left}")
    return "as ever"


def run_in_jumps(
    start: Start, whole: Path, root: Path, stages: tuple[str, ...], offsets: tuple[float, ...]
) -> str:
    """A run whose every start has another clock, and whose files are as old as that: the same artifacts.

    Raises:
        Lost: a start fails, makes again what is there, or makes something else.
    """
    for stage, offset in zip(stages, itertools.cycle(offsets), strict=False):

        def act(stage: str = stage, offset: float = offset) -> None:
            with jumping(itertools.repeat(offset)):
                start(root, stage)

        child = started(act)
        child.join(WAIT)
        if child.exitcode:
            raise Lost(f"{stage} with the clock off by {offset}: exit code {child.exitcode}")
        for path in root.rglob("*"):
            os.utime(path, (max(time.time() + offset, 0),) * 2)
    made, expected = (
        {name: raw for name, raw in files(each).items() if not name.endswith(".lock")}
        for each in (root, whole)
    )
    if made != expected:
        raise Lost("other artifacts than with a steady clock")
    return "as ever"


def bundled(model: Path, place: Path, clock: str, steady: Path) -> str:
    """A bundle sealed and opened by a process whose clock libfaketime sets: the same bytes.

    Raises:
        Lost: other bytes, or a failure.
    """
    library = faketime()
    place.mkdir(parents=True)
    env = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME": clock,
        "PYTHONPATH": str(Path(flowpose.__file__).parents[1]),
    }
    line = [sys.executable, "-c", MAKE, str(model), str(place / "b.tar.gz")]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=WAIT)
    if done.returncode:
        raise Lost(done.stderr[-800:])
    if (place / "b.tar.gz").read_bytes() != steady.read_bytes():
        raise Lost("other bytes than with a steady clock")
    open_artifact(place / "b.tar.gz.opened" / "model")
    return "as ever"


def streamed(model: Path, source: Any, poses: list[Any], offset: float) -> str:
    """A stream whose clock jumps at each look: every frame's times ascend, and ages are small.

    Raises:
        Lost: a time that goes back, or an age of more than a minute.
    """
    session = load(model, backend="onnxruntime", precision="fp32", threads=1).session(source)
    with jumping(itertools.cycle([0.0, offset, -offset])), session.stream() as stream:
        arrived = []
        for pose in poses:
            stream.put(pose)
            frame = stream.get(timeout=30)
            if not 0 <= frame.age < 60:
                raise Lost(f"a frame is {frame.age} s old")
            arrived.append(frame.arrived)
    if arrived != sorted(arrived):
        raise Lost("times go back")
    return "as ever"


def looks_at_the_clock() -> dict[str, list[str]]:
    """Where the package looks at the time of day: file -> calls. Locks, limits and ages must not."""
    package, found = Path(flowpose.__file__).parent, {}
    for path in sorted(package.rglob("*.py")):
        calls = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        ]
        looks = [call for call in calls if call.split("(")[0].removeprefix("datetime.") in CLOCKS]
        if looks:
            found[path.relative_to(package).as_posix()] = looks
    return found


def nowhere_else() -> str:
    """Raises Lost where the package decides by the time of day."""
    others = {name: calls for name, calls in looks_at_the_clock().items() if name not in LOGS}
    if others:
        raise Lost(f"the time of day is looked at: {others}")
    return "as ever"


def clocks(
    model: Path, source: Any, poses: list[Any], start: Start, stages: tuple[str, ...], scratch: Path
) -> Tally:
    """Everything that might look at a clock, at every jump."""
    tally = Tally("clock that jumps, files from the future")
    scratch.mkdir(parents=True)
    tally.take("the package's looks at the time of day", nowhere_else)
    for number, offset in enumerate(JUMPS):
        tally.take(f"sweeping, {offset} s", lambda: swept(scratch / f"sweep-{number}", offset))  # noqa: B023
        tally.take(f"stream, {offset} s", lambda: streamed(model, source, poses, offset))  # noqa: B023
    child = started(lambda: start(scratch / "whole", stages[-1]))
    child.join(WAIT)
    for number, offset in enumerate(JUMPS):
        root, offsets = scratch / f"run-{number}", (0.0, offset, -offset)
        tally.take(f"run, {offset} s", lambda: run_in_jumps(start, scratch / "whole", root, stages, offsets))  # noqa: B023
    steady = seal(model, ["cpu"], scratch / "steady.tar.gz").path
    open_bundle(steady, scratch / "opened")
    for number, clock in enumerate(
        ("-40y", "-1d", "+1d", "+10y", "@1980-01-01 00:00:00", "@2100-01-01 00:00:00", "+0 x1000", "-1d i2.0")
    ):
        tally.take(f"bundle, {clock}", lambda: bundled(model, scratch / f"bundle-{number}", clock, steady))  # noqa: B023
    return tally
