"""What `flowpose bench` measures: a model in every precision and backend asked for, in one alternating run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from flowpose import bench
from flowpose.artifact import open_artifact
from flowpose.errors import TargetMismatch
from flowpose.pose import Pose
from flowpose.runtime import load
from flowpose.runtime.goldens import read_goldens
from flowpose.spec.find import find
from flowpose.spec.reading import load_target


@dataclass(frozen=True)
class BenchReport:
    """JSON data, and the same as a table."""

    plain: dict[str, Any]
    table: Table


def bench_model(
    name: str,
    target_name: str,
    *,
    precisions: Sequence[str],
    backends: Sequence[str],
    runs: int,
    threads: int | None,
) -> BenchReport:
    """Latency of a model on its own golden pictures and poses.

    Raises:
        TargetMismatch: the target lacks a precision or backend that was asked for.
        ArtifactError, SpecError: no such model or target.
    """
    target = load_target(target_name)
    path = find("models", name)
    artifact = open_artifact(path)
    for asked, known, what in (
        (precisions, target.precisions, "precision"),
        (backends, target.backends, "backend"),
    ):
        for each in asked:
            if each not in known:
                raise TargetMismatch(
                    f"target {target.name}", f"has no such {what}", got=each, expected=", ".join(known)
                )
    count = threads or target.threads
    models = {}
    for backend in backends or (None,):
        for precision in precisions or (None,):
            model = load(path, backend=backend, precision=precision, threads=count)
            models[" ".join([model.precision, *([model.backend] if len(backends) > 1 else [])])] = model
    first = next(iter(models.values()))
    goldens = read_goldens(artifact, first.precision)
    size = (artifact.manifest.image.height, artifact.manifest.image.width)
    poses = [Pose.of(keypoints, artifact.manifest.pose.format, size) for keypoints in goldens.keypoints]
    report = bench.measure(models, goldens.source[0], poses, n=runs)
    plain = json.loads(bench.to_json(report))
    plain["by_stage"] = plain["ratios"]
    plain["ratios"] = bench.ratios(report)
    return BenchReport({"model": str(path), "target": target.name, **plain}, bench.table(report))
