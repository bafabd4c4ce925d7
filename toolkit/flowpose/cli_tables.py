"""Tables of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from flowpose.report.html import COLUMNS, CONTEST, contest_cells, number
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


def contest(engine: Manifest) -> Table:
    """Why an engine has its precision and backend: every candidate that was timed, the chosen one with a star."""
    table = Table(
        title="Why this precision", caption=engine.card.get("choice"), caption_justify="left", box=None
    )
    for head in CONTEST:
        words = head in ("precision", "backend", "why")
        table.add_column(head, justify="left" if words else "right", no_wrap=head in ("precision", "backend"))
    for row in contest_cells(engine.contest):
        table.add_row(*row)
    return table


QUALITY: tuple[tuple[str, str, int], ...] = (
    ("psnr", "PSNR", 2),
    ("ssim", "SSIM", 3),
    ("own_lpips", "LPIPS", 3),
    ("spectrum_top", "octave", 2),
    ("grid", "grid", 2),
    ("pck", "PCK", 3),
    ("identity", "who", 3),
    ("jitter", "jitter", 2),
    ("motion", "motion", 2),
    ("flicker", "flicker", 2),
)
"""Metrics of the quality table: name, heading (short, for 80 columns), digits after the point."""

LEGEND = (
    "LPIPS: own-LPIPS. octave: amplitude of the finest one, 1 is as sharp as the truth. grid: detail that repeats"
    " with blocks of 8 pixels, 1 is none. PCK: at 0.1. who: likeness"
    " of the person. jitter: levels a pixel, of poses. motion: 1 moves as much as the truth."
    " flicker: 1 is as steady, of people."
    " \u00b1: half of the 95 % bootstrap interval; its bounds, n and more metrics with --json."
)


def quality(result: Mapping[str, Any]) -> Table:
    """A model beside its baselines: means, and under each half of its 95 % interval."""
    what = f"{result['set']}, n = {result['n']} pairs, against the {result['reference']}, {result['device']}"
    absent = f"\nNot shipped: {', '.join(result['absent'])}." if result["absent"] else ""
    table = Table(
        title=f"{result['model']}: {what}", caption=LEGEND + absent, caption_justify="left", box=None
    )
    table.add_column("", no_wrap=True)
    for _, head, _ in QUALITY:
        table.add_column(head, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            row["name"], *(_interval(row["metrics"].get(name), digits) for name, _, digits in QUALITY)
        )
    return table


def _interval(found: Mapping[str, float] | None, digits: int) -> str:
    if found is None:
        return "-"
    half = (found["high"] - found["low"]) / 2
    return f"{found['value']:.{digits}f}\n[dim]\u00b1{half:.{digits}f}[/dim]"


def card(manifest: Manifest) -> Table:
    """What an artifact is, on one page."""
    table = Table(show_header=False, box=None)
    size = f"{manifest.image.height} x {manifest.image.width}"
    facts = {
        "kind": manifest.kind, "name": manifest.name, "key": manifest.key, "parent": manifest.parent or "-",
        "picture": size, "pose": manifest.pose.format, "times": ", ".join(f"{t:g}" for t in manifest.times),
        "backend": manifest.backend or "-", "precision": manifest.precision or "-",
        "references": ", ".join(row for each in manifest.references for row in each.grids) or "-", **manifest.card,
    }  # fmt: skip
    for name, value in facts.items():
        table.add_row(name, value)
    measured = [m for own in manifest.history for m in own.measurements]
    for m in (*measured, *manifest.measurements):
        table.add_row(f"{m.stage}.{m.metric}", f"{m.value:.4g} {m.unit}  n = {m.n}  {m.set}  {m.device}")
    for name, digest in manifest.files.items():
        table.add_row(name, digest)
    return table
