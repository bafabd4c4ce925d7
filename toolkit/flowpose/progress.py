"""Progress on stderr: a bar with time left on a terminal, a line every ten seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between lines where there is no terminal


class Advance(Protocol):
    """Called with the number of finished items and a short text of figures."""

    def __call__(self, done: int, text: str = "") -> None: ...


@contextmanager
def tracking(title: str, total: int, start: int = 0) -> Iterator[Advance]:
    """A function that shows how far a task has come; it ends with the block."""
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=total, completed=start, text="")
            yield lambda done, text="": bar.update(task, completed=done, text=text)
    else:
        yield _Lines(console, title, total, start)


def _bar(console: Console) -> Progress:
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    return Progress(*columns, console=console)


class _Lines:
    """Writes a line with the time left, at most every EVERY seconds."""

    def __init__(self, console: Console, title: str, total: int, start: int) -> None:
        self.console, self.title, self.total, self.start = console, title, total, start
        self.begun = self.last = time.monotonic()

    def __call__(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.last < EVERY and done < self.total:
            return
        self.last = now
        rate = (done - self.start) / max(now - self.begun, 1e-9)
        left = (self.total - done) / rate if rate > 0 else float("inf")
        self.console.print(
            f"{self.title} {done}/{self.total}  {text}  {left / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )
