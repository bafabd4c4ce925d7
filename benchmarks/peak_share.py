"""How much of the processor's peak each group of a frame's layers reaches, FP32 and INT8, in both backends.

    python benchmarks/peak_share.py people-128 --json benchmarks/results/people-128-peak-share.json

Milliseconds of every step come from the backends' own profiles (layers.py), multiply-accumulates from the graph
(flowpose.export.anatomy), peaks from products of matrices on as many threads, before and after (flowpose.bench.peaks;
the larger counts). A step of several layers, as OpenVINO makes of attention, has the sum of theirs.

    share of peak = time that the group's operations take at the peak of their precision / time that it took

The peak is that of a product of 256 x 512 x 512: layers whose shapes suit the processor better reach more than 100 %.
Steps that multiply no matrices have no share: what they take is what keeps the frame below the peak. `of a run` is what
a frame takes, without a profile; the rest of the time is spent between steps, and in profiling them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import layers
import onnx
from layers import Inputs, OnnxRuntimeSteps, OpenVinoSteps, Step
from peers_flowpose import inputs

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.peaks import Peaks, measure_peaks
from flowpose.bench.report import percentiles
from flowpose.errors import ArtifactError
from flowpose.export.anatomy import LAYERS, Layer, anatomy
from flowpose.export.graph_view import GraphView
from flowpose.runtime.backend import available_threads, open_backend
from flowpose.runtime.executed import ORT_INT8
from flowpose.runtime.loading import load, onnx_graph, precisions
from flowpose.runtime.machine import machine
from flowpose.runtime.timing import Timing, alternate
from flowpose.spec.find import find

WARMUP = 10
COUNTED = 0.01  # of all multiply-accumulates; where more is not found in a profile, shares would be wrong
LINEAR, PRODUCTS, SAMPLING = "linear layers", "products of activations", "sampling"
CONVERSIONS, REST = "conversions", "arithmetic, norms, moves"
ENDINGS = ("_nchwc", "/WithoutBiases", ".codes", ".all", ".first")
"""What backends and export/integer.py put behind the name of a layer or of its result; `.codes` with a number too."""


@dataclass(frozen=True)
class Place:
    """A layer of a graph.

    Attributes:
        node: its name in the graph.
        group: of the table.
        macs: of one run.
        int8: whether the graph asks for 8 bits.
    """

    node: str
    group: str
    macs: int
    int8: bool


@dataclass(frozen=True)
class Ran:
    """A step that ran: its time, the group that it counts to, and the operations in it.

    Attributes:
        ms: milliseconds.
        group: of the table.
        macs: of the layers in it; 0 for other steps.
        int8: those of them that are computed in 8 bits.
    """

    ms: float
    group: str
    macs: int
    int8: int


class Graph:
    """Finds the layer that a step of a backend computes, by what the step is called."""

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        self._view = GraphView(model, where)
        made = [
            node for node in self._view.nodes
            if node.op_type in LAYERS and self._view.roots(node.output[0]) is None
        ]  # fmt: skip
        found = [
            self._place(node, layer) for node, layer in zip(made, anatomy(model, where).layers, strict=True)
        ]
        self.places = {each.node: each for each in found}
        self._of = {node.output[0]: each.node for node, each in zip(made, found, strict=True)}

    def _place(self, node: onnx.NodeProto, layer: Layer) -> Place:
        shape = self._view.tensor(node.output[0]).shape
        if layer.product:
            return Place(layer.node, PRODUCTS, layer.macs, layer.quantized)
        # Export writes linear layers in INT8 as convolutions over a row of tokens, which are none of pictures.
        if node.op_type.startswith("Conv") and min(shape[2:]) > 1:
            return Place(layer.node, f"convolutions at {shape[2]} x {shape[3]}", layer.macs, layer.quantized)
        return Place(layer.node, LINEAR, layer.macs, layer.quantized)

    def layer(self, name: str) -> str | None:
        """The node's name of the layer that a step's name tells: the layer's own, or that of a result made of its."""
        for known in spellings(name):
            if known in self.places:
                return known
            found = self._behind(known)
            if found is not None:
                return found
        return None

    def _behind(self, tensor: str) -> str | None:
        """The layer whose result went into a tensor, past what backends fuse to it."""
        seen = [tensor]
        for name in seen:  # grows while it is walked through: the nearest layers first
            if name in self._of:
                return self._of[name]
            node = self._view.producer.get(name)
            if node is not None and len(seen) < len(self._view.nodes):
                seen += [each for each in node.input if each and self._view.roots(each) is None]
        return None


