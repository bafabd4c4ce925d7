"""What `flowpose inspect` shows of an artifact: its layers and their scales, and what each of the three rates costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flowpose.artifact import Artifact, open_artifact
from flowpose.errors import ArtifactError, needing
from flowpose.runtime.loading import onnx_graph, precisions
from flowpose.spec.find import find
from flowpose.spec.manifest import GraphSpec

if TYPE_CHECKING:
    from flowpose.export.anatomy import Anatomy

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # an eighth of a line high to a whole one
EXTRAS = "train,quantize"  # they bring what reads graphs and scales
SHOWN = 20  # layers in the terminal, without --all
TOP_CODES: Mapping[str, float] = {"int8": 127.0, "fp8": 448.0}
"""Precision -> its largest code, whose value is what a scales file keeps as `amax`."""

UNITS: Mapping[str, str] = {
    "macs": "multiply-accumulates of one run: one person (source) or one picture (frame)",
    "bytes": "bytes in the file: the layers' weights, biases and scales; at rate build all other constants",
    "output_bytes": "bytes of the layers' results in one run, in the graph's types",
    "share": "of the multiply-accumulates, 0..1, computed in 8 bits",
    "tensorrt": "release -> what its ONNX parser does not list and what breaks the rules of explicit quantization; at"
    " the top of the graphs that it is given in each precision. Nothing is built",
    "weight_scales": "what a step of a weight's 8-bit codes is worth; `first` is log10 of the first bin's lower edge,"
    " a bin is 0.1 wide",
    "input_scales": "what a step of an input's 8-bit codes is worth",
}
"""Name in the JSON document -> unit."""


@dataclass(frozen=True)
class Rate:
    """What one rate costs in one graph file; see UNITS."""

    rate: str
    file: str
    precision: str
    layers: int
    macs: int
    share: float
    bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Inspection:
    """JSON data, the same as tables, and the next useful command."""

    plain: dict[str, Any]
    tables: tuple[Table, ...]
    then: str


def inspect_artifact(name: str, *, everything: bool = False) -> Inspection:
    """Everything about the layers of a graph, an engine (its graphs) or a quantized student (its scales).

    Multiply-accumulates are counted in the graphs. The measurement `frame_macs` of stage quantize counts fewer: not the
    layers that quantization never touches (1.9 % of people-128: match, carried colours, offsets of detail).

    Args:
        name: as `find` takes it.
        everything: tables of all layers of all graphs, not of the SHOWN largest of the graph that is the model's own.

    Raises:
        ArtifactError, SpecError: no such artifact, one of another kind, or a graph that cannot be counted.
        MissingDependency: the packages that read graphs and scales are not installed.
    """
    artifact = open_artifact(find("models", name))
    manifest = artifact.manifest
    plain: dict[str, Any] = {
        "path": str(artifact.path), **manifest.model_dump(include={"kind", "name", "key"}), "units": dict(UNITS),
        "rates": [], "graphs": [], "scales": [],
    }  # fmt: skip
    if manifest.kind == "quantized":
        plain["scales"] = _read_scales(artifact)
        return Inspection(plain, (_scale_table(plain, everything),), f"flowpose export {manifest.name}")
    if not manifest.graphs:
        raise ArtifactError(
            artifact.path, "has no graphs and no scales", got=manifest.kind,
            expected="graph, engine or quantized", fix=f"flowpose export {manifest.name}",
        )  # fmt: skip
    # A backend's own graph is the general one in that backend's operators.
    found = [(spec, _anatomy(artifact, spec)) for spec in manifest.graphs if spec.backend is None]
    given = _given_to_tensorrt(artifact)
    refused = _refused(artifact, {spec.file for spec, _ in found} | {row["file"] for row in given})
    plain["rates"] = [asdict(each) for each in _rates(found)]
    plain["graphs"] = [_graph(artifact, spec, body, refused[spec.file]) for spec, body in found]
    plain["tensorrt"] = [{**row, "refused": refused[row["file"]]} for row in given]
    tables = [
        _rate_table(plain, halves=manifest.takes_halves()),
        *_layer_tables(plain, manifest.precision, everything),
    ]
    return Inspection(plain, tuple(tables), f"flowpose bench {artifact.path}")


Refused = Mapping[str, list[str]]
"""Release of TensorRT -> what keeps it from taking a graph."""


def _anatomy(artifact: Artifact, spec: GraphSpec) -> Anatomy:
    with needing("inspect", EXTRAS):
        import onnx

        from flowpose.export.anatomy import anatomy
    return anatomy(onnx.load(artifact.file(spec.file)), str(artifact.path / spec.file))


def _given_to_tensorrt(artifact: Artifact) -> list[dict[str, Any]]:
    """The graphs that an engine would be built of in each precision, which may be TensorRT's own."""
    return [
        {"precision": precision, "rate": rate, "file": onnx_graph(artifact, rate, precision, "tensorrt").file}
        for precision in precisions(artifact.manifest)
        for rate in ("source", "frame")
    ]


