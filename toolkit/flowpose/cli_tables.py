"""Tables of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from flowpose.report.html import COLUMNS, number
from flowpose.spec.manifest import Manifest


def waterfall(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The stages of a run: cost and quality, a line each."""
    table = Table(title="From the baselines to the engine")
    for head, _ in COLUMNS:
        table.add_column(head, justify="left" if head == "stage" else "right")
    for row in rows:
        table.add_row(
            *(number(value, digits) for value, (_, digits) in zip(row.values(), COLUMNS, strict=True))
        )
    return table


def card(manifest: Manifest) -> Table:
    """What an artifact is, on one page."""
    table = Table(show_header=False, box=None)
    size = f"{manifest.image.height} x {manifest.image.width}"
    facts = {
        "kind": manifest.kind, "name": manifest.name, "key": manifest.key, "parent": manifest.parent or "-",
        "picture": size, "pose": manifest.pose.format, "times": ", ".join(f"{t:g}" for t in manifest.times),
        "backend": manifest.backend or "-", "precision": manifest.precision or "-", **manifest.card,
    }  # fmt: skip
    for name, value in facts.items():
        table.add_row(name, value)
    measured = [m for own in manifest.history for m in own.measurements]
    for m in (*measured, *manifest.measurements):
        table.add_row(f"{m.stage}.{m.metric}", f"{m.value:.4g} {m.unit}  n = {m.n}  {m.set}  {m.device}")
    for name, digest in manifest.files.items():
        table.add_row(name, digest)
    return table
