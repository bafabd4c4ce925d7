"""What `flowpose predict` computes: how long a model should take on every target, and how near that is here."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench import Report
from flowpose.bench.measuring import measure
from flowpose.bench.peaks import FORMS, measure_peaks
from flowpose.bench.recorded import poses_of, recorded
from flowpose.bench.roofline import (
    FAMILIES,
    AgainstRoofline,
    Limits,
    Prediction,
    against_roofline,
    cpu_limits,
    gpu_limits,
    predict,
)
from flowpose.compile.candidates import usable_backends
from flowpose.device.facts import Device, device
from flowpose.errors import ArtifactError, BackendError, MissingDependency, TargetMismatch
from flowpose.pose import Pose
from flowpose.runtime.backend import BACKENDS, ONNX, available_threads
from flowpose.runtime.loading import load, precisions
from flowpose.runtime.machine import machine_arch
from flowpose.runtime.model import Model
from flowpose.spec.costs import COSTS, WIDTHS, Costs, GraphCosts
from flowpose.spec.find import find, shipped
from flowpose.spec.graphs import graph_for, is_onnx
from flowpose.spec.reading import load_recipe, load_target
from flowpose.spec.target import PowerMode, Target
from flowpose.targeting import AUTO, find_target, target_of

UNTRAINED = "untrained"  # the stage that made graphs of a recipe
RUNS, WARMUP = 50, 5  # of the frame graph, for measured over predicted


@dataclass(frozen=True)
class Row:
    """A prediction.

    Attributes:
        target, backend, precision: for which it holds.
        mode: power mode of a GPU, or `2 threads`.
        default: whether the board starts in the mode.
        file: the frame graph that was counted; for fp16 the fp32 graph with floats of two bytes where the model has no
            fp16 graph (`assumed`).
        frame_ms, fps: of the frame graph.
        compute, memory, launch: shares of a frame's time that arithmetic and memory bound, and that launches cost.
        source_ms: of the source graph, once a person.
        bound_ms: the least time of a frame that the peaks allow.
        needs_mb: weights and the largest set of results, 10^6 bytes; the library and the system come on top.
        memory_mb: what the target has; None where not known.
        status: `predicted`: nobody measured it.
    """

    target: str
    backend: str
    precision: str
    mode: str
    default: bool
    file: str
    assumed: bool
    frame_ms: float
    fps: float
    compute: float
    memory: float
    launch: float
    source_ms: float
    bound_ms: float
    needs_mb: float
    memory_mb: int | None
    status: str = "predicted"

    @property
    def fits(self) -> bool | None:
        """Whether the model alone has room; None where the memory is not known."""
        return None if self.memory_mb is None else self.needs_mb < self.memory_mb


@dataclass(frozen=True)
class Forecast:
    """JSON data, the rows, what was left out and why, and the next useful command."""

    plain: dict[str, Any]
    rows: tuple[Row, ...]
    then: str


def predict_model(name: str, target_name: str | None, *, measured: bool = True) -> Forecast:
    """Returns how long a model should take on a target, or on all that ship.

    A recipe that nobody has trained is told of as well, in floating point: its graphs are made with random weights.

    Args:
        name: a model as `find` takes it, or a recipe.
        target_name: as `find` takes it.
        measured: run the model here as well, and say how near the prediction is.

    Raises:
        ArtifactError: the artifact has no graphs, or nothing says what they cost.
        SpecError: no such model or target.
    """
    if _is_recipe(name):
        with tempfile.TemporaryDirectory() as folder:
            return _forecast(_untrained(name, Path(folder)), target_name, measured=measured)
    return _forecast(open_artifact(find("models", name)), target_name, measured=measured)


def _is_recipe(name: str) -> bool:
    """A model of the same name goes first."""
    return name not in shipped("models") and (name in shipped("recipes") or name.endswith((".yaml", ".yml")))


def _untrained(name: str, folder: Path) -> Artifact:
    try:
        from flowpose.export.untrained import untrained_graphs
    except ModuleNotFoundError as error:
        if str(error.name).startswith("flowpose"):
            raise
        what = f"without the package {error.name} its graphs cannot be made"
        raise ArtifactError(f"recipe {name}", what, fix="pip install flowpose[train,quantize]") from error
    recipe = load_recipe(name)
    return untrained_graphs(recipe, folder / recipe.name)


def _forecast(artifact: Artifact, target_name: str | None, *, measured: bool) -> Forecast:
    counted, untrained = read_costs(artifact), artifact.manifest.stage.get("name") == UNTRAINED
    targets = (
        [find_target(target_name)] if target_name else [load_target(each) for each in shipped("targets")]
    )
    rows, left_out = [], []
    for target in targets:
        found = list(_rows(artifact, counted, target))
        rows += found
        if not found:
            left_out.append(f"{target.name}: nobody has measured its processor")
    plain: dict[str, Any] = {
        "model": artifact.manifest.name if untrained else str(artifact.path), "key": artifact.manifest.key,
        "untrained": untrained,
        "targets": [{**asdict(row), "fits": row.fits} for row in rows], "left_out": left_out,
        "measured_over_predicted": _measured(artifact, counted) if measured else None,
    }  # fmt: skip
    then = f"flowpose compile {artifact.path} --target {target_name or AUTO}"
    if untrained:
        then = f"flowpose run {artifact.manifest.name} --target {target_name or AUTO}"
    return Forecast(plain, tuple(rows), then)


def read_costs(artifact: Artifact) -> Costs:
    """Returns what an artifact's graphs cost: from its costs.json, else counted in its ONNX files with onnx.

    Raises:
        ArtifactError: it has no graphs, or no costs.json and the packages that read graphs are not installed.
    """
    manifest = artifact.manifest
    if not manifest.graphs:
        fix = f"flowpose export {manifest.name}"
        raise ArtifactError(
            artifact.path, "has no graphs", got=manifest.kind, expected="graph or engine", fix=fix
        )
    if COSTS in manifest.files:
        return Costs.model_validate_json(artifact.file(COSTS).read_bytes())
    try:
        from flowpose.export.costs import costs
    except ModuleNotFoundError as error:
        if str(error.name).startswith("flowpose"):
            raise
        what = f"has no {COSTS}, and without the package {error.name} its graphs cannot be counted"
        fix = f"flowpose export {manifest.name}, which writes it, or pip install flowpose[train,quantize]"
        raise ArtifactError(artifact.path, what, fix=fix) from error
    return costs(artifact.path, list(filter(is_onnx, manifest.graphs)))


def _rows(artifact: Artifact, counted: Costs, target: Target) -> Iterator[Row]:
    """Every mode, precision and backend of a target that something is known of."""
    for (mode, limits), precision, backend in itertools.product(
        _limits(target), target.precisions, target.backends
    ):
        family = FAMILIES.get((limits.device, backend))
        frame = _frame(artifact, counted, precision, backend, limits)
        if family is None or frame is None:
            continue
        graph, width = frame
        source = counted.of(_file(artifact, counted, "source", precision, backend), artifact.path)
        narrow = None if precision == "fp32" else min(width, 2) if width != graph.width else None
        found, once = (
            predict(each, limits, family, width=w) for each, w in ((graph, width), (source, narrow))
        )
        yield _row(target, mode, precision, backend, (graph, width), (source, once), found)


def _row(
    target: Target,
    mode: PowerMode | str,
    precision: str,
    backend: str,
    frame: tuple[GraphCosts, int],
    source: tuple[GraphCosts, Prediction],
    found: Prediction,
) -> Row:
    graph, width = frame
    label, default = (mode, True) if isinstance(mode, str) else (mode.label, mode.default)
    own = target.gpu.memory_mb if target.gpu is not None and not target.gpu.unified else target.memory_mb
    held = sum(each.weights.bytes(width) for each in (graph, source[0])) + graph.alive.bytes(width)
    return Row(
        target=target.name, backend=backend, precision=precision, mode=label, default=default, file=graph.file,
        assumed=width != graph.width, frame_ms=found.ms, fps=1000 / found.ms, compute=found.compute_ms / found.ms,
        memory=found.memory_ms / found.ms, launch=found.launch_ms / found.ms, source_ms=source[1].ms,
        bound_ms=found.bound_ms, needs_mb=held / 1e6, memory_mb=own,
    )  # fmt: skip


def _limits(target: Target) -> list[tuple[PowerMode | str, Limits]]:
    """Each way in which a target can run, with what it can do at best so; nothing where that is not known."""
    if target.gpu is not None:
        return [(mode, gpu_limits(target, mode)) for mode in target.gpu.modes]
    if target.cpu is None:
        return []
    threads = target.threads or available_threads()
    return [(f"{threads} threads", cpu_limits(target, threads))]


def _frame(
    artifact: Artifact, counted: Costs, precision: str, backend: str, limits: Limits
) -> tuple[GraphCosts, int] | None:
    """The frame graph that a backend runs in a precision, and the bytes of its floats; None: none, or no known rate.

    A GPU is given graphs whose floats are halves (`flowpose halve`); of an artifact without them the others' counts
    are taken, with floats of two bytes.
    """
    if precision not in limits.peaks:
        return None
    file = _file(artifact, counted, "frame", precision, backend)
    if file:
        graph = counted.of(file, artifact.path)
        halved = limits.device == "gpu" and precision == "int8"
        return graph, min(graph.width, WIDTHS["fp16"]) if halved else graph.width
    whole = _file(artifact, counted, "frame", "fp32", backend) if precision == "fp16" else ""
    return (counted.of(whole, artifact.path), WIDTHS["fp16"]) if whole else None


def _file(artifact: Artifact, counted: Costs, name: str, precision: str, backend: str) -> str:
    """The counted file of the graph that a backend is given; empty where there is none."""
    known = {each.file for each in counted.graphs}
    graphs = (graph for graph in artifact.manifest.graphs if graph.file in known)
    graph = graph_for(graphs, name, precision, backend)
    return "" if graph is None else graph.file


def beside_prediction(
    artifact: Artifact, counted: Costs, target: Target, models: Mapping[str, Model], report: Report
) -> dict[str, AgainstRoofline]:
    """Returns label -> the measured median of a model's frame graph beside what this machine should take.

    Models in a backend or a precision that nothing is known of are left out.

    Args:
        artifact, counted: whose graphs the models run, and what they cost.
        target: that this machine is.
        models: of the artifact, by label.
        report: of a measurement of them that has the stage `frame`.
    """
    found, seen = {}, device() if target.gpu is not None else None
    for label, model in models.items():
        limits = limits_here(target, model.threads, seen)
        family = FAMILIES.get((limits.device, model.backend))
        frame = _frame(artifact, counted, model.precision, model.backend, limits)
        if family is not None and frame is not None:
            expected = predict(frame[0], limits, family, width=frame[1])
            found[label] = against_roofline(expected, report.timing(label, "frame").percentile(50))
    return found


def limits_here(target: Target, threads: int, seen: Device | None) -> Limits:
    """Returns what this machine, which is the target, can do at best: of a GPU with the SMs and the clock it has now.

    Raises:
        TargetMismatch: nobody has measured the target's processor.
    """
    if target.gpu is None or seen is None:
        return cpu_limits(target, threads)
    name = seen.power_mode.name if seen.power_mode is not None else ""
    named = [mode for mode in target.gpu.modes if mode.name == name]
    mode = max(named or [target.gpu.default or target.gpu.best], key=lambda each: each.bandwidth)
    clock = (
        seen.gpu_max_mhz if seen.kind == "jetson" else None
    )  # of a card NVML tells the chip's, which it never runs at
    return gpu_limits(target, mode, sms=seen.sms, mhz=clock)


def _measured(artifact: Artifact, counted: Costs) -> dict[str, Any] | None:
    """The frame graph here against what this machine's target predicts: every backend and precision in turns.

    None where nothing is known of this machine, or where none of its backends runs the artifact's graphs as they are.
    """
    try:
        target = target_of(device(), machine_arch())
        models = _models(artifact, target) if target.gpu is not None or target.cpu is not None else {}
    except (BackendError, MissingDependency, TargetMismatch):
        return None
    if not models:
        return None
    first = next(iter(models.values()))
    source, poses = _inputs(artifact, first.precision)
    report = measure(models, source, poses, n=RUNS, warmup=WARMUP, stages=("frame",))
    found = beside_prediction(artifact, counted, target, models, report)
    if not found:
        return None
    return {
        "target": target.name, "threads": first.threads, "n": RUNS, "machine": asdict(report.machine),
        "ratio": float(np.median([each.ratio for each in found.values()])),
        "graphs": {label: asdict(each) for label, each in found.items()}, "peaks_over_target": _peaks_here(target),
    }  # fmt: skip


def _inputs(artifact: Artifact, precision: str) -> tuple[NDArray[np.uint8], list[Pose]]:
    """A picture u8[H,W,3] and poses: golden ones, else noise, which takes as long."""
    if artifact.manifest.golden is not None:
        return recorded(artifact, precision)
    image, rng = artifact.manifest.image, np.random.default_rng(0)
    picture = rng.integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
    places = rng.uniform(0, image.width, (1, artifact.manifest.pose.joints, 2))
    keypoints = np.concatenate([places, np.ones_like(places[..., :1])], axis=-1).astype(np.float32)
    return picture, poses_of(artifact.manifest, keypoints)


def _models(artifact: Artifact, target: Target) -> dict[str, Model]:
    """What this machine can run of the artifact without compiling it, by label."""
    manifest = artifact.manifest
    if manifest.kind == "engine":
        return {f"{manifest.precision} {manifest.backend}": load(artifact.path)}
    backends, _ = usable_backends(target)
    kind, have, known = (
        "cpu" if target.gpu is None else "gpu",
        precisions(manifest),
        manifest.golden is not None,
    )
    threads = min(target.threads or available_threads(), available_threads())
    return {
        f"{precision} {backend}": load(
            artifact.path, backend=backend, precision=precision, threads=threads, verify=known
        )
        for backend in backends
        if BACKENDS[backend].suffix == ONNX and (kind, backend) in FAMILIES
        for precision in target.precisions
        if precision in have
    }


def _peaks_here(target: Target) -> dict[str, float]:
    """This machine's rates on one thread, now, in units of the target's: what other work takes is seen here."""
    if target.cpu is None:
        return {}
    found = measure_peaks([each for each in target.backends if each in FORMS], threads=1)
    rates = {str(each): found.rates[each] / peak for each, peak in target.cpu.peaks.items()}
    return {**rates, "bandwidth": found.bandwidth / target.cpu.bandwidth}