def _refused(artifact: Artifact, files: Iterable[str]) -> dict[str, Refused]:
    """File of a graph -> what each release of TensorRT has against it."""
    with needing("inspect", EXTRAS):
        import onnx

        from flowpose.export.tensorrt_rules import OPSETS, findings
    models = {file: onnx.load(artifact.file(file)) for file in files}
    return {
        file: {release: [str(each) for each in findings(model, release)] for release in OPSETS}
        for file, model in models.items()
    }


def _read_scales(artifact: Artifact) -> list[dict[str, Any]]:
    """The scales of a quantized student's layers, as JSON data."""
    with needing("inspect", EXTRAS):
        from safetensors.numpy import load_file

        from flowpose.export.scale_summary import summarized
        from flowpose.quantize.quantizers import INPUT, OTHER, SCALES, WEIGHT
    held = load_file(artifact.file(SCALES))
    top = TOP_CODES[artifact.manifest.precision or "int8"]  # older manifests do not say, and are INT8
    names = [key.removesuffix(f".{INPUT}.amax") for key in held if key.endswith(f".{INPUT}.amax")]

    def weights(name: str) -> dict[str, Any] | None:
        amax = held.get(f"{name}.{WEIGHT}.amax")
        return None if amax is None else asdict(summarized(amax / top, name))

    def inputs(name: str) -> list[float]:
        ranges = [held[key] for kind in (INPUT, OTHER) if (key := f"{name}.{kind}.amax") in held]
        return [value for amax in ranges for value in (amax / top).reshape(-1).tolist()]

    return [
        {
            "name": name,
            "weight_scales": weights(name),
            "input_scales": inputs(name),
            "smoothed": f"{name}.{INPUT}.pre_quant_scale" in held,
        }
        for name in sorted(names)
    ]


def _rates(found: Sequence[tuple[GraphSpec, Anatomy]]) -> list[Rate]:
    """The rates from the slowest on: build once for each file, then source and frame."""
    build = [
        Rate("build", spec.file, spec.precision, 0, 0, 0.0, body.constant_bytes, 0) for spec, body in found
    ]
    runs = [
        Rate(
            spec.name, spec.file, spec.precision, len(body.layers), body.macs, body.coverage.share,
            body.weight_bytes, body.output_bytes,
        )
        for spec, body in found
    ]  # fmt: skip
    return build + runs


def _graph(artifact: Artifact, spec: GraphSpec, body: Anatomy, refused: Refused) -> dict[str, Any]:
    """A graph as JSON data: its layers in the order in which they run."""
    size = artifact.file(spec.file).stat().st_size
    layers = [{**asdict(layer), "quantized": layer.quantized} for layer in body.layers]
    about = {"rate": spec.name, "precision": spec.precision, "file": spec.file, "file_bytes": size}
    cover = asdict(body.coverage)
    return {**about, "macs": body.macs, "coverage": cover, "tensorrt": refused, "layers": layers}


