"""The command `flowpose inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flowpose.cli_options import AsJson, ModelName, put, say

Page = Annotated[
    Path | None, typer.Option("--html", help="a page with every layer and histogram is written here")
]
All = Annotated[
    bool, typer.Option("--all", help="show every layer of every graph, not the 20 largest of one")
]


def inspect(artifact: ModelName, html: Page = None, everything: All = False, as_json: AsJson = False) -> None:
    """Layers, precisions, scales, multiply-accumulates and bytes of an artifact, at each rate."""
    from flowpose.inspecting import inspect_artifact
    from flowpose.report.anatomy_html import write_anatomy

    found = inspect_artifact(artifact, everything=everything)
    result = dict(found.plain)
    if html is not None:
        result["html"] = str(write_anatomy(html, found.plain))
        say(f"page: {html}")
    put(result, as_json, lambda: Console().print(*found.tables, sep="\n"), found.then)
