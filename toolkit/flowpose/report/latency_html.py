"""The page of `flowpose bench`: verdict, tables, distributions, timelines, the machine; one file for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from flowpose.bench.document import BenchDocument
from flowpose.bench.records import FrameParts, Latency
from flowpose.bench.scenario_tables import observed_rows
from flowpose.half_made import replace_file
from flowpose.report.curves import colour, distribution, legend, timeline
from flowpose.report.html import document, section, table, wide

STYLE = """
.verdict{font-size:1.05rem;color:var(--ink)}svg.parts{width:100%;max-width:46rem;height:1.4rem;display:block}
"""
STAGE_HEADS = ("model", "stage", "n", "mean", "p50", "p90", "p95", "p99", "fps")
LOOP_HEADS = ("model", "scenario", "poses a query", "n", "seconds", "fps", "p50", "high", "percentiles")
OPEN_HEADS = (
    "model", "queue", "rate", "poses", "p50", "p95", "p99", "high", "missed", "dropped", "fps", "age p50", "age p95",
    "age high",
)  # fmt: skip
Row = tuple[str, ...]


def write_latency(path: Path | str, found: BenchDocument) -> Path:
    """Writes the page of a measurement and returns its path.

    Args:
        path: the file; missing folders are made.
        found: the document, with its samples.
    """
    path = Path(path)
    replace_file(path, latency_page(found).encode("utf-8"))
    return path


def latency_page(found: BenchDocument) -> str:
    """Returns the page as one HTML text; see `write_latency`."""
    look = "good" if found.verdict.kind == "clean" else "bad"
    body = (
        f'<p class="verdict"><span class="{look}">{escape(found.verdict.kind)}</span> {_reasons(found)}</p>\n'
    )
    series = {name: latency.ms for name, latency in _latencies(found).items() if latency.ms}
    body += section("Latency, ms", _stages(found))
    body += section("Closed loops, ms", _closed(found))
    body += section("Open loops, ms from when a pose was due", _open(found))
    body += section("Distributions", wide(distribution(series), "distributions") if series else "")
    body += section("Parts of a frame", "".join(map(_parts, found.frame_parts)))
    lines = (
        f"<h3>{escape(name)}</h3>\n{wide(timeline(ms, at), name)}"
        for at, (name, ms) in enumerate(series.items())
    )
    body += section("Timelines", "\n".join(lines))
    body += section("Frames beside the prediction", _roofline(found))
    body += section("Cold start", _cold(found))
    body += section(
        "The machine meanwhile", table(("what", "found"), observed_rows(found.observed), words=True)
    )
    body += section("Facts", table(("what", "value"), _facts(found), words=True))
    return document(f"{next(iter(found.models.values())).name}: latency on {found.machine.cpu}", body, STYLE)


def _reasons(found: BenchDocument) -> str:
    unseen = f" Not seen: {', '.join(found.verdict.unseen)}." if found.verdict.unseen else ""
    return escape(("; ".join(found.verdict.reasons) or "no rule is broken") + "." + unseen)


def _latencies(found: BenchDocument) -> Mapping[str, Latency]:
    stages = {f"{s.label} {s.stage}": Latency.of(s.ms) for s in found.stages if s.ms}
    closed = {f"{loop.label} {loop.scenario}": loop.latency for loop in found.closed_loops}
    opened = {f"{loop.label} {loop.policy} at {loop.rate:g} Hz": loop.latency for loop in found.open_loops}
    return {**stages, **closed, **opened}


def _stages(found: BenchDocument) -> str:
    rows: list[Row] = [
        (s.label, s.stage, str(s.n), *(_ms(v) for v in (s.mean, s.p50, s.p90, s.p95, s.p99)), f"{s.fps:.1f}")
        for s in found.stages
    ]
    return table(STAGE_HEADS, rows)


def _closed(found: BenchDocument) -> str:
    rows: list[Row] = [
        (
            loop.label, loop.scenario + ("" if loop.complete else ", cut short"), str(loop.poses_per_query),
            str(loop.latency.n), f"{loop.seconds:.0f}", "-" if loop.fps is None else f"{loop.fps:.1f}",
            _ms(loop.latency.p50), _ms(loop.latency.high),
            ". ".join(f"p{tail.share:g}: {tail.text}" for tail in loop.tails),
        )
        for loop in found.closed_loops
    ]  # fmt: skip
    return table(LOOP_HEADS, rows) if rows else ""


def _open(found: BenchDocument) -> str:
    rows: list[Row] = []
    for loop in found.open_loops:
        latency, age = loop.latency, loop.age
        ages = (None, None, None) if age is None else (age.p50, age.p95, age.high)
        rows.append((
            loop.label, loop.policy, f"{loop.rate:g}", str(loop.arrivals),
            *map(_ms, (latency.p50, latency.p95, latency.p99, latency.high)), f"{loop.missed:.1%}", str(loop.dropped),
            f"{loop.fps:.1f}", *map(_ms, ages),
        ))  # fmt: skip
    return table(OPEN_HEADS, rows) if rows else ""


def _parts(found: FrameParts) -> str:
    """A bar of means, and the table of every part."""
    whole = found.whole.mean or 1.0
    bar, at = [], 0.0
    for number, part in enumerate(found.parts.values()):
        bar.append(
            f'<rect x="{100 * at:.2f}" width="{100 * part.mean / whole:.2f}" height="10" fill="{colour(number)}"/>'
        )
        at += part.mean / whole
    drawn = (
        f'<svg class="parts" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
        f"<title>{escape(found.label)}: shares of a frame</title>{''.join(bar)}</svg>"
    )
    rows: list[Row] = [
        (
            name,
            *(
                f"{v:.3f}" if v is not None else "-"
                for v in (each.mean, each.p50, each.p95, each.p99, each.high)
            ),
        )
        for name, each in {**found.parts, "whole": found.whole}.items()
    ]
    text = (
        f"{found.label}: glue {found.glue:.1%} of a frame, parts cover {found.covered:.1%}; poses are arrays in"
        f" {found.format}, n = {found.whole.n}"
    )
    heads = ("part", "mean", "p50", "p95", "p99", "high")
    return f"<p>{escape(text)}</p>\n{drawn}\n{legend(list(found.parts))}\n{table(heads, rows)}\n"


def _roofline(found: BenchDocument) -> str:
    rows: list[Row] = [
        (
            label,
            _ms(each.measured_ms),
            _ms(each.predicted_ms),
            f"{each.ratio:.2f}",
            f"{each.share_of_limit:.0%}",
        )
        for label, each in found.roofline.items()
    ]
    heads = ("model", "measured ms", "predicted ms", "measured / predicted", "share of the limit")
    return table(heads, rows) if rows else ""


def _cold(found: BenchDocument) -> str:
    cold = found.cold_start
    if cold is None:
        return ""
    rows: list[Row] = [
        (name, *(f"{v:.3f}" for v in (getattr(cold, name), min(values), max(values))))
        for name, values in cold.runs.items()
    ]
    text = f"{cold.label}, {cold.n} fresh processes; seconds and MB"
    return f"<p>{escape(text)}</p>\n{table(('part', 'median', 'low', 'high'), rows)}"


def _facts(found: BenchDocument) -> Sequence[Row]:
    machine = found.machine
    models = [
        (
            label,
            f"{m.backend}, {m.precision}, {m.threads} threads, {m.size[0]} x {m.size[1]}, key {m.key[:12]}",
        )
        for label, m in found.models.items()
    ]
    versions = ", ".join(f"{tool} {version}" for tool, version in machine.versions.items())
    return [
        ("model", found.model), ("target", found.target), *models,
        ("processor", f"{machine.cpu}, {machine.cores} cores, {machine.arch}"), ("system", machine.system),
        ("versions", versions), ("peak memory", f"{found.peak_memory_mb:.0f} MB"), ("warm-up", f"{found.warmup} runs"),
    ]  # fmt: skip


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
