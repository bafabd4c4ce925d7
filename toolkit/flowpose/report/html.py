"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.spec.manifest import Ancestor, Contestant, GateResult, Measurement

Bytes = NDArray[np.uint8]
Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class StageRow:
    """One line of the waterfall table: what a stage's model costs and how good it is; None if not measured.

    Attributes:
        steps: evaluations of the network a frame.
        megabytes: size of what the runtime needs.
        ms_p50, ms_p95: latency of a frame.
        spectrum_top: amplitude ratio of the finest octave against the truth, 1 is as sharp.
        grid: how far fine detail repeats with blocks of 8 pixels, 1 is not at all.
        pck: share of joints found where asked.
        jitter: levels that the picture of a still pose changes by a pixel that its joints are moved.
    """

    stage: str
    steps: int | None = None
    precision: str | None = None
    megabytes: float | None = None
    ms_p50: float | None = None
    ms_p95: float | None = None
    spectrum_top: float | None = None
    grid: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    own_lpips: float | None = None
    pck: float | None = None
    jitter: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the manifests of a run hold beside the table and the pictures.

    Attributes:
        contest: what was timed when the engine's precision and backend were chosen.
        gates: limits and whether they held.
        measurements: everything measured.
        history: ancestors with their configurations, oldest first.
    """

    contest: Sequence[Contestant] = ()
    gates: Sequence[GateResult] = ()
    measurements: Sequence[Measurement] = ()
    history: Sequence[Ancestor] = ()


# Heading and digits after the point of StageRow's fields, in their order.
COLUMNS: tuple[tuple[str, int], ...] = (
    ("stage", 0),
    ("steps", 0),
    ("precision", 0),
    ("MB", 2),
    ("ms p50", 2),
    ("ms p95", 2),
    ("top octave", 2),
    ("grid", 2),
    ("PSNR dB", 2),
    ("SSIM", 3),
    ("own-LPIPS", 3),
    ("PCK@0.1", 3),
    ("jitter", 2),
)

STYLE = """
:root{--paper:#fff;--ink:#1c1e22;--soft:#5d6470;--line:#dfe2e7;--band:#f5f6f8;--good:#14743f;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--paper:#15171a;--ink:#e7e9ec;--soft:#9aa2ae;--line:#2e3238;
--band:#1d2024;--good:#5fce8f;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.35rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
table.words td,table.words th{text-align:left}
tbody tr:nth-child(even){background:var(--band)}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
figure{margin:0 0 1.2rem}img{max-width:100%;height:auto;background:#fff;border:1px solid var(--line)}
figcaption{color:var(--soft);font-size:.9rem}
details{margin:.4rem 0}summary{cursor:pointer}
pre{overflow-x:auto;background:var(--band);padding:.7rem;font-size:.8rem}
code{font-size:.85rem}
"""


def number(value: object, digits: int) -> str:
    """Returns a value as the tables show it: a dash for None, `digits` after the point for a float."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


class Markup(str):
    """A text that is HTML already, such as a drawing: a table takes it as it stands."""

    __slots__ = ()


def table(heads: Sequence[str], rows: Table, *, words: bool = False) -> str:
    """Returns an HTML table; texts other than Markup are escaped, `words` sets all columns to the left."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{_cell(each)}</td>" for each in row) + "</tr>" for row in rows)
    style = ' class="words"' if words else ""
    return (
        f'<div class="scroll"><table{style}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)


def section(title: str, body: str) -> str:
    """Returns a heading and what stands under it; nothing where there is nothing."""
    return f"<h2>{escape(title)}</h2>\n{body}\n" if body else ""


def _waterfall(rows: Sequence[StageRow]) -> str:
    cells = [[number(v, d) for v, (_, d) in zip(astuple(row), COLUMNS, strict=True)] for row in rows]
    return table([head for head, _ in COLUMNS], cells) if rows else ""


def _gates(gates: Sequence[GateResult]) -> str:
    rows: list[str] = []
    for gate in gates:
        verdict = "passed" if gate.passed else f"waived: {gate.waived}" if gate.waived else "failed"
        look = "good" if gate.passed else "bad"
        cells = (gate.stage, gate.metric, f"{gate.value:.4g}", f"{gate.limit:.4g}")
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr>{texts}<td class="{look}">{escape(verdict)}</td></tr>')
    heads = "".join(f"<th>{head}</th>" for head in ("stage", "metric", "value", "limit", "result"))
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>' if rows else ""


CONTEST = (
    "precision",
    "backend",
    "ms p50",
    "ms p95",
    "n",
    "times",
    "8-bit layers",
    "float",
    "conversions",
    "why",
)
"""Headings of a contest's table; `times` as long as the chosen one, marked with a star."""


def contest_cells(contest: Sequence[Contestant]) -> list[tuple[str, ...]]:
    """Returns a contest's table, a row each candidate under the headings of CONTEST."""
    return [
        (
            f"{each.precision}{' *' if each.chosen else ''}", each.backend, f"{each.p50:.2f}", f"{each.p95:.2f}",
            str(each.n), f"{each.ratio:.2f}", number(each.int8_layers, 0), number(each.float_layers, 0),
            number(each.conversions, 0), each.reason,
        )
        for each in contest
    ]  # fmt: skip


def _contest(contest: Sequence[Contestant]) -> str:
    return table(CONTEST, contest_cells(contest), words=True) if contest else ""


def _measured(measurements: Sequence[Measurement]) -> str:
    heads = ("stage", "metric", "value", "unit", "n", "set", "against", "device")
    rows = [
        (m.stage, m.metric, f"{m.value:.4g}", m.unit, str(m.n), m.set, m.against or "", m.device)
        for m in measurements
    ]
    return table(heads, rows, words=True) if rows else ""


def _history(history: Sequence[Ancestor]) -> str:
    parts: list[str] = []
    for own in history:
        config = escape(json.dumps(own.stage, indent=1, sort_keys=True, default=str))
        head = f"{escape(own.kind)} <code>{escape(own.key[:12])}</code> {escape(own.name)}"
        parts.append(f"<details><summary>{head}</summary><pre>{config}</pre></details>")
    return "".join(parts)


def picture_url(picture: Bytes) -> str:
    """Returns a picture u8[H,W,3] as a data: URL (PNG).

    Raises:
        ImageError: not u8[H,W,3].
    """
    return "data:image/png;base64," + base64.b64encode(image.encode(picture, ".png")).decode("ascii")


def _figures(pictures: Mapping[str, Bytes]) -> str:
    parts: list[str] = []
    for text, picture in pictures.items():
        shown = f'<img alt="{escape(text)}" src="{picture_url(picture)}">'
        parts.append(f"<figure>{shown}<figcaption>{escape(text)}</figcaption></figure>")
    return "".join(parts)


def page(
    title: str,
    rows: Sequence[StageRow],
    pictures: Mapping[str, Bytes],
    *,
    evidence: Evidence = Evidence(),
    facts: Mapping[str, str] | None = None,
) -> str:
    """Returns the report as one HTML text; see `write_html`."""
    facts_table = table(("what", "value"), list((facts or {}).items()), words=True) if facts else ""
    body = (
        section("Stages", _waterfall(rows))
        + section("Pictures", _figures(pictures))
        + section("Gates", _gates(evidence.gates))
        + section("Why this precision", _contest(evidence.contest))
        + section("Facts", facts_table)
        + section("Measurements", _measured(evidence.measurements))
        + section("Made from", _history(evidence.history))
    )
    return document(title, body)


def document(title: str, body: str, style: str = "") -> str:
    """Returns a whole page: the title as heading, and a body of HTML; `style` adds to the house's."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}{style}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )


def write_html(
    path: Path | str,
    title: str,
    rows: Sequence[StageRow],
    pictures: Mapping[str, Bytes],
    *,
    evidence: Evidence = Evidence(),
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes a self-contained HTML report and returns its path.

    Args:
        path: the file; missing folders are made.
        title: heading, such as the recipe's and target's names.
        rows: the waterfall table, one row a stage.
        pictures: caption -> picture u8[H,W,3], embedded as PNG.
        evidence: contest, gates, measurements and ancestors.
        facts: short texts such as device, versions, commands.

    Raises:
        ImageError: a picture of the wrong shape or dtype.
    """
    path = Path(path)
    text = page(title, rows, pictures, evidence=evidence, facts=facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
