"""The page of `flowpose inspect`: totals, where the work is, every layer and its scales, drawn; one file for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flowpose.half_made import replace_file
from flowpose.report.html import Markup, document, section, table

BINS = 10  # a decade, as the document's histograms have them
BAR, HEIGHT = 100, 10  # a drawing's own units; the style stretches it
Layer = Mapping[str, Any]

STYLE = """
svg{display:block}.share{width:100%;height:1.6rem}.bar{width:7rem;height:.7rem}.scales{width:9rem;height:1.5rem}
.every{width:100%;height:7rem}.axis{display:flex;justify-content:space-between;color:var(--soft);font-size:.8rem}
.codes{fill:var(--good)}.float{fill:var(--soft)}.product{fill:var(--soft);opacity:.45}
.key svg{display:inline-block}
dt{font-weight:600}dd{margin:0 0 .4rem;color:var(--soft)}
"""


def write_anatomy(path: Path | str, found: Mapping[str, Any]) -> Path:
    """Writes the page of an inspection and returns its path.

    Args:
        path: the file; missing folders are made.
        found: the document that `flowpose inspect --json` prints: path, kind, name, key, units, rates, graphs, scales.
    """
    path = Path(path)
    replace_file(path, anatomy_page(found).encode("utf-8"))
    return path


def anatomy_page(found: Mapping[str, Any]) -> str:
    """Returns the page as one HTML text; see `write_anatomy`."""
    body = f"<p>{escape(found['kind'])} <code>{escape(found['key'][:12])}</code></p>\n"
    body += section("Rates", _rates(found["rates"]))
    for graph in found["graphs"]:
        body += section(f"{graph['rate']} in {graph['precision']}, {graph['file']}", _graph(graph))
    body += section("Scales", _scales(found["scales"]))
    body += section("Units", _units(found["units"]))
    return document(f"{found['name']}: layers and rates", body, STYLE)


def _units(units: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in units.items()) + "</dl>"


def _rates(rates: Sequence[Mapping[str, Any]]) -> str:
    heads = ("rate", "file", "precision", "layers", "MACs, M", "in 8 bits", "stored, kB", "results, kB")
    rows = []
    for each in rates:
        ran = each["macs"] > 0
        work = (f"{each['macs'] / 1e6:.1f}", f"{each['share']:.1%}") if ran else ("-", "-")
        results = f"{each['output_bytes'] / 1e3:.0f}" if ran else "-"
        count = str(each["layers"]) if ran else "-"
        stored = f"{each['bytes'] / 1e3:.0f}"
        rows.append((each["rate"], each["file"], each["precision"], count, *work, stored, results))
    return table(heads, rows) if rows else ""


def _graph(graph: Mapping[str, Any]) -> str:
    cover, layers = graph["coverage"], graph["layers"]
    text = (
        f"{graph['macs'] / 1e6:.1f} M multiply-accumulates, {cover['share']:.1%} of them in 8 bits."
        f" {cover['quantized_layers']} layers in 8 bits, {cover['float_layers']} in floating point;"
        f" {cover['float_islands']} stretches of floating point between layers in 8 bits;"
        f" {cover['boundaries']} conversions to codes. File: {graph['file_bytes'] / 1e3:.0f} kB."
    )
    if not layers:
        return f"<p>{text}</p>"
    look = "codes" if cover["quantized_layers"] else "float"
    return f"<p>{text}</p>\n{_work(layers)}\n{_every(layers, look)}\n{_layers(layers)}"


def _look(layer: Layer) -> str:
    if layer["quantized"]:
        return "codes"
    return "product" if layer["product"] else "float"


LOOKS = {
    "codes": "layers in 8 bits",
    "float": "layers in floating point",
    "product": "products of activations",
}


def _work(layers: Sequence[Layer]) -> str:
    """Where the multiply-accumulates are: one bar, and what its parts mean."""
    total = sum(layer["macs"] for layer in layers) or 1
    rects, keys, left = "", "", 0.0
    for look, text in LOOKS.items():
        part = BAR * sum(layer["macs"] for layer in layers if _look(layer) == look) / total
        rects += _rect(look, left, part, HEIGHT)
        square = f'<svg viewBox="0 0 10 10" aria-hidden="true">{_rect(look, 0, 10, HEIGHT)}</svg>'
        keys += f'<span class="key">{square}{escape(text)} {part:.1f} %</span>'
        left += part
    return f"{_drawing('share', BAR, rects, 'share of multiply-accumulates')}<p>{keys}</p>"


def _rect(look: str, left: float, width: float, height: float) -> str:
    """A part of a drawing that stands on its lower edge."""
    top = HEIGHT - height
    return f'<rect class="{look}" x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _drawing(look: str, width: float, shapes: str, text: str) -> Markup:
    box = f'viewBox="0 0 {width:g} {HEIGHT}" preserveAspectRatio="none"'
    return Markup(f'<svg class="{look}" {box} role="img"><title>{escape(text)}</title>{shapes}</svg>')


def _bounds(layers: Sequence[Layer]) -> tuple[int, int]:
    """First bin and number of bins that hold the scales of all layers, so that their drawings share an axis."""
    held = [layer["weight_scales"] for layer in layers if layer["weight_scales"]]
    starts = [round(each["first"] * BINS) for each in held]
    ends = [start + len(each["bins"]) for start, each in zip(starts, held, strict=True)]
    return (min(starts), max(ends) - min(starts)) if held else (0, 0)


def _histogram(scales: Mapping[str, Any], bounds: tuple[int, int], look: str) -> Markup:
    """The scales of a layer on the axis of all layers, the fullest bin as high as the drawing."""
    start, fullest = round(scales["first"] * BINS) - bounds[0], max(scales["bins"])
    bars = "".join(
        _rect(look, start + place, 0.9, HEIGHT * count / fullest)
        for place, count in enumerate(scales["bins"])
        if count
    )
    text = f"{scales['n']} scales from {scales['low']:.2g} to {scales['high']:.2g}, median {scales['median']:.2g}"
    return _drawing("scales", bounds[1], bars, text)


def _every(layers: Sequence[Layer], look: str) -> str:
    """All weight scales in one histogram with its axis; nothing where no layer has any."""
    first, count = _bounds(layers)
    if not count:
        return ""
    bins = [0] * count
    for scales in (layer["weight_scales"] for layer in layers if layer["weight_scales"]):
        for place, number in enumerate(scales["bins"], round(scales["first"] * BINS) - first):
            bins[place] += number
    bars = "".join(_rect(look, place, 0.9, HEIGHT * n / max(bins)) for place, n in enumerate(bins))
    ends = f"<span>{10 ** (first / BINS):.2g}</span><span>{10 ** ((first + count) / BINS):.2g}</span>"
    text = f"{sum(bins)} weight scales, ten bins a decade; the fullest holds {max(bins)}"
    drawn = _drawing("every", count, bars, text)
    return f'{drawn}<div class="axis">{ends}</div><p>{text}. The small drawings share this axis.</p>'


def _layers(layers: Sequence[Layer]) -> str:
    heads = (
        "layer", "op", "in", "MACs, M", "", "stored, kB", "result, kB", "scales", "weight scales", "median",
        "input scale",
    )  # fmt: skip
    bounds, most = _bounds(layers), max(layer["macs"] for layer in layers) or 1
    return table(heads, [_row(layer, bounds, most) for layer in layers], label="layers", sortable=True)


def _row(layer: Layer, bounds: tuple[int, int], most: int) -> tuple[str, ...]:
    macs, stored = layer["macs"], layer["weight_bytes"]
    bar = _drawing(
        "bar", BAR, _rect(_look(layer), 0, BAR * macs / most, HEIGHT), f"{macs} multiply-accumulates"
    )
    costs = (
        f"{macs / 1e6:.2f}",
        bar,
        f"{stored / 1e3:.1f}" if stored else "-",
        f"{layer['output_bytes'] / 1e3:.1f}",
    )
    return (
        layer["name"],
        layer["op"],
        layer["precision"],
        *costs,
        *_scale_cells(layer, bounds, _look(layer)),
    )


def _scale_cells(layer: Layer, bounds: tuple[int, int], look: str) -> tuple[str, str, str, str]:
    scales = layer["weight_scales"]
    inputs = ", ".join(f"{each:.2g}" for each in layer["input_scales"]) or "-"
    if scales is None:
        return ("-", "-", "-", inputs)
    return (str(scales["n"]), _histogram(scales, bounds, look), f"{scales['median']:.2g}", inputs)


def _scales(layers: Sequence[Layer]) -> str:
    """The layers of a quantized student, which has scales and no graphs."""
    bounds = _bounds(layers)
    rows = [
        (layer["name"], *_scale_cells(layer, bounds, "codes"), "yes" if layer["smoothed"] else "no")
        for layer in layers
    ]
    heads = ("layer", "scales", "weight scales", "median", "input scale", "smoothed")
    return f"{_every(layers, 'codes')}\n{table(heads, rows)}" if rows else ""
