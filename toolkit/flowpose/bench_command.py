"""What `flowpose bench` measures: a model in every precision and backend asked for, in one alternating run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from flowpose import bench
from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.document import BenchDocument, ModelFacts, StageLatency
from flowpose.bench.recorded import recorded
from flowpose.bench.records import ClosedLoop, ColdStarts, FrameParts, Latency, OpenLoop
from flowpose.bench.report import percentiles
from flowpose.bench.roofline import AgainstRoofline
from flowpose.bench.scenario_tables import closed_table, observed_table, open_table, parts_table
from flowpose.bench.scenarios import ScenarioPlan, closed_loops, open_loops
from flowpose.device.facts import device
from flowpose.errors import TargetMismatch
from flowpose.pose import Pose
from flowpose.predict_command import beside_prediction, read_costs
from flowpose.runtime import Model, load
from flowpose.runtime.machine import machine_arch
from flowpose.spec.costs import COSTS
from flowpose.spec.find import find
from flowpose.spec.target import Target
from flowpose.targeting import find_target

GIVEN_AS = "coco-17"  # format of the arrays that a frame's parts are measured with: what most detectors give
JUDGED = ("frame", "session")  # stages that a verdict looks at; the others are paid once a person


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What is measured.

    Attributes:
        precisions, backends: to compare; without any the model's own.
        runs: timed runs of each stage.
        threads: CPU threads; without it an engine's own, and for a graph the target's.
        cold_runs: fresh processes that are timed on their way to the first picture.
        scenarios: loops that follow.
    """

    precisions: Sequence[str] = ()
    backends: Sequence[str] = ()
    runs: int = 200
    threads: int | None = None
    cold_runs: int = 1
    scenarios: ScenarioPlan = field(default_factory=ScenarioPlan)


@dataclass(frozen=True)
class BenchReport:
    """The document, with every sample, and the same as tables."""

    document: BenchDocument
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class _Run:
    """Models by label, what they are timed on (a picture u8[H,W,3] and poses), and the plan."""

    models: Mapping[str, Model]
    source: NDArray[np.uint8]
    poses: Sequence[Pose]
    plan: BenchPlan


def bench_model(name: str, target_name: str, plan: BenchPlan) -> BenchReport:
    """Returns latency of a model on its own golden picture and poses, what the machine did meanwhile, and a verdict.

    Args:
        name, target_name: as `find` takes them.
        plan: what is measured.

    Raises:
        TargetMismatch: the target lacks a precision or backend that was asked for, or threads below 1.
        ArtifactError, SpecError: no such model or target.
        FlowposeError: nothing to measure, or an unknown scenario.
    """
    plan.scenarios.check()
    target, path = find_target(target_name), find("models", name)
    artifact = open_artifact(path)
    _check_asked(target, plan)
    models = _models(path, plan, _threads(artifact, target, plan))
    run = _Run(models, *recorded(artifact, next(iter(models.values())).precision), plan)
    with bench.Watch() as watch:
        report = bench.measure(models, run.source, run.poses, n=plan.runs)
        parts, closed, opened = tuple(_parts(run)), tuple(_closed(run)), tuple(_open(run))
    beside = _beside_prediction(artifact, target, models, report)
    cold, observed = _cold(path, run), watch.observed()
    evidence = bench.Evidence(_judged(report, closed, opened), observed, elsewhere(target))
    document = BenchDocument(
        model=str(path), target=target.name, verdict=bench.judge(evidence), machine=report.machine,
        models={label: ModelFacts.model_validate(about) for label, about in report.models.items()},
        warmup=report.warmup, stages=tuple(_stages(report)), ratios=bench.ratios(report),
        by_stage={stage: bench.ratios(report, stage) for stage in dict.fromkeys(s.stage for s in report.stages)},
        peak_memory_mb=report.peak_memory_mb, roofline=beside, cold_start=cold, frame_parts=parts,
        closed_loops=closed, open_loops=opened, observed=observed,
    )  # fmt: skip
    return BenchReport(document, tuple(_tables(document, report, target)))


def elsewhere(target: Target) -> str:
    """Returns why figures of this machine are not the target's; empty where it is the target."""
    here, seen = machine_arch(), device()
    own = {"jetson": seen.module, "nvidia": seen.name, "cpu": None}[seen.kind]
    if target.arch in ("any", here) and (target.gpu is None or own in target.gpu.found_by):
        return ""
    return (
        f"measured on {seen.name} ({here}), which is no {target.name}: its own figures are the predicted ones"
    )


