"""What all commands share: their options, and how results and progress are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="print the result as one JSON document on stdout")]
RecipeName = Annotated[str, typer.Argument(help="a recipe file, or the name of a shipped recipe")]
ModelName = Annotated[str, typer.Argument(help="a shipped model's name, or an artifact's directory")]
TargetName = Annotated[
    str, typer.Option("--target", help="a target file, the name of a shipped one, or auto: this machine")
]
Root = Annotated[Path, typer.Option("--out", help="where artifacts are kept")]
DataRoot = Annotated[
    list[Path] | None, typer.Option("--data", help="folder in which named data sets are looked for")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="recipe value, as train.optim.lr=1e-4")]
Waivers = Annotated[list[str] | None, typer.Option("--waive", help="metric=REASON: a gate that may fail")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads of one run")]
ARTIFACTS = Path("artifacts")


def notes() -> Console:
    """What prints on stderr; made for each use, since it keeps the width that the terminal then has."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line of progress on stderr."""
    notes().print(text, markup=False)


def put(result: Any, as_json: bool, show: Callable[[], None], then: str | None = None) -> None:
    """Prints a result: as JSON, or by `show` and with the next useful command."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    show()
    if then:
        say(f"next: {then}")


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated option."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def print_lines(lines: list[str]) -> None:
    """Plain lines on stdout."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
