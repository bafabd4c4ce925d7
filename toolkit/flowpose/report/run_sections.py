"""The sections of a run's page below the waterfall; each says what is missing rather than leave a hole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flowpose.report.curves import distribution
from flowpose.report.html import Bytes, Markup, figures, number, table, wide
from flowpose.report.line import Line, Stage
from flowpose.report.run_record import LayerNoise, RunRecord
from flowpose.spec.manifest import GateResult, Measurement

SHOWN = 20  # layers of the sensitivity plot that are not folded away
SAME = 100.0  # dB: no picture differs
SAMPLES = "ms"  # key of a stage's durations in latency.json
POINTS = ("p50", "p90", "p95", "p99")


def identity(line: Line, record: RunRecord, latency: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns what was made, for what, where and when: name -> text."""
    head = line.head
    made = f"{head.kind}, pictures of {head.image.height} x {head.image.width}, poses in {head.pose.format}"
    ran = f"{head.precision} on {head.backend}" if head.kind == "engine" else ""
    facts = {
        "model": head.name, "key": head.key[:12], "made": made, "runs": ran,
        "target": line.target or record.target or "",
        "machine": _machine(latency, line), "measured on": _judged(record), "date": record.made or "not kept",
        "flowpose": head.built_with.get("flowpose", "not kept"),
    }  # fmt: skip
    return {name: text for name, text in facts.items() if text}


def _machine(latency: Mapping[str, Any] | None, line: Line) -> str:
    if latency:
        found = latency["machine"]
        return f"{found['cpu']}, {found['cores']} cores, {found['arch']}, {found['system']}"
    return ", ".join(dict.fromkeys(m.device for m in line.head.measurements if m.device)) or "not measured"


def _judged(record: RunRecord) -> str:
    if record.data is None:
        return ""
    return f"{record.pairs} pairs of {record.data}, drawn with seed {record.seed}"


def latency(found: Mapping[str, Any] | None) -> str:
    """Returns the percentiles of all forms, and their distribution where the durations were kept."""
    if not found or not found.get("stages"):
        return "<p>No latency was measured.</p>"
    heads = ("form", "graph", "n", "mean", *POINTS, "fps")
    rows = [
        (
            s["label"],
            s["stage"],
            str(s["n"]),
            *(number(None if s[p] is None else float(s[p]), 2) for p in ("mean", *POINTS)),
            f"{s['fps']:.1f}",
        )
        for s in found["stages"]
    ]
    series = {f"{s['label']} {s['stage']}": s[SAMPLES] for s in found["stages"] if s.get(SAMPLES)}
    frames = {name: ms for name, ms in series.items() if name.endswith(" frame")}
    drawn = wide(distribution(frames), "distribution of latencies") if frames else (
        "<p>The single durations were not kept, so no distribution can be drawn.</p>"
    )  # fmt: skip
    text = "Milliseconds; the forms took turns in one run. No sample was left out."
    return f"<p>{text}</p>{drawn}{table(heads, rows, label='latency, ms')}"


def gates(results: Sequence[GateResult]) -> str:
    """Returns every limit, what was measured, and what came of it."""
    if not results:
        return "<p>The recipe sets no gates, so nothing was judged.</p>"
    rows = [
        (
            each.stage, each.metric, f"{each.value:.4g}", limit_text(each), each.of or "-",
            "the target" if each.by == "target" else "the recipe", _outcome(each),
        )
        for each in results
    ]  # fmt: skip
    heads = ("stage", "metric", "value", "limit", "as a factor of", "set by", "result")
    return table(heads, rows, words=True, label="gates")


def limit_text(gate: GateResult) -> str:
    """Returns a limit and its side; a manifest keeps no side, so it is told from value and result."""
    if gate.value == gate.limit:
        return f"{gate.limit:.4g}"
    lower = (gate.value > gate.limit) == gate.passed
    return f"{'at least' if lower else 'at most'} {gate.limit:.4g}"


def _outcome(gate: GateResult) -> Markup:
    if gate.passed:
        return Markup('<span class="good">passed</span>')
    if gate.waived is not None:
        return Markup(f'<span class="warn">waived: {escape(gate.waived)}</span>')
    return Markup('<span class="bad">failed</span>')


def worst(record: RunRecord, pictures: Mapping[str, Bytes]) -> str:
    """Returns the pairs that the engine draws worst, with what is wrong and where it begins."""
    if not record.worst and not pictures:
        return "<p>The worst cases were not kept.</p>"
    others = list(dict.fromkeys(row for each in record.worst for row in each.beside))
    metrics = ("own_lpips", "pck", "identity", "spectrum_top")
    heads = (
        "pair",
        "why",
        "own-LPIPS",
        "PCK@0.1",
        "identity",
        "top octave",
        *(f"{row} own-LPIPS" for row in others),
    )
    rows = [
        (
            str(each.pair), each.why, *(number(each.scores.get(name), 3) for name in metrics),
            *(number(each.beside.get(row), 3) for row in others),
        )
        for each in record.worst
    ]  # fmt: skip
    shown = table(heads, rows, words=True, label="worst cases") if rows else ""
    return figures(pictures) + shown


