"""What `flowpose bench` measures: a model in every precision and backend asked for, in one alternating run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from flowpose import bench
from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.recorded import recorded
from flowpose.bench.roofline import AgainstRoofline
from flowpose.errors import TargetMismatch
from flowpose.predict_command import beside_prediction, read_costs
from flowpose.runtime import Model, load
from flowpose.spec.costs import COSTS
from flowpose.spec.find import find
from flowpose.spec.target import Target
from flowpose.targeting import find_target


@dataclass(frozen=True)
class BenchReport:
    """JSON data, and the same as tables."""

    plain: dict[str, Any]
    tables: tuple[Table, ...]


def bench_model(
    name: str,
    target_name: str,
    *,
    precisions: Sequence[str],
    backends: Sequence[str],
    runs: int,
    threads: int | None,
    cold: bool = True,
) -> BenchReport:
    """Latency of a model on its own golden pictures and poses, and a cold start of the first one measured.

    Args:
        name, target_name: as `find` takes them.
        precisions, backends: to compare; without any the model's own.
        runs: timed runs of each.
        threads: CPU threads; without it an engine's own, and for a graph the target's.
        cold: start a fresh process and measure its way to the first picture, once.

    Raises:
        TargetMismatch: the target lacks a precision or backend that was asked for, or threads below 1.
        ArtifactError, SpecError: no such model or target.
    """
    target = find_target(target_name)
    path = find("models", name)
    artifact = open_artifact(path)
    _check_asked(target, precisions, backends)
    count = threads
    if threads is None and artifact.manifest.kind != "engine":
        count = target.threads
    models = _models(path, precisions, backends, count)
    report = _measure(artifact, models, runs)
    plain = json.loads(bench.to_json(report))
    plain["by_stage"] = plain["ratios"]
    plain["ratios"] = bench.ratios(report)
    tables = [bench.table(report)]
    beside = _beside_prediction(artifact, target, models, report)
    plain["roofline"] = {each: asdict(found) for each, found in beside.items()}
    if beside:
        tables.append(_roofline_table(beside, target))
    label, first = next(iter(models.items()))
    plain["cold_start"] = None
    if cold:
        found = bench.cold_start(
            path, backend=first.backend, precision=first.precision, threads=first.threads
        )
        about = {key: plain["models"][label][key] for key in ("backend", "precision", "threads")}
        plain["cold_start"] = {"label": label, **about, "n": 1, **asdict(found)}
        tables.append(bench.cold_table(found, label))
    return BenchReport({"model": str(path), "target": target.name, **plain}, tuple(tables))


def _beside_prediction(
    artifact: Artifact, target: Target, models: dict[str, Model], report: bench.Report
) -> dict[str, AgainstRoofline]:
    """Frames beside what the target's rates let expect; nothing where costs or rates are not known."""
    if COSTS not in artifact.manifest.files or (target.gpu is None and target.cpu is None):
        return {}
    return beside_prediction(artifact, read_costs(artifact), target, models, report)


def _roofline_table(beside: dict[str, AgainstRoofline], target: Target) -> Table:
    made = Table(title=f"Frames beside the prediction for {target.name}", box=None, pad_edge=False)
    for head in ("model", "measured ms", "predicted ms", "measured / predicted", "share of the limit"):
        made.add_column(head, justify="left" if head == "model" else "right")
    for label, found in beside.items():
        made.add_row(
            label, f"{found.measured_ms:.2f}", f"{found.predicted_ms:.2f}",
            f"{found.ratio:.2f}", f"{found.share_of_limit:.0%}",
        )  # fmt: skip
    return made


def _check_asked(target: Target, precisions: Sequence[str], backends: Sequence[str]) -> None:
    for asked, known, what in (
        (precisions, target.precisions, "precision"),
        (backends, target.backends, "backend"),
    ):
        for each in asked:
            if each not in known:
                raise TargetMismatch(
                    f"target {target.name}", f"has no such {what}", got=each, expected=", ".join(known)
                )


def _models(
    path: Path, precisions: Sequence[str], backends: Sequence[str], threads: int | None
) -> dict[str, Model]:
    """The models to compare, by label."""
    models = {}
    for backend in backends or (None,):
        for precision in precisions or (None,):
            model = load(path, backend=backend, precision=precision, threads=threads)
            models[" ".join([model.precision, *([model.backend] if len(backends) > 1 else [])])] = model
    return models


def _measure(artifact: Artifact, models: dict[str, Model], runs: int) -> bench.Report:
    first = next(iter(models.values()))
    source, poses = recorded(artifact, first.precision)
    return bench.measure(models, source, poses, n=runs)
