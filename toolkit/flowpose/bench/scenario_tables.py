"""Tables of loops, of a frame's parts and of the machine, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from flowpose.bench.records import ClosedLoop, FrameParts, Observed, OpenLoop


def closed_table(loops: Sequence[ClosedLoop]) -> Table:
    """Returns closed loops as a table: percentiles as they are, and the bounds of early stopping."""
    bound = "bound: the percentile is below it with 99 % confidence (MLPerf's early stopping)"
    made = _empty("Closed loop", "; ".join([bound, *_short(loops)]))
    for head in ("model", "scenario", "percentile"):
        made.add_column(head)
    for head in ("poses", "n", "seconds", "fps", "ms", "bound ms"):
        made.add_column(head, justify="right")
    for loop in loops:
        scenario = loop.scenario if loop.complete else f"{loop.scenario}, cut short"
        for tail in loop.tails:
            made.add_row(
                loop.label, scenario, f"p{tail.share:g}", str(loop.poses_per_query), str(tail.n), f"{loop.seconds:.0f}",
                "-" if loop.fps is None else f"{loop.fps:.1f}",
                _or_needs(tail.raw, tail.raw_needs), _or_needs(tail.bound, tail.bound_needs),
            )  # fmt: skip
    return made


def _short(loops: Sequence[ClosedLoop]) -> list[str]:
    """What the rules ask and some loop does not reach."""
    asked = [each.rules_seconds for each in loops if each.rules_seconds and each.seconds < each.rules_seconds]
    return [f"MLPerf's rules ask for {asked[0]:g} seconds"] if asked else []


def open_table(loops: Sequence[OpenLoop]) -> Table:
    """Returns open loops as a table: latency from when a pose was due, and what a display shows."""
    made = _empty(
        "Open loop",
        "ms from when a pose was due. missed: no picture when the next pose was due. age: of the picture that a"
        f" {loops[0].display_hz:g} Hz display shows, ms" if loops else None,
    )  # fmt: skip
    for head in ("model", "queue"):
        made.add_column(head)
    heads = (
        "rate",
        "poses",
        "p50",
        "p95",
        "p99",
        "high",
        "missed",
        "dropped",
        "fps",
        "age p50",
        "age p95",
        "age high",
    )
    for head in heads:
        made.add_column(head, justify="right")
    for loop in loops:
        latency, age = loop.latency, loop.age
        ages = (None, None, None) if age is None else (age.p50, age.p95, age.high)
        made.add_row(
            loop.label, loop.policy, f"{loop.rate:g}", str(loop.arrivals),
            *map(_ms, (latency.p50, latency.p95, latency.p99, latency.high)),
            f"{loop.missed:.1%}", str(loop.dropped), f"{loop.fps:.1f}", *map(_ms, ages),
        )  # fmt: skip
    return made


def parts_table(found: Sequence[FrameParts]) -> Table:
    """Returns where the time of a frame goes, as a table of medians."""
    formats = ", ".join(dict.fromkeys(each.format for each in found))
    made = _empty(
        "Parts of a frame",
        f"medians, ms; poses are arrays in {formats}. glue: share of all frames' time outside the graph",
    )
    made.add_column("model")
    for head in (*(found[0].parts if found else ()), "whole", "glue", "covered"):
        made.add_column(head, justify="right")
    for each in found:
        parts = [f"{part.p50:.3f}" for part in each.parts.values()]
        made.add_row(each.label, *parts, f"{each.whole.p50:.3f}", f"{each.glue:.1%}", f"{each.covered:.1%}")
    return made


def observed_table(found: Observed) -> Table:
    """Returns the machine meanwhile as a table: what was read, and what could not be."""
    made = _empty("The machine meanwhile", f"{found.n} readings in {found.seconds:.0f} s")
    made.add_column("what")
    made.add_column("found")
    for name, text in observed_rows(found):
        made.add_row(name, text)
    return made


def observed_rows(found: Observed) -> list[tuple[str, str]]:
    """Returns (what, found) of everything that was read, and of what could not be."""
    slope = "-" if found.memory_slope is None else f"{found.memory_slope:+.2f}"
    rows = []
    if found.memory_mb is not None:
        rows.append(
            ("memory", f"{found.memory_mb.end:.0f} MB, peak {found.memory_peak_mb:.0f}, {slope} MB a minute")
        )
    for unit, table in (("MHz", found.clocks), ("C", found.temperatures), ("W", found.power)):
        rows += [(name, f"{each.low:.1f} to {each.high:.1f} {unit}") for name, each in table.items()]
    rows += [
        (name, f"{joules:.1f} J, {joules / found.seconds:.1f} W") for name, joules in found.energy.items()
    ]
    if found.steal is not None and found.others is not None:
        rows.append(("others", f"{found.others:.2f} cores; the hypervisor took {found.steal:.1%}"))
    if found.throttling:
        rows.append(("throttled by", ", ".join(found.throttling)))
    return rows + [(name, f"absent: {why}") for name, why in found.absent.items()]


def _empty(title: str, caption: str | None) -> Table:
    return Table(
        title=title, caption=caption, title_justify="left", caption_justify="left", box=None, pad_edge=False
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _or_needs(value: float | None, needs: int) -> str:
    return f"n below {needs}" if value is None else f"{value:.2f}"