def sensitivity(layers: Sequence[LayerNoise]) -> str:
    """Returns what quantizing each layer alone costs, the most sensitive first; nothing where nobody measured it."""
    if not layers:
        return ""
    low = min(each.low for each in layers)
    high = max(
        (each.psnr for each in layers if each.psnr < SAME), default=SAME
    )  # those at SAME stand at the end
    rows = [
        (each.layer, number(each.psnr, 1), number(each.low, 1), _noise(each, low, max(high - low, 1e-6)))
        for each in layers
    ]
    heads = ("layer", "PSNR dB", "5th percentile", f"{low:.0f} to {high:.0f} dB")
    text = (
        "PSNR to the student with this layer alone quantized: its mean, and the line goes down to the 5th percentile."
        " The further left, the more the layer costs."
    )
    rest = ""
    if len(rows) > SHOWN:
        more = table(heads, rows[SHOWN:], label="less sensitive layers")
        rest = f"<details><summary>the other {len(rows) - SHOWN} layers</summary>{more}</details>"
    return f"<p>{text}</p>{table(heads, rows[:SHOWN], label='most sensitive layers')}{rest}"


def _noise(layer: LayerNoise, low: float, span: float) -> Markup:
    start, end = (2 + 96 * min((value - low) / span, 1.0) for value in (layer.low, layer.psnr))
    return Markup(
        f'<svg class="noise" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"><title>{layer.low:.1f} to'
        f' {layer.psnr:.1f} dB</title><path class="low" d="M{start:.1f} 5H{end:.1f}"/>'
        f'<rect class="mid" x="{end - 1.5:.1f}" width="3" height="10"/></svg>'
    )


def predicted(record: RunRecord, line: Line) -> str:
    """Returns what a frame should take on every target; nobody measured any of it."""
    if not record.predicted:
        return ""
    own = line.target or record.target
    rows = [
        (
            f"{row['target']}{' (of this run)' if row['target'] == own else ''}", row["mode"], row["backend"],
            row["precision"], number(float(row["frame_ms"]), 2), number(float(row["fps"]), 0),
            number(float(row["source_ms"]), 2), _bound(row), "predicted",
        )
        for row in record.predicted
    ]  # fmt: skip
    heads = (
        "target",
        "mode",
        "backend",
        "precision",
        "ms a frame",
        "fps",
        "ms a person",
        "bound by",
        "status",
    )
    text = (
        "Predicted, not measured: from the operations of the graphs and the published rates of the targets (flowpose"
        " predict). The fastest backend and precision of each target, in the mode that it starts in and in its fastest."
    )
    return f"<p>{text}</p>{table(heads, rows, words=True, label='predictions', sortable=True)}"


def _bound(row: Mapping[str, Any]) -> str:
    name = max(("compute", "memory", "launch"), key=lambda each: float(row[each]))
    return f"{name} {float(row[name]):.0%}"


def training(record: RunRecord) -> str:
    """Returns the pace of every training; nothing where none was kept."""
    heads = ("task", "steps", "of them timed", "ms a step", "s at this pace")
    rows = [
        (
            name, str(each.iterations), str(each.counted), number(1000 * each.seconds / each.counted, 0),
            number(each.whole, 0),
        )
        for name, each in record.training.items()
    ]  # fmt: skip
    text = (
        "A training that was stopped and resumed timed the steps of its last process only; pictures, checkpoints and"
        " measurements are not in it."
    )
    return f"{table(heads, rows, label='training')}<p>{text}</p>" if rows else ""


def card(line: Line) -> str:
    """Returns what the pictures and weights may be used for, and what is known to be wrong with them."""
    configs = [(stage.name, stage.config) for stage in line.stages]
    rows = list(line.head.card.items())
    rows += [("read from", json.dumps(own["data"], sort_keys=True)) for _, own in configs if "data" in own]
    digests = dict.fromkeys(str(own["data_digest"]) for _, own in configs if "data_digest" in own)
    rows += [("sha256 of what was trained on", digest) for digest in digests]
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="facts">{body}</dl>' if rows else "<p>The recipe has no card.</p>"


def again(record: RunRecord) -> str:
    """Returns the commands that make all this again."""
    if not record.commands:
        return ""
    text = "Equal recipes give equal keys, and what exists is skipped; latencies are of the machine that runs them."
    return f"<p>{text}</p><pre>{escape(chr(10).join(record.commands))}</pre>"


def environment(line: Line, latency: Mapping[str, Any] | None) -> str:
    """Returns tool versions of each stage that is at hand, and of the measuring process."""
    known = {each.name: dict(each.built_with) for each in line.stages if each.built_with}
    if latency:
        known["this report"] = dict(latency["machine"]["versions"])
    tools = list(dict.fromkeys(tool for versions in known.values() for tool in versions))
    rows = [(name, *(versions.get(tool, "-") for tool in tools)) for name, versions in known.items()]
    rows = list(dict.fromkeys(rows))
    return table(("stage", *tools), rows, words=True, label="versions") if rows else ""


def history(line: Line) -> str:
    """Returns every stage with its key and what made it, folded."""
    return "".join(map(_ancestor, line.stages))


def _ancestor(stage: Stage) -> str:
    config = escape(json.dumps(stage.config, indent=1, sort_keys=True, default=str))
    head = f"{escape(stage.name)} <code>{escape(stage.key)}</code>"
    held = f"<pre>{config}</pre>" if stage.config else "<p>Only its key is known here.</p>"
    return f"<details><summary>{head}</summary>{held}</details>"


def measured(measurements: Sequence[Measurement]) -> str:
    """Returns the table of all measurements, folded."""
    if not measurements:
        return "<p>Nothing was measured.</p>"
    heads = ("stage", "metric", "value", "unit", "n", "set", "against", "device")
    rows = [
        (m.stage, m.metric, f"{m.value:.4g}", m.unit, str(m.n), m.set, m.against or "", m.device)
        for m in measurements
    ]
    held = table(heads, rows, words=True, label="measurements", sortable=True)
    return f"<details><summary>{len(rows)} measurements</summary>{held}</details>"
