"""A bar chart as SVG: one bar a row, its name before it and its value behind."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

ROW, NAME, BAR, VALUE = (
    18,
    290,
    360,
    70,
)  # pixels: height of a row; width of a name, of the longest bar, of a value


def bars(rows: Sequence[tuple[str, float]], *, title: str) -> str:
    """Returns the chart as an SVG document; the longest bar is the largest value, and bars start at 0.

    Args:
        rows: (name, value of 0 or more), from the top.
        title: what the values are, with their unit.
    """
    largest = max((value for _, value in rows), default=0.0) or 1.0
    height = ROW * (len(rows) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAME + BAR + VALUE} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<text x="4" y="{ROW}" font-weight="bold" fill="currentColor">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(rows):
        y, width = ROW * (number + 2), BAR * value / largest
        lines.append(
            f'<text x="{NAME - 6}" y="{y}" text-anchor="end" fill="currentColor">{escape(name)}</text>'
            f'<rect x="{NAME}" y="{y - 11}" width="{width:.1f}" height="13" fill="#4a7fb5"/>'
            f'<text x="{NAME + width + 4:.1f}" y="{y}" fill="currentColor">{value:.4g}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"
