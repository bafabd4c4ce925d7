"""Workers that take turns: each peer in each backend is a process of its own, and only one computes at a time.

A worker that waits for its turn sleeps in a read. Those that fit the memory together sit in one run, always with
flowpose among them. First the networks take turns, then whole frames; flowpose does in both, and what it took beside
whole frames is kept apart, by round: every ratio is of the same turns.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from flowpose.errors import BackendError
from flowpose.runtime.timing import Action, alternate

WORKER = Path(__file__).with_name("peers_worker.py")
FLOWPOSE = "flowpose"
WHOLE = "whole"
TURN_MS = 400.0  # a turn of a short call lasts about so long
MOST = 25  # calls of a turn
SHORT_MS = 200.0  # shorter calls are repeated once, untimed, at the start of a turn: caches are another's
ANSWER_S = 900.0  # no turn takes longer


@dataclass(frozen=True)
class Job:
    """What one worker is for.

    Attributes:
        name: of a peer, or FLOWPOSE.
        backend: of the peer; empty for flowpose, which brings all of its own.
        plan: what the worker is told.
        gb: memory that it takes at the most, 10^9 bytes, estimated.
        calls: network -> how often a frame runs it; empty for flowpose.
    """

    name: str
    backend: str
    plan: Mapping[str, Any]
    gb: float
    calls: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What texts call it."""
        return f"{self.name} {self.backend}".strip()