Column = tuple[str, Callable[[Mapping[str, Any]], str]]
RATE_COLUMNS: tuple[Column, ...] = (
    ("rate", lambda row: str(row["rate"])),
    ("file", lambda row: str(row["file"])),
    ("layers", lambda row: str(row["layers"] or "-")),
    ("MACs M", lambda row: f"{row['macs'] / 1e6:.1f}" if row["macs"] else "-"),
    ("in 8 bits", lambda row: f"{row['share']:.1%}" if row["macs"] else "-"),
    ("stored kB", lambda row: f"{row['bytes'] / 1e3:.0f}"),
    ("results kB", lambda row: f"{row['output_bytes'] / 1e3:.0f}" if row["macs"] else "-"),
)
LAYER: Column = ("layer", lambda row: str(row["name"]))
HISTOGRAM: Column = (
    "scales",
    lambda row: _blocks(row["weight_scales"]["bins"]) if row["weight_scales"] else "",
)
INPUT_SCALE: Column = ("input", lambda row: ", ".join(map(_short, row["input_scales"])) or "-")
LAYER_COLUMNS: tuple[Column, ...] = (
    LAYER,
    ("in", lambda row: str(row["precision"])),
    ("MACs M", lambda row: f"{row['macs'] / 1e6:.2f}"),
    ("kB", lambda row: _kilobytes(row["weight_bytes"]) if row["weight_bytes"] else "-"),
    ("out", lambda row: _kilobytes(row["output_bytes"])),
    INPUT_SCALE,
    ("weight", lambda row: _short(row["weight_scales"]["median"]) if row["weight_scales"] else "-"),
    HISTOGRAM,
)
SCALE_COLUMNS: tuple[Column, ...] = (
    LAYER,
    INPUT_SCALE,
    ("n", lambda row: str(row["weight_scales"]["n"]) if row["weight_scales"] else "-"),
    ("least", lambda row: _of_weights(row, "low")),
    ("median", lambda row: _of_weights(row, "median")),
    ("largest", lambda row: _of_weights(row, "high")),
    HISTOGRAM,
)
"""Heading, and the text of a row of JSON data."""

RATE_LEGEND = (
    "MACs M: millions of multiply-accumulates of one run (source: a person, frame: a picture). stored kB: 1000 bytes in"
    " the file, of layers' weights; at rate build of all other constants, which export computed once. results kB: what"
    " the layers write in one run, in the graph's types."
)
LAYER_LEGEND = (
    "kB: weights in the file. out: what it writes, kB. input, weight: what a step of the 8-bit codes is worth, in the"
    " median where a weight has many such scales; scales: their histogram, ten bins a decade from the least on. A layer"
    " in fp32 with scales only keeps its weights in a byte each."
)
SCALE_LEGEND = (
    "input: the input's scale, which is what a step of its 8-bit codes is worth. n: how many scales the weights have,"
    " then the least, median and largest of them, and their histogram, ten bins a decade from the least on."
)


def _short(value: float) -> str:
    return f"{value:.2g}"


def _of_weights(row: Mapping[str, Any], which: str) -> str:
    """One of a weight's scales; a product of two activations has none."""
    return _short(row["weight_scales"][which]) if row["weight_scales"] else "-"


def _kilobytes(count: int) -> str:
    return f"{count / 1e3:.{0 if count >= 1e5 else 1}f}"


def _blocks(bins: Sequence[int]) -> str:
    """A histogram as a word: a block a bin, the fullest the highest, a dot for nothing."""
    heights = [math.ceil(count / max(bins) * len(BLOCKS)) for count in bins]
    return "".join(BLOCKS[height - 1] if height else "\u00b7" for height in heights)


