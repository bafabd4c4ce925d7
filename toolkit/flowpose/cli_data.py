"""The commands `flowpose data ...`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from flowpose.cli_options import AsJson, print_lines, put, say

if TYPE_CHECKING:
    from flowpose.data.checked import Checked, Problem

SHOWN = 5  # problems of one sort that are printed; --json has all

data = typer.Typer(
    help="Data sets: what is in them and whether they can be trained on.", no_args_is_help=True
)


@data.callback()
def _data() -> None:
    """Data sets: what is in them and whether they can be trained on."""


@data.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="a data set's folder, or one tar of people")],
    sheet: Annotated[Path | None, typer.Option(help="a contact sheet is written here, as sheet.png")] = None,
    as_json: AsJson = False,
) -> None:
    """All that is missing or inconsistent in a data set, with counts; exit code 1 where there is anything."""
    from flowpose.data_check import check_data

    found = check_data(path, sheet)
    result = found.plain() | {"sheet": str(sheet) if sheet else None}
    if sheet is not None:
        say(f"sheet: {sheet}")
    put(result, as_json, lambda: _show(found))
    if found.problems:
        raise typer.Exit(1)


def _show(found: Checked) -> None:
    print_lines([f"{found.path}: {found.kind}", *(f"  {line}" for line in found.taken)])
    Console().print(_table(found))
    print_lines([f"note: {note}" for note in found.notes])
    sorts: dict[str, list[Problem]] = {}
    for problem in found.problems:
        sorts.setdefault(problem.what, []).append(problem)
    for what, problems in sorts.items():
        print_lines([f"{len(problems)} x {what}"])
        print_lines([f"  {_line(problem)}" for problem in problems[:SHOWN]])
        if len(problems) > SHOWN:
            print_lines([f"  and {len(problems) - SHOWN} more (--json lists them)"])
    count = len(found.problems)
    print_lines([f"{count} problem{'' if count == 1 else 's'}" if count else "clean: no problem found"])


def _line(problem: Problem) -> str:
    return f"{problem.where}: got {problem.got}, expected {problem.expected}. Fix: {problem.fix}"


def _table(found: Checked) -> Table:
    table = Table(box=None, pad_edge=False)
    heads = list(dict.fromkeys(head for numbers in found.counts.values() for head in numbers))
    for head in ("split", *heads):
        table.add_column(head, justify="left" if head == "split" else "right")
    for split, numbers in found.counts.items():
        table.add_row(split, *_cells(numbers, heads))
        if split in found.published:
            table.add_row("  published", *_cells(found.published[split], heads))
    return table


def _cells(numbers: Mapping[str, int], heads: list[str]) -> list[str]:
    return [f"{numbers[head]:,}" if head in numbers else "-" for head in heads]
