"""The waterfall drawn: a bar for each form from the teacher to the engine, what it lost in a paler one behind it.

Texts are HTML beside the drawings, not in them, so that they stay readable on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flowpose.report.waterfall import Fall

WIDE, HIGH = 100, 10  # a drawing's own units; the style stretches it

STYLE = """
.falls{display:grid;
grid-template-columns:minmax(9rem,19rem) minmax(0,3fr) minmax(0,1fr);gap:.45rem 1rem;align-items:start}
.falls .head{color:var(--soft);font-size:.85rem}.falls svg{display:block;width:100%;height:1.1rem}
.falls .cost{font-variant-numeric:tabular-nums;font-size:.85rem}
.falls .now{fill:var(--bar)}.falls .gone{fill:var(--gone)}
@media (max-width:40rem){.falls{grid-template-columns:minmax(0,3fr) minmax(0,1fr);gap:.1rem .8rem}
.falls .name{grid-column:1/-1;margin-top:.5rem}.falls .corner{display:none}}
"""


def waterfall(made: Sequence[Fall]) -> str:
    """Returns the drawing as HTML; nothing where fewer than two forms have a latency.

    Args:
        made: from the slowest on.
    """
    if len(made) < 2:
        return ""
    longest = max(each.ms for each in made)
    largest = max((each.megabytes or 0.0 for each in made), default=0.0)
    cells = [_head("corner", ""), _head("", "ms a frame, p50"), _head("", "MB")]
    before: Fall | None = None
    for each in made:
        cells.append(f'<div class="name">{escape(each.label)}</div>')
        cells.append(
            _cell(each.ms, before.ms if before else None, longest, f"{each.ms:.2f} ms", _less(each, before))
        )
        held = before.megabytes if before else None
        text = "not known" if each.megabytes is None else f"{each.megabytes:.2f} MB"
        cells.append(_cell(each.megabytes, held, largest, text, ""))
        before = each
    said = "; ".join(f"{each.row} {each.ms:.2f} ms" for each in made)
    return (
        f'<figure><div class="falls" role="group" aria-label="{escape(said)}">{"".join(cells)}</div></figure>'
    )


def _head(look: str, text: str) -> str:
    return f'<div class="head {look}">{text}</div>'


def _less(now: Fall, before: Fall | None) -> str:
    """How many times as fast a form is as the one before it."""
    if before is None or now.ms <= 0:
        return ""
    return f", {before.ms / now.ms:.2f} times as fast as {before.row}"


def _cell(value: float | None, before: float | None, most: float, text: str, more: str) -> str:
    drawn = "" if value is None or most <= 0 else _bars(value, before, most)
    return f'<div class="cost">{drawn}{escape(text)}{escape(more)}</div>'


def _bars(value: float, before: float | None, most: float) -> str:
    gone = "" if before is None or before <= value else _bar("gone", before, most)
    box = f'viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {box}>{gone}{_bar('now', value, most)}</svg>"


def _bar(look: str, value: float, most: float) -> str:
    return f'<rect class="{look}" width="{WIDE * value / most:.2f}" height="{HIGH}"/>'