class Worker:
    """A process that answers lines of JSON. Its stderr goes to a file in the folder; it ends with its session."""

    def __init__(self, label: str, plan: Mapping[str, Any], folder: Path, threads: int) -> None:
        self.label, self._log = label, folder / f"{label.replace(' ', '.')}.log"
        count = str(threads)
        own = {
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps(dict(plan))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, env={**os.environ, **own}, start_new_session=True,
            )  # fmt: skip

    def answer(self, limit_s: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            BackendError: the worker ended, or took too long and was ended.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        why = f"ended: {self._last_words()}" if ready else f"took longer than {limit_s:.0f} s"
        self.close()
        raise BackendError(self.label, why)

    def ask(self, call: str, warmup: int, times: int) -> list[float]:
        """Milliseconds of so many calls; see `answer` for errors."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, "warmup": warmup, "times": times}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BackendError(self.label, f"ended: {self._last_words()}") from error
        return list(self.answer(ANSWER_S)["ms"])

    def _last_words(self) -> str:
        """The last line of stderr, or the signal that ended the process (9: mostly for memory)."""
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"signal {-code}" if code < 0 else (lines or [f"exit code {code}"])[-1][:300]

    def close(self) -> None:
        """Ends the process, and what it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def once(label: str, plan: Mapping[str, Any], folder: Path, threads: int, limit_s: float) -> dict[str, Any]:
    """The one answer of a job that only leaves something; BackendError as `Worker.answer`."""
    worker = Worker(label, plan, folder, threads)
    try:
        return worker.answer(limit_s)
    finally:
        worker.close()


def sittings(jobs: Iterable[Job], gb: float) -> Iterator[list[Job]]:
    """Yields the jobs in order, as many at once as take no more than `gb`; one that takes more sits alone."""
    group: list[Job] = []
    for job in jobs:
        if group and sum(each.gb for each in group) + job.gb > gb:
            yield group
            group = []
        group.append(job)
    if group:
        yield group


@dataclass
class Seat:
    """A worker in a sitting, and what has been measured of it.

    Attributes:
        job: what it is for.
        worker: None where it could not be made ready.
        about: what it said when it was.
        ms: call -> durations, milliseconds; flowpose's are those beside the peers' networks.
        beside: of flowpose: a record as `ms` for each round of whole frames.
        failed: why it was not measured, or not to the end.
    """

    job: Job
    worker: Worker | None = None
    about: dict[str, Any] = field(default_factory=dict)
    ms: dict[str, list[float]] = field(default_factory=dict)
    beside: list[dict[str, list[float]]] = field(default_factory=list)
    failed: str = ""

    def composed(self) -> float:
        """Milliseconds of a frame by its networks: how often each is run times its median."""
        return sum(count * median(self.ms[name]) for name, count in self.job.calls.items())


@dataclass(frozen=True)
class Rules:
    """How a sitting is measured.

    Attributes:
        rounds: turns of each call.
        whole_s: whole frames of a worker are measured, up to `rounds` of them, as many as take no longer than this.
        limit_s: for making a worker ready.
        threads: of every worker.
    """

    rounds: int
    whole_s: float
    limit_s: float
    threads: int


def sit(
    jobs: Sequence[Job], folder: Path, rules: Rules, checked: set[str], say: Callable[[str], None]
) -> list[Seat]:
    """Everything measured of some workers in turns; those that fail are told of in their seats.

    Args:
        jobs: the first one flowpose's.
        folder: for their files.
        rules: of the measurement.
        checked: peers of which one whole frame is drawn in any case, in the backend that is fastest here.
        say: takes a line of progress.
    """
    seats = []
    try:
        for job in jobs:
            seats.append(_seated(job, folder, rules))
            say(f"{job.label}: {seats[-1].failed or 'ready'}")
        turns = {
            f"{seat.job.label} {call}": _turn(seat, call, seat.ms) for seat in seats for call in _calls(seat)
        }
        alternate(turns, rounds=rules.rounds, warmup=0)
        _wholes(seats, rules, checked, say)
    finally:
        for seat in seats:
            if seat.worker is not None:
                seat.worker.close()
    return seats


def _seated(job: Job, folder: Path, rules: Rules) -> Seat:
    """A seat whose worker is ready, or that says why not."""
    worker = Worker(job.label, job.plan, folder, rules.threads)
    begun = time.perf_counter()
    try:
        about = worker.answer(rules.limit_s)
    except BackendError as error:
        return Seat(job, failed=error.what)
    return Seat(job, worker, {**about, "ready_s": time.perf_counter() - begun})


def _calls(seat: Seat) -> list[str]:
    return list(seat.about.get("first_ms", ()))


def _turn(seat: Seat, call: str, into: dict[str, list[float]], times: int | None = None) -> Action:
    """Lets a worker run a call, some times if it is short, and puts the times that it took `into` the record."""
    first = seat.about["first_ms"].get(call, SHORT_MS)
    count = times or max(1, min(MOST, int(TURN_MS / first)))
    warmup = int(first < SHORT_MS)

    def turn() -> None:
        if seat.worker is None or seat.failed:
            return
        try:
            into.setdefault(call, []).extend(seat.worker.ask(call, warmup, count))
        except BackendError as error:
            seat.failed = error.what

    return turn


def _wholes(seats: Sequence[Seat], rules: Rules, checked: set[str], say: Callable[[str], None]) -> None:
    """Whole frames: of each worker as many as there is time for, and one of every peer in `checked`."""
    peers = [seat for seat in seats if seat.worker is not None and not seat.failed and seat.job.calls]
    counts = {
        seat.job.label: int(min(rules.rounds, rules.whole_s * 1e3 // seat.composed())) for seat in peers
    }
    for name in checked:
        own = sorted((seat for seat in peers if seat.job.name == name), key=Seat.composed)
        if own and not any(counts[seat.job.label] for seat in own):
            counts[own[0].job.label] = 1
    flowpose = [seat for seat in seats if seat.job.name == FLOWPOSE]
    for number in range(max(counts.values(), default=0)):
        now = [seat for seat in peers if counts[seat.job.label] > number]
        turns = {seat.job.label: _turn(seat, WHOLE, seat.ms, 1) for seat in now}
        for seat in flowpose:
            seat.beside.append({})
            turns |= {f"{seat.job.label} {call}": _turn(seat, call, seat.beside[-1]) for call in _calls(seat)}
        alternate(turns, rounds=1, warmup=0)
        say(f"whole frames, round {number + 1}: {', '.join(seat.job.label for seat in now)}")
