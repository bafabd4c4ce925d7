"""Distributions and timelines as SVG: every sample counts, the largest ones are always drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 34  # margins, pixels
POINTS = 400  # of a curve, at most
COLOURS = ("#3b78c3", "#d1603d", "#3f9a5b", "#8b5fb8", "#a17d1d", "#2f9aa0", "#c25490", "#77808c")
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)  # where the axis of shares is marked


def distribution(series: Mapping[str, Sequence[float]]) -> str:
    """Returns the cumulative distributions of durations, ms, as SVG with a legend.

    The axis of durations is logarithmic, that of shares is stretched towards 100 %, so that slow samples are seen: from
    90 to 99 % is as far as from 99 to 99.9 %.

    Args:
        series: name -> one or more durations above 0.
    """
    low = min(min(values) for values in series.values())
    high = max(max(values) for values in series.values())
    across = _Log(low, max(high, low * 1.01))
    top = max(-math.log10(1 / (len(values) + 1)) for values in series.values())
    parts = [_line(LEFT, y, WIDTH - RIGHT, y) + _text(LEFT - 6, y + 4, f"{share:.4g}", "end")
             for share, y in _shares(top)]  # fmt: skip
    parts += [
        _text(LEFT + across(tick), HEIGHT - BOTTOM + 16, f"{tick:g}", "middle") for tick in across.ticks()
    ]
    for number, values in enumerate(series.values()):
        at, nines = _cumulative(values)
        points = " ".join(
            f"{LEFT + across(x):.1f},{_height(y, top):.1f}" for x, y in zip(at, nines, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour(number)}" stroke-width="1.6"/>'
        )
    return _drawing(parts, "share of the samples below, %, over ms (logarithmic)") + legend(list(series))


def timeline(values: Sequence[float], number: int = 0) -> str:
    """Returns durations in the order they were taken as SVG; where many share a column, their smallest to largest.

    Args:
        values: one or more durations, ms.
        number: of the colour.
    """
    high = max(values)
    columns = np.array_split(np.asarray(values, np.float64), min(len(values), WIDTH - LEFT - RIGHT))
    step, scale = (WIDTH - LEFT - RIGHT) / len(columns), (HEIGHT - TOP - BOTTOM) / high
    floor = HEIGHT - BOTTOM
    path = "".join(
        f"M{LEFT + (i + 0.5) * step:.1f} {floor - each.min() * scale:.1f}V{floor - each.max() * scale - 1.5:.1f}"
        for i, each in enumerate(columns)
    )
    parts = [_line(LEFT, y, WIDTH - RIGHT, y) + _text(LEFT - 6, y + 4, f"{ms:.3g}", "end")
             for ms, y in ((0.0, floor), (high / 2, (floor + TOP) / 2), (high, TOP))]  # fmt: skip
    parts.append(f'<path d="{path}" stroke="{colour(number)}" stroke-width="{max(1.2, min(step, 3)):.1f}"/>')
    return _drawing(parts, f"ms of {len(values)} samples in their order")


def legend(names: Sequence[str]) -> str:
    """Returns which colour is which, as HTML."""
    keys = "".join(
        '<span class="key"><svg viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect width="10" height="10" fill="{colour(number)}"/></svg>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f"<p>{keys}</p>"


def colour(number: int) -> str:
    """Returns the colour of a series by its number."""
    return COLOURS[number % len(COLOURS)]


class _Log:
    """Places of durations on a logarithmic axis, pixels from its start."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log10(low), math.log10(high)

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return (WIDTH - LEFT - RIGHT) * share

    def ticks(self) -> list[float]:
        """1, 2 and 5 of each decade within; the ends where that is fewer than two."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        inside = [
            f * 10.0**d
            for d in decades
            for f in (1, 2, 5)
            if self._low <= math.log10(f * 10.0**d) <= self._high
        ]
        return inside if len(inside) > 1 else [float(f"{10**end:.3g}") for end in (self._low, self._high)]


def _cumulative(values: Sequence[float]) -> tuple[Floats, Floats]:
    """Durations and their share as a number of nines; of long series so many points as can be told apart."""
    at = np.sort(np.asarray(values, np.float64))
    nines = -np.log10(1 - np.arange(1, len(at) + 1) / (len(at) + 1))
    kept = np.unique(np.searchsorted(nines, np.linspace(nines[0], nines[-1], POINTS)).clip(0, len(at) - 1))
    return at[kept], nines[kept]


def _shares(top: float) -> Iterator[tuple[float, float]]:
    for share in SHARES:
        if -math.log10(1 - share) <= top:
            yield 100 * share, _height(-math.log10(1 - share), top)


def _height(nines: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * nines / top


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="currentColor" stroke-opacity="0.18"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'


def _drawing(parts: Sequence[str], title: str) -> str:
    caption = _text((LEFT + WIDTH) / 2, HEIGHT - 4, title, "middle")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif"'
        f' font-size="11"><title>{escape(title)}</title>{"".join(parts)}{caption}</svg>'
    )