def _table(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], legend: str) -> Table:
    table = Table(
        title=title, title_justify="left", caption=legend, caption_justify="left", box=None, collapse_padding=True,
        pad_edge=False,
    )  # fmt: skip
    for column in columns:
        left = column in (columns[0], HISTOGRAM)
        # Of all columns only the histogram gives way on a narrow terminal.
        table.add_column(
            column[0], justify="left" if left else "right", no_wrap=column != HISTOGRAM, overflow="ellipsis"
        )
    for row in rows:
        table.add_row(*(text(row) for _, text in columns))
    return table


def _rate_table(plain: Mapping[str, Any], *, halves: bool) -> Table:
    title = f"{plain['name']}, {plain['kind']}: what each rate costs"
    return _table(
        title, RATE_COLUMNS, plain["rates"], f"{RATE_LEGEND} {_tensorrt(plain, halves=halves)}".rstrip()
    )


def _tensorrt(plain: Mapping[str, Any], *, halves: bool) -> str:
    """What the rules of TensorRT say of the graphs that it is given, and whether `flowpose halve` mends it."""
    rows = plain["tensorrt"]
    releases = f"TensorRT {', '.join(rows[0]['refused'])}" if rows else ""
    worst = {row["file"]: max(row["refused"].values(), key=len) for row in rows}
    broken = {file: found for file, found in worst.items() if found}
    if not broken:
        rules = "operators, types, opset and the rules of explicit quantization"
        return f"{releases}: {rules} hold in every graph that it is given." if rows else ""
    kept = {row["precision"] for row in rows} - {row["precision"] for row in rows if row["file"] in broken}
    told = "; ".join(f"{file} has {len(found)}, as {found[0]}" for file, found in broken.items())
    good = f" The rules hold in {', '.join(sorted(kept))}." if kept else ""
    mend = f" Fix: flowpose halve {plain['path']}" if halves else ""
    return f"{releases}: may refuse what its parser does not list: {told}.{good}{mend}"


def _layer_tables(plain: Mapping[str, Any], precision: str | None, everything: bool) -> list[Table]:
    """All layers of every graph, or the largest of the frame graph that an engine runs or that export made last."""
    graphs = plain["graphs"]
    if not everything:
        frames = [each for each in graphs if each["rate"] == "frame"]
        graphs = ([each for each in frames if each["precision"] == precision] or frames)[-1:]
    return [_layer_table(each, everything) for each in graphs]


def _layer_table(graph: Mapping[str, Any], everything: bool) -> Table:
    layers, cover = graph["layers"], graph["coverage"]
    rows = layers if everything else sorted(layers, key=lambda row: -row["macs"])[:SHOWN]
    title = f"{graph['file']}: {_part(len(rows), len(layers))} by multiply-accumulates"
    if everything:
        title = f"{graph['file']}: all {len(layers)} layers, in the order in which they run"
    counted = (
        f"{cover['quantized_layers']} layers in 8 bits, {cover['float_layers']} in floating point,"
        f" {cover['float_islands']} stretches of floating point between the former, {cover['boundaries']}"
        " conversions to codes. "
    )
    return _table(title, LAYER_COLUMNS, rows, counted + LAYER_LEGEND)


def _scale_table(plain: Mapping[str, Any], everything: bool) -> Table:
    """The layers of a quantized student; without `everything` those whose scales are farthest apart."""
    rows = plain["scales"]
    if not everything:
        rows = sorted(rows, key=_spread, reverse=True)[:SHOWN]
    title = f"{plain['name']}, quantized: {_part(len(rows), len(plain['scales']))} by spread of their scales"
    return _table(title, SCALE_COLUMNS, rows, SCALE_LEGEND)


def _spread(row: Mapping[str, Any]) -> float:
    """How many times the least scale of a weight its largest is; a product has none."""
    scales = row["weight_scales"]
    return float(scales["high"] / scales["low"]) if scales else 0.0


def _part(shown: int, all_: int) -> str:
    return f"all {all_} layers" if shown == all_ else f"the first {shown} of {all_} layers"
