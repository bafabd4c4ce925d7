"""The command `flowpose calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flowpose.cli_options import AsJson, DataRoot, print_lines, put, say
from flowpose.data_roots import DEFAULT_ROOTS


def calibrate(
    calibration: Annotated[
        str, typer.Argument(metavar="SET", help="a calibration set's file, or the name of a shipped one")
    ],
    recipe: Annotated[str | None, typer.Option("--recipe", help="whose picture size is taken")] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="picture size, as 128x88 (height, width)")
    ] = None,
    data: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="the lock; artifacts/calib/NAME.json without it")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="put the digest into the set's file")] = False,
    as_json: AsJson = False,
) -> None:
    """Draws a calibration set, checks its digest, and keeps the names of what it drew."""
    from flowpose.calibrate_command import calibrate_set

    roots = tuple(data) if data else DEFAULT_ROOTS
    result = calibrate_set(calibration, recipe=recipe, size=size, roots=roots, out=out, write=write, say=say)

    def show() -> None:
        Console().print(_table(result))
        print_lines([f"digest: {result['digest']}", f"lock: {result['lock']}"])

    # Of drawn pictures the digest holds at one size and on one machine, so nobody is sent to fix it.
    ready = result["fixed"] or result["drawn"]
    put(
        result,
        as_json,
        show,
        "flowpose quantize RECIPE" if ready else f"flowpose calibrate {calibration} --write",
    )


def _table(result: Mapping[str, Any]) -> Table:
    """A line for each sort of pose: how many pictures show it, how many pairs were drawn of it."""
    how = "evenly" if result["even"] else "as the data has them"
    table = Table(title=f"{result['name']}: {result['count']} pairs, drawn {how}")
    table.add_column("stratum")
    for head in ("pictures", "pairs"):
        table.add_column(head, justify="right")
    for row in result["strata"]:
        table.add_row(row["stratum"], str(row["pictures"]), str(row["pairs"]))
    return table
