"""Tables of the scripts in pages: between two marks, with text around them that is written by hand."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, script: str, table: str) -> None:
    """Puts the table of a script of this folder between the page's two marks `<!-- table: benchmarks/SCRIPT -->`."""
    mark = f"<!-- table: benchmarks/{script} -->"
    before, _, after = page.read_text().split(mark)
    page.write_text(f"{before}{mark}\n{table}{mark}{after}")