def spellings(name: str) -> Iterator[str]:
    """A step's name, and what it was before backends and export put something behind it."""
    yield name
    while True:
        shorter = name.rstrip("0123456789") if ".codes" in name else name
        shorter = next((shorter.removesuffix(end) for end in ENDINGS if shorter.endswith(end)), shorter)
        if "Fusion/" in shorter:  # onnxruntime: NODE/MatmulTransposeFusion//MatMulScaleFusion/
            shorter = shorter[: shorter.index("Fusion/")].rpartition("/")[0]
        if shorter == name:
            return
        name = shorter
        yield name


class OpenVinoLayers(OpenVinoSteps):
    """As `OpenVinoSteps`, and tells which nodes of the file each step was made of."""

    def origins(self) -> dict[str, list[str]]:
        """Step -> nodes."""
        found = {}
        for step in self._request.get_compiled_model().get_runtime_model().get_ops():
            about = step.get_rt_info()
            names = about["originalLayersNames"].astype(str) if "originalLayersNames" in about else ""
            found[step.get_friendly_name()] = [name.strip() for name in names.split(",")]
        return found


def ran_in_onnxruntime(steps: Iterable[Step], graph: Graph) -> list[Ran]:
    """Steps of a profile; those that multiply matrices are the layers that they are named after."""
    free, found = dict(graph.places), []
    for step in steps:
        node = graph.layer(step.name) if multiplies(step) else None
        place = free.pop(node, None) if node is not None else None
        found.append(ran(step, [place] if place else [], step.operator.split(" ")[0] in ORT_INT8))
    return found


def ran_in_openvino(steps: Iterable[Step], graph: Graph, origins: Mapping[str, Sequence[str]]) -> list[Ran]:
    """Steps of a profile: layers by their own name first, then what was fused to one step, by its nodes."""
    free, found = dict(graph.places), []
    ordered = sorted(steps, key=lambda step: not multiplies(step))
    for step in ordered:
        own = [graph.layer(step.name)] if multiplies(step) else []
        nodes = [*own, *origins.get(step.name, ())]
        places = [free.pop(node) for node in dict.fromkeys(nodes) if node in free]
        found.append(ran(step, places, step.operator.lower().endswith(("_i8", "_u8"))))
    return found


def multiplies(step: Step) -> bool:
    """Whether a step is a layer by its operator."""
    return layers.kind_of(step) in ("convolutions", "products with weights", "products of activations")


def ran(step: Step, places: Sequence[Place], short: bool) -> Ran:
    """A step with the layers that it computes; `short`: the backend says that it does so in 8 bits.

    OpenVINO says so of attention as a whole, in which only what the graph asks for is.
    """
    if places:
        group = max(places, key=lambda place: place.macs).group
        int8 = sum(place.macs for place in places if short and place.int8)
        return Ran(step.ms, group, sum(place.macs for place in places), int8)
    kind = layers.kind_of(step)
    return Ran(step.ms, kind if kind in (SAMPLING, CONVERSIONS) else REST, 0, 0)


def check_counted(found: Iterable[Ran], graph: Graph, where: str) -> None:
    """Refuses a profile in which layers are missing.

    Raises:
        ArtifactError: their share of all multiply-accumulates is above COUNTED.
    """
    total, counted = sum(place.macs for place in graph.places.values()), sum(each.macs for each in found)
    if total - counted > COUNTED * total:
        what = "the profile names steps so that their layers are not found"
        raise ArtifactError(
            where, what, got=f"{counted / total:.1%} of the MACs", expected=f"{1 - COUNTED:.0%}"
        )


def profiled(
    path: Path, general: Path, backend: str, given: Inputs, threads: int, n: int
) -> tuple[Timing, Timing, list[Ran]]:
    """Whole runs without and with a profile, in turns, and the steps of the latter.

    Args:
        path: the graph that the backend runs.
        general: the same computation in standard operators, which is what layers are looked up in.
        backend: of flowpose.
        given: the graph's inputs.
        threads: of each run.
        n: runs.
    """
    kind = OpenVinoLayers if backend == "openvino" else OnnxRuntimeSteps
    watched, plain = kind(path, threads), open_backend(backend).open(path, threads)
    actions = {"plain": lambda: plain.run(given), "watched": lambda: watched.run(given)}
    alternate(actions, rounds=WARMUP, warmup=0)
    watched.start()
    timings = alternate(actions, rounds=n, warmup=0)
    graph = Graph(onnx.load(general), str(general))
    if isinstance(watched, OpenVinoLayers):
        found = ran_in_openvino(watched.steps(), graph, watched.origins())
    else:
        found = ran_in_onnxruntime(watched.steps(), graph)
    check_counted(found, graph, f"{path}, {backend}")
    return timings["plain"], timings["watched"], found


