"""Graphs of the many-step teacher: what the one-step student is compared with in latency, on the same runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpose.artifact import Artifact, stage_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import ArtifactError
from flowpose.export.exporting import export_generator
from flowpose.export.modules import rounded
from flowpose.flow import evaluations
from flowpose.job import Job, stage_config
from flowpose.model.weights import load_generator
from flowpose.spec.recipe import Recipe


def teacher_job(
    recipe: Recipe,
    teacher: Artifact,
    root: Path,
    times: Sequence[float],
    solver: str,
    data: tuple[Path, ...] = DEFAULT_ROOTS,
) -> Job:
    """The job that exports a teacher on this grid; its key depends on grid and solver too."""
    config = {**stage_config(recipe, "export"), "times": list(times), "solver": solver}
    key = stage_key(teacher.manifest.key, "export", config)
    return Job(recipe=recipe, stage="export", key=key, root=root, parent=teacher, data=data)


def export_teacher(job: Job, times: Sequence[float], solver: str, name: str | None = None) -> Artifact:
    """Makes the graph artifact of a teacher on any grid, fp32 only; the steps are an ONNX Loop, not unrolled.

    For exactly n evaluations take solver `euler` on `end_dense(n)`; Heun makes 2 K - 1 of K intervals.

    Args:
        job: made by `teacher_job`; its parent is the model artifact.
        times: from 0.0 to 1.0, ascending.
        solver: a row of flowpose.flow.SOLVERS.
        name: the artifact's name; default `<recipe>-teacher-<evaluations>`.

    Raises:
        ArtifactError: the job's parent is no model.
        ParityError: a graph does not compute what torch computes.
    """
    kind = job.parent.manifest.kind if job.parent else None
    if job.parent is None or kind != "model":
        raise ArtifactError(job.path, "needs a teacher", got=kind, expected="model", fix="flowpose train")
    generator = rounded(load_generator(job.parent).on_grid(times, solver))
    steps = evaluations(solver, times)
    stage = {**job.fields("graph")["stage"], "solver": solver, "times": list(times), "evaluations": steps}
    return export_generator(job, generator, name=name or f"{job.recipe.name}-teacher-{steps}", stage=stage)