def _check_asked(target: Target, plan: BenchPlan) -> None:
    for asked, known, what in (
        (plan.precisions, target.precisions, "precision"),
        (plan.backends, target.backends, "backend"),
    ):
        for each in asked:
            if each not in known:
                raise TargetMismatch(
                    f"target {target.name}", f"has no such {what}", got=each, expected=", ".join(known)
                )


def _threads(artifact: Artifact, target: Target, plan: BenchPlan) -> int | None:
    given = plan.threads is not None or artifact.manifest.kind == "engine"
    return plan.threads if given else target.threads


def _models(path: Path, plan: BenchPlan, threads: int | None) -> dict[str, Model]:
    """The models to compare, by label."""
    models = {}
    for backend in plan.backends or (None,):
        for precision in plan.precisions or (None,):
            model = load(path, backend=backend, precision=precision, threads=threads)
            models[" ".join([model.precision, *([model.backend] if len(plan.backends) > 1 else [])])] = model
    return models


def _parts(run: _Run) -> Iterator[FrameParts]:
    arrays = [pose.to(GIVEN_AS).array() for pose in run.poses]
    for label, model in run.models.items():
        found = bench.frame_parts(model.session(run.source), arrays, format=GIVEN_AS, n=run.plan.runs)
        yield found.model_copy(update={"label": label})


def _closed(run: _Run) -> Iterator[ClosedLoop]:
    for label, model in run.models.items():
        for found in closed_loops(model, run.source, run.poses, run.plan.scenarios):
            yield found.model_copy(update={"label": label})


def _open(run: _Run) -> Iterator[OpenLoop]:
    for label, model in run.models.items():
        for found in open_loops(model, run.source, run.poses, run.plan.scenarios):
            yield found.model_copy(update={"label": label})


def _stages(report: bench.Report) -> Iterator[StageLatency]:
    for found in report.stages:
        yield StageLatency(
            label=found.label, stage=found.stage, ms=found.timing.ms, **percentiles(found.timing)
        )


def _judged(
    report: bench.Report, closed: Sequence[ClosedLoop], opened: Sequence[OpenLoop]
) -> dict[str, Latency]:
    """What a verdict looks at, by name."""
    stages = {f"{s.label} {s.stage}": Latency.of(s.timing.ms) for s in report.stages if s.stage in JUDGED}
    loops = {f"{loop.label} {loop.scenario}": loop.latency for loop in closed}
    streams = {f"{loop.label} {loop.policy} at {loop.rate:g} Hz": loop.latency for loop in opened}
    return {**stages, **loops, **streams}


def _cold(path: Path, run: _Run) -> ColdStarts | None:
    """Cold starts of the first model, one after the other."""
    label, first = next(iter(run.models.items()))
    about = {"backend": first.backend, "precision": first.precision, "threads": first.threads}
    found = [bench.cold_start(path, **about) for _ in range(run.plan.cold_runs)]  # type: ignore[arg-type]
    return bench.cold_starts(found, label, **about) if found else None  # type: ignore[arg-type]


def _beside_prediction(
    artifact: Artifact, target: Target, models: Mapping[str, Model], report: bench.Report
) -> dict[str, AgainstRoofline]:
    """Frames beside what the target's rates let expect; nothing where costs or rates are not known."""
    if COSTS not in artifact.manifest.files or (target.gpu is None and target.cpu is None):
        return {}
    return beside_prediction(artifact, read_costs(artifact), target, models, report)


def _tables(document: BenchDocument, report: bench.Report, target: Target) -> Iterator[Table]:
    yield bench.table(report)
    yield parts_table(document.frame_parts)
    if document.closed_loops:
        yield closed_table(document.closed_loops)
    if document.open_loops:
        yield open_table(document.open_loops)
    if document.roofline:
        yield _roofline_table(document.roofline, target)
    if document.cold_start is not None:
        yield bench.cold_table(document.cold_start)
    yield observed_table(document.observed)


def _roofline_table(beside: Mapping[str, AgainstRoofline], target: Target) -> Table:
    made = Table(title=f"Frames beside the prediction for {target.name}", box=None, pad_edge=False)
    for head in ("model", "measured ms", "predicted ms", "measured / predicted", "share of the limit"):
        made.add_column(head, justify="left" if head == "model" else "right")
    for label, found in beside.items():
        made.add_row(
            label, f"{found.measured_ms:.2f}", f"{found.predicted_ms:.2f}",
            f"{found.ratio:.2f}", f"{found.share_of_limit:.0%}",
        )  # fmt: skip
    return made
