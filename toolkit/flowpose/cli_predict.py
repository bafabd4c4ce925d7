"""The command `flowpose predict`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flowpose.cli_options import AsJson, ModelName, put, say

if TYPE_CHECKING:
    from flowpose.predict_command import Forecast, Row

OneTarget = Annotated[
    str | None,
    typer.Option("--target", help="a target's name or file: all of its modes; without it all targets"),
]
Measure = Annotated[
    bool,
    typer.Option("--measure/--no-measure", help="run the model here too, to see how near predictions are"),
]
HEADS = ("target", "mode", "", "backend", "ms", "fps", "a/m/l %", "once ms", "MB")
LEGEND = (
    "Every number is predicted, none measured. ms: the frame graph. a/m/l: shares of it that arithmetic and memory"
    " bound and that launches cost. once: the source graph, once a person. MB: weights and results; ! where the target"
    " has less. ~: counted with floats of two bytes, for the model has no such graph (flowpose halve makes it). *: the"
    " mode that the board starts in."
)


def predict(
    model: ModelName, target: OneTarget = None, measured: Measure = True, as_json: AsJson = False
) -> None:
    """How long a model should take on each target: arithmetic, memory and launches against its peaks."""
    from flowpose.predict_command import predict_model

    found = predict_model(model, target, measured=measured)

    def show() -> None:
        Console().print(*_tables(found, everything=target is not None), sep="\n")
        for text in found.plain["left_out"]:
            say(f"left out: {text}")

    put(found.plain, as_json, show, found.then)


def _tables(found: Forecast, *, everything: bool) -> list[Table]:
    rows = found.rows if everything else tuple(_fastest(found.rows))
    title = (
        "Predicted latency"
        if everything
        else "Predicted latency: the fastest precision and backend in each mode"
    )
    tables = [_rows_table(rows, title)]
    if found.plain["measured_over_predicted"] is not None:
        tables.append(_measured_table(found.plain["measured_over_predicted"]))
    return tables


def _fastest(rows: Sequence[Row]) -> Iterator[Row]:
    """Yields the fastest row of each target's default mode and of its fastest mode."""
    for target in dict.fromkeys(row.target for row in rows):
        own = [row for row in rows if row.target == target]
        first = min((row for row in own if row.default), key=lambda row: row.frame_ms, default=None)
        best = min(own, key=lambda row: row.frame_ms)
        yield from (row for row in dict.fromkeys((first, best)) if row is not None)


def _rows_table(rows: Sequence[Row], title: str) -> Table:
    made = _empty(title, LEGEND)
    for at, head in enumerate(HEADS):
        made.add_column(head, justify="left" if at < 4 else "right", no_wrap=at not in (1, 3))
    for row in rows:
        shares = "/".join(f"{100 * each:.0f}" for each in (row.compute, row.memory, row.launch))
        room = "!" if row.fits is False else ""
        made.add_row(
            row.target, row.mode + ("*" if row.default else ""), row.precision + ("~" if row.assumed else ""),
            row.backend, f"{row.frame_ms:.2f}", f"{row.fps:.0f}", shares, f"{row.source_ms:.2f}",
            f"{row.needs_mb:.0f}{room}",
        )  # fmt: skip
    return made


def _measured_table(found: Mapping[str, Any]) -> Table:
    peaks = ", ".join(f"{name} {value:.2f}" for name, value in found["peaks_over_target"].items())
    caption = (
        f"{found['machine']['cpu']}, threads {found['threads']}, n = {found['n']}, medians. of the limit: the least"
        f" time that the peaks allow over the measured one. One thread's peaks now, over the target's: {peaks or '-'}."
    )
    made = _empty(f"Here, against what target {found['target']} predicts", caption)
    made.add_column("")
    for head in ("measured ms", "predicted ms", "measured / predicted", "of the limit"):
        made.add_column(head, justify="right")
    for label, each in found["graphs"].items():
        numbers = [f"{each[name]:.2f}" for name in ("measured_ms", "predicted_ms", "ratio")]
        made.add_row(label, *numbers, f"{each['share_of_limit']:.0%}")
    return made


def _empty(title: str, caption: str) -> Table:
    return Table(
        title=title, title_justify="left", caption=caption, caption_justify="left", box=None, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
