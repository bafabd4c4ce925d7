"""What all pages share: the house's style, tables, sections and pictures; a page needs nothing beside it.

A page reads without its script, which only sorts tables and opens what is folded before it is printed. Its content
security policy lets nothing be loaded and runs nothing but what is named by its digest here.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.spec.manifest import Contestant

Bytes = NDArray[np.uint8]
LONG = 60  # characters of a cell that are broken into lines
Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class StageRow:
    """One form of a model, a line of the table of forms: what it costs and how good it is; None if not measured.

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
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1e22;--soft:#565d68;--line:#dfe2e7;--band:#f5f6f8;--good:#14743f;
--warn:#855400;--bad:#b3261e;--bar:#3b78c3;--gone:#c9d3e0;--link:#1a5fa8}
@media (prefers-color-scheme:dark){:root{--paper:#15171a;--ink:#e7e9ec;--soft:#a3abb7;--line:#2e3238;
--band:#1d2024;--good:#5fce8f;--warn:#f0b64a;--bad:#ff8a80;--bar:#5b97dd;--gone:#3a4350;--link:#8ab8f0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;max-width:76rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.4rem 0 .6rem}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.3rem 0;color:var(--soft)}a{color:var(--link)}
.scroll{overflow-x:auto}.scroll:focus-visible{outline:2px solid var(--bar);outline-offset:2px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.35rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
thead th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
tbody th{font-weight:400}
table.tight th,table.tight td{padding-left:.45rem;padding-right:.45rem}
table.words td,table.words th{text-align:left}
td.long{white-space:normal;min-width:16rem;text-align:left}
tbody tr:nth-child(even){background:var(--band)}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}
th[aria-sort=ascending] button::after{content:" \\2191"}th[aria-sort=descending] button::after{content:" \\2193"}
.good{color:var(--good)}.warn{color:var(--warn);font-weight:600}.bad{color:var(--bad);font-weight:600}
figure{margin:0 0 1.2rem}img{max-width:100%;height:auto;background:#fff;border:1px solid var(--line)}
figcaption{color:var(--soft);font-size:.9rem}
details{margin:.4rem 0}summary{cursor:pointer}
pre{overflow-x:auto;background:var(--band);padding:.7rem;font-size:.8rem}
code{font-size:.85rem}
svg.chart{width:100%;min-width:34rem;max-width:46rem;height:auto;display:block}
.key{display:inline-block;margin-right:1.2rem}.key svg{width:.8rem;height:.8rem;margin-right:.35rem}
@media (max-width:40rem){body{padding:1rem .8rem 3rem}th,td{padding:.3rem .5rem}table{font-size:.82rem}}
@media print{:root{--paper:#fff;--ink:#000;--soft:#333;--line:#bbb;--band:#fff;--good:#14743f;--warn:#855400;
--bad:#b3261e;--bar:#3b78c3;--gone:#c9d3e0;--link:#000}
body{max-width:none;padding:0;font-size:9.5pt}nav{display:none}.scroll{overflow:visible}
table{font-size:7.5pt}th,td{padding:.15rem .35rem;white-space:normal}h2,h3{break-after:avoid}
tr,figure,pre{break-inside:avoid}img{max-height:24cm;width:auto}pre{white-space:pre-wrap;overflow-wrap:anywhere}svg.chart{min-width:0}}
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, at) => {
    if (!head.textContent) return;
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = head.textContent; button.title = 'sort by this column';
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      heads.forEach((each) => each.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const read = (row) => row.cells[at].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [read(a), read(b)], [p, q] = [parseFloat(x), parseFloat(y)];
        if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;
        return sign * (isNaN(p) ? x.localeCompare(y) : p - q);
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach((each) => { each.open = true; }));
"""


def number(value: object, digits: int) -> str:
    """Returns a value as the tables show it: a dash for None and what is not finite, `digits` after the point."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


class Markup(str):
    """A text that is HTML already, such as a drawing: a table takes it as it stands."""

    __slots__ = ()


def table(
    heads: Sequence[str],
    rows: Table,
    *,
    words: bool = False,
    label: str = "",
    sortable: bool = False,
    tight: bool = False,
) -> str:
    """Returns an HTML table that scrolls inside itself; texts other than Markup are escaped.

    Args:
        heads, rows: the first cell of a row is its heading.
        words: set all columns to the left.
        label: what the table holds, for those who hear the page.
        sortable: a click on a heading sorts by it, where the page's script may run.
        tight: many columns, set closer together.
    """
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    looks = " ".join(name for name, on in (("words", words), ("sortable", sortable), ("tight", tight)) if on)
    style = f' class="{looks}"' if looks else ""
    return wide(
        f"<table{style}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", label or ", ".join(heads)
    )


def wide(body: str, label: str) -> str:
    """Returns HTML in a box that scrolls sideways where the page is narrower, by keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{body}</div>'


def _cells(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{_cell(first)}</th>' + "".join(map(_data, rest))


def _data(text: str) -> str:
    long = len(text) > LONG and not isinstance(text, Markup)
    return f'<td class="long">{_cell(text)}</td>' if long else f"<td>{_cell(text)}</td>"


def _cell(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)


def section(title: str, body: str) -> str:
    """Returns a heading, which links can lead to, and what stands under it; nothing where there is nothing."""
    return f'<h2 id="{anchor(title)}">{escape(title)}</h2>\n{body}\n' if body else ""


def anchor(title: str) -> str:
    """Returns the id of a section: its title in small letters and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


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


def contest_table(contest: Sequence[Contestant]) -> str:
    """Returns the candidates that were timed when an engine's precision and backend were chosen."""
    return table(CONTEST, contest_cells(contest), words=True, label="candidates") if contest else ""


def picture_url(picture: Bytes, kind: str = ".webp") -> str:
    """Returns a picture u8[H,W,3] as a data: URL.

    Raises:
        ImageError: not u8[H,W,3].
    """
    data = base64.b64encode(image.encode(picture, kind)).decode("ascii")
    return f"data:image/{kind.removeprefix('.')};base64,{data}"


def figures(pictures: Mapping[str, Bytes]) -> str:
    """Returns pictures u8[H,W,3] under their captions, which also are what is said of them to who cannot see them."""
    parts: list[str] = []
    for text, picture in pictures.items():
        height, width = picture.shape[:2]
        shown = f'<img alt="{escape(text)}" width="{width}" height="{height}" src="{picture_url(picture)}">'
        parts.append(f"<figure>{shown}<figcaption>{escape(text)}</figcaption></figure>")
    return "".join(parts)


def document(title: str, body: str, style: str = "") -> str:
    """Returns a whole page: the title as heading, and a body of HTML; `style` adds to the house's."""
    looks = STYLE + style
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta HTTP-EQUIV="Content-Security-Policy" content="{_policy(looks)}"><title>{escape(title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{looks}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>\n{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _policy(style: str) -> str:
    """Nothing from anywhere: embedded pictures, this style and this script."""
    return f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(SCRIPT)}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
