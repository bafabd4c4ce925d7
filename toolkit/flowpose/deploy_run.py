"""Carrying out a deployment: one step after the other, its output shown as it comes, stopped at the first failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .deploy import Step
from .errors import DeviceError, MissingDependency

KEPT = 12  # last lines of a failed step that its error shows


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status and its last lines."""

    status: int
    last: tuple[str, ...] = ()


def carry_out(
    steps: Sequence[Step],
    run: Callable[[Sequence[str]], Outcome] | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[str, ...]:
    """Returns the names of the steps, all of which succeeded.

    Args:
        steps: in their order.
        run: runs a command to its end; without one it is run here, and its output goes to stderr.
        say: is told each step and its command before it runs.

    Raises:
        MissingDependency: ssh or rsync is not installed here.
        DeviceError: a step failed; has its last lines and how to go on.
    """
    if run is None:
        _check_programs(steps)
        run = run_shown
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.name}: {step.why}\n  {step.line}")
        outcome = run(step.argv)
        if outcome.status:
            last = "\n    ".join(outcome.last) or "no output"
            what = f"failed with exit status {outcome.status}; its last lines:\n    {last}\n "
            fix = f"mend what they say, then go on from here: the same command with --run --from {step.name}"
            raise DeviceError(f"step {step.name}", what, fix=fix)
    return tuple(step.name for step in steps)


def run_shown(argv: Sequence[str]) -> Outcome:
    """Returns how a command ended; its output, errors too, goes line by line to stderr."""
    last: deque[str] = deque(maxlen=KEPT)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            sys.stderr.write(f"  {line}")
            last.append(line.rstrip())
    return Outcome(process.returncode, tuple(last))


def _check_programs(steps: Sequence[Step]) -> None:
    missing = sorted({step.argv[0] for step in steps if shutil.which(step.argv[0]) is None})
    if missing:
        fix = (
            f"sudo apt-get install {' '.join({'ssh': 'openssh-client'}.get(name, name) for name in missing)}"
        )
        raise MissingDependency("deploy", f"needs {' and '.join(missing)}", fix=fix)
