"""How far TensorRT's builder is: a bar on a terminal, a line every ten seconds otherwise.

The builder works in phases within phases, each with a number of steps that it tells at its start; how long it will take
in all it does not tell.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flowpose.progress import EVERY
from flowpose.runtime.tensorrt_library import trt


class Display(Protocol):
    """Shows phases: `start` and `finish` of one, `step` with the number of finished ones; `beat` once in a while."""

    def start(self, phase: str, steps: int) -> None: ...

    def step(self, phase: str, done: int) -> None: ...

    def finish(self, phase: str) -> None: ...

    def beat(self) -> None: ...


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """What TensorRT tells of its progress, passed on to a display; `cancel` ends the build at its next step.

    TensorRT calls it from several threads.
    """

    def __init__(self, display: Display) -> None:
        trt.IProgressMonitor.__init__(self)
        self._display, self._cancelled = display, False

    def cancel(self) -> None:
        """Makes the builder give up; it returns nothing then."""
        self._cancelled = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Takes the begin of a phase of so many steps."""
        self._display.start(phase_name, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Takes the end of a step, counted from 0; returns whether to go on."""
        self._display.step(phase_name, step + 1)
        return not self._cancelled

    def phase_finish(self, phase_name: str) -> None:
        """Takes the end of a phase, though not all of its steps may have been told."""
        self._display.finish(phase_name)


@contextmanager
def showing(title: str) -> Iterator[Display]:
    """A display of a build's phases on stderr; it ends with the block."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield Lines(console, title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        yield Bars(bars, title)


class Bars:
    """A bar for every phase under way, and one for the whole."""

    def __init__(self, bars: Progress, title: str) -> None:
        self._bars, self._tasks = bars, dict[str, TaskID]()
        bars.add_task(title, total=None)

    def start(self, phase: str, steps: int) -> None:
        self._tasks[phase] = self._bars.add_task(f"  {phase}", total=steps)

    def step(self, phase: str, done: int) -> None:
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=done)

    def finish(self, phase: str) -> None:
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))

    def beat(self) -> None:
        """Nothing: the bars' clock runs by itself."""


class Lines:
    """A line with the phases under way and the time since the begin, at most every EVERY seconds."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title, self._lock = console, title, threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}  # phase under way -> steps done, steps in all
        self._begun = self._last = time.monotonic()

    def start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (0, steps)
        self.beat()

    def step(self, phase: str, done: int) -> None:
        with self._lock:
            if phase in self._phases:
                self._phases[phase] = (done, self._phases[phase][1])
        self.beat()

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)
        self.beat()

    def beat(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last < EVERY:
                return
            self._last = now
            parts = [f"{phase} {done}/{steps}" for phase, (done, steps) in self._phases.items()]
        text = f"{self._title}  {', '.join(parts)}  {now - self._begun:.0f} s"
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