def grouped(found: Sequence[Ran], rates: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Group -> its time, its share of all steps', operations, their rate, its share of the peak; `all` comes last."""
    groups: dict[str, list[Ran]] = defaultdict(list)
    for each in found:
        groups[each.group].append(each)
    total = sum(each.ms for each in found)
    slowest = sorted(groups.items(), key=lambda item: -sum(each.ms for each in item[1]))
    return {name: figures(each, total, rates) for name, each in [*slowest, ("all", list(found))]}


def figures(found: Sequence[Ran], total: float, rates: Mapping[str, float]) -> dict[str, float]:
    """The figures of a group; rates are operations a second, of which a multiply-accumulate has two."""
    ms, macs = sum(each.ms for each in found), sum(each.macs for each in found)
    short = sum(each.int8 for each in found)
    return {
        "ms": ms, "share_of_time": ms / total, "steps": len(found), "gmac": macs / 1e9,
        "gmac_s": macs / 1e6 / ms if ms else 0.0, "int8_share": short / macs if macs else 0.0,
        "share_of_peak": least_ms(found, rates) / ms if ms else 0.0,
    }  # fmt: skip


def least_ms(found: Iterable[Ran], rates: Mapping[str, float]) -> float:
    """Milliseconds of the steps' operations at the peaks."""
    return sum(2e3 * (each.int8 / rates["int8"] + (each.macs - each.int8) / rates["fp32"]) for each in found)


def larger(before: Peaks, after: Peaks) -> dict[str, float]:
    """Precision -> operations a second, the larger of both."""
    return {name: max(rate, after.rates[name]) for name, rate in before.rates.items()}


def measured(artifact: Artifact, backends: Sequence[str], threads: int, n: int) -> dict[str, Any]:
    """Peaks, and every precision in every backend."""
    before = measure_peaks(backends, threads=threads)
    given, runs = inputs_of(artifact), {}
    for backend in backends:
        for precision in [each for each in precisions(artifact.manifest) if each in ("fp32", "int8")]:
            files = [onnx_graph(artifact, "frame", precision, each).file for each in (backend, "")]
            paths = [artifact.file(file) for file in files]
            runs[backend, precision] = profiled(paths[0], paths[1], backend, given, threads, n)
    after = measure_peaks(backends, threads=threads)
    rates = larger(before, after)
    rows = [
        {
            "backend": backend, "precision": precision,
            "run": percentiles(plain), "profiled_run": percentiles(watched),
            "groups": grouped(found, rates), "of_a_run": least_ms(found, rates) / plain.percentile(50),
        }
        for (backend, precision), (plain, watched, found) in runs.items()
    ]  # fmt: skip
    peaks = {"used": rates, "before": asdict(before), "after": asdict(after)}
    return {"threads": threads, "n": n, "peaks": peaks, "rows": rows}


def inputs_of(artifact: Artifact) -> Inputs:
    """A context and keypoints: golden ones, or such as take as long."""
    picture, poses = inputs(artifact)
    first = precisions(artifact.manifest)[0]
    model = load(artifact.path, backend="onnxruntime", precision=first, verify=False)
    return {"context": model.encode(picture), "keypoints": model.keypoints(poses[0], model.size)}


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """Markdown."""
    used = report["peaks"]["used"]
    peaks = ", ".join(f"{name} {rate / 2e9:.0f}" for name, rate in used.items())
    yield f"{report['model']}, {report['threads']} threads, n = {report['n']}; peaks in GMAC/s: {peaks}"
    for row in report["rows"]:
        yield ""
        yield (
            f"{row['backend']}, {row['precision']}: a run takes {row['run']['p50']:.2f} ms"
            f" ({row['of_a_run']:.0%} of the peak), its steps {row['groups']['all']['ms']:.2f} ms"
        )
        yield ""
        yield "| group | ms | of the time | GMAC | GMAC/s | in INT8 | of the peak |"
        yield "|---|---|---|---|---|---|---|"
        for name, each in row["groups"].items():
            parts = (f"{each['gmac']:.3f}", f"{each['gmac_s']:.0f}", f"{each['int8_share']:.0%}")
            ends = (*parts, f"{each['share_of_peak']:.0%}") if each["gmac"] else ("", "", "", "")
            yield f"| {name} | {each['ms']:.2f} | {each['share_of_time']:.0%} | " + " | ".join(ends) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a shipped model, or a graph artifact")
    parser.add_argument(
        "--backend", nargs="+", choices=("onnxruntime", "openvino"), default=["onnxruntime", "openvino"]
    )
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--n", type=int, default=200, help="measured runs of each graph")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    artifact = open_artifact(find("models", asked.model))
    about = {"model": artifact.manifest.name, "key": artifact.manifest.key, "machine": asdict(machine())}
    report = {**about, **measured(artifact, asked.backend, asked.threads, asked.n)}
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write("".join(f"{line}\n" for line in table(report)))


if __name__ == "__main__":
    main()
