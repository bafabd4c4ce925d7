"""The command `flowpose report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flowpose.cli_options import AsJson, print_lines, put, say

Made = Annotated[
    str,
    typer.Argument(
        help="a shipped model's name, or the folder of an artifact, a report or an unpacked bundle"
    ),
]
Page = Annotated[Path | None, typer.Option("--html", help="the page is written here")]
Measured = Annotated[
    Path | None, typer.Option("--measured", help="a report's folder or report.json, where it lies elsewhere")
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="predict for this one what nobody measured; an engine's own without it"),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="print the sentence and the tables as Markdown")]


def report(
    made: Made, html: Page = None, measured: Measured = None, target: Target = None, markdown: Markdown = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The report of a run again, from its artifacts and what it measured: page, table or Markdown; measures nothing."""
    from flowpose.report.run_html import markdown_page, plain, stages_table, write_run
    from flowpose.report_command import find_place, gather

    place = find_place(made, measured)
    found = gather(place, target)
    result = {**plain(found), "artifact": str(place.artifact.path), "html": str(html) if html else None}
    if html is not None:
        say(f"page: {write_run(html, found)}")
    if markdown and not as_json:
        print_lines([markdown_page(found)])
        return
    then = None if html else f"flowpose report {made} --html report.html"
    put(result, as_json, lambda: Console().print(stages_table(found), result["summary"]), then)
