"""Gates: the recipe's limits on what was measured, judged here alone, kept in manifests, shown where they fail.

Needs no PyTorch unless the worst cases of a stage that draws pictures are to be drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from flowpose.artifact import Artifact, with_gates
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import FlowposeError, GateFailed
from flowpose.spec.base import nearest
from flowpose.spec.judging import Gate
from flowpose.spec.manifest import ArtifactKind, GateResult, Measurement
from flowpose.spec.recipe import Recipe

if TYPE_CHECKING:
    from flowpose.comparison import Draw

WORST = 8  # pairs of a sheet


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is judged, and by what.

    Attributes:
        recipe: whose gates.
        stage: the stage that made `artifact`, or `compile`.
        others: artifacts of the stages before, which relative gates may speak of, ancestors or not.
        waive: metric -> reason, for gates that may fail.
        root: where sheets of the worst cases go, below the recipe's name.
        data: folders in which named data sets are looked for.
    """

    recipe: Recipe
    stage: str
    artifact: Artifact
    others: tuple[Artifact, ...] = ()
    waive: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path("artifacts")
    data: tuple[Path, ...] = DEFAULT_ROOTS


def settled(case: Case) -> Artifact:
    """The artifact with the results of the recipe's gates in its manifest; those of a target's budget stay.

    Raises:
        GateFailed: a value is outside its limit and not waived (the results are kept, and so is the artifact;
            the worst cases are saved where the stage draws pictures), or was not measured.
        ArtifactError: see `with_gates`.
    """
    results = judged(case)
    budget = [gate for gate in case.artifact.manifest.gates if gate.by == "target"]
    artifact = with_gates(case.artifact, (*budget, *results))
    failed = [result for result in results if not result.passed and result.waived is None]
    if failed:
        raise _failure(case, failed)
    return artifact


def judged(case: Case) -> tuple[GateResult, ...]:
    """The results of the gates of a stage, failed ones too.

    Raises:
        GateFailed: something was not measured, or on other data than what it is compared with.
    """
    return tuple(
        result for gate in case.recipe.gates if gate.stage == case.stage for result in _results(gate, case)
    )


def _results(gate: Gate, case: Case) -> Iterator[GateResult]:
    """One result a limit."""
    value, scale = measured(case, gate.metric).value, _scale(gate, case)
    for factor, sign in ((gate.min, 1), (gate.max, -1)):
        if factor is None:
            continue
        limit = factor * scale
        passed = sign * (value - limit) >= 0
        yield GateResult(
            stage=gate.stage, metric=gate.metric, limit=limit, value=value, passed=passed, of=gate.of,
            by="recipe", waived=None if passed else case.waive.get(gate.metric),
        )  # fmt: skip


def _scale(gate: Gate, case: Case) -> float:
    """What a gate's limits are multiplied with: 1, or the measurement that they are factors of."""
    if gate.of is None:
        return 1.0
    where = f"{case.artifact.path} {gate.metric}"
    own, other = measured(case, gate.metric), measured(case, gate.of)
    if other.value < 0:
        fix = "give min or max without of"
        raise GateFailed(
            where, f"no factor of {gate.of} is a limit", got=other.value, expected="0 or more", fix=fix
        )
    if (own.set, own.n) != (other.set, other.n):
        raise GateFailed(
            where, f"cannot be compared with {gate.of}", got=f"{own.set}, n = {own.n}",
            expected=f"{other.set}, n = {other.n}", fix="set recipe.evaluate to what it was for the earlier stage",
        )  # fmt: skip
    return other.value


def measured(case: Case, metric: str) -> Measurement:
    """The measurement called `metric` or `label.metric`: the artifact's, else that of the stage made last before it.

    Stages whose artifacts are not given are asked by the artifact's history, the nearest first. A label says what was
    measured (`student-1.psnr`).

    Raises:
        GateFailed: there is none, or there are several labels and none is given.
    """
    where = f"{case.artifact.path} {metric}"
    for rows in _places(case):
        found = [m for m in rows if metric in (m.metric, f"{m.stage}.{m.metric}")]
        labels = sorted({m.stage for m in found})
        if len(labels) > 1:
            names = ", ".join(f"{label}.{metric}" for label in labels)
            raise GateFailed(where, "was measured of several things", expected=f"one of {names}")
        if found:
            return found[0]
    known = [f"{m.stage}.{m.metric}" for rows in _places(case) for m in rows]
    own = ", ".join(sorted({f"{m.stage}.{m.metric}" for m in case.artifact.manifest.measurements}))
    raise GateFailed(where, "was not measured", expected=f"one of {own or 'nothing'}{nearest(metric, known)}")


def _places(case: Case) -> Iterator[Sequence[Measurement]]:
    """Measurements in the order in which they are looked through."""
    manifest = case.artifact.manifest
    yield manifest.measurements
    for other in reversed(case.others):
        yield other.manifest.measurements
    for ancestor in reversed(manifest.history):
        yield ancestor.measurements


def _failure(case: Case, failed: Sequence[GateResult]) -> GateFailed:
    """The error that tells of the first failure, names the others, and says where to look and how to go on."""
    first, *rest = failed
    drawn, missing = _sheets(case, failed)
    more = "".join(f"; {each.metric} {each.value:.4g} (limit {each.limit:.4g})" for each in rest)
    waivers = " ".join(dict.fromkeys(f"--waive {each.metric}=REASON" for each in failed))
    look = f"look at {', '.join(map(str, drawn))}, then " if drawn else ""
    return GateFailed(
        f"{case.artifact.path} {first.metric}",
        "outside the recipe's limit",
        got=f"{first.value:.4g}{more}",
        expected=f"limit {first.limit:.4g}" + (f", a factor of {first.of}" if first.of else ""),
        fix=f"{look}{waivers}, or change the recipe{missing}",
    )


def _sheets(case: Case, failed: Sequence[GateResult]) -> tuple[list[Path], str]:
    """The sheets of the worst cases, and why some could not be drawn: that must not hide the failure."""
    drawn: dict[Path, None] = {}
    for result in failed:
        try:
            path = worst_cases(case, result)
        except (FlowposeError, ModuleNotFoundError) as error:
            return list(drawn), f" (the worst cases could not be drawn: {error})"
        if path:
            drawn[path] = None
    return list(drawn), ""


def worst_cases(case: Case, result: GateResult) -> Path | None:
    """The sheet source | pose | truth | made of the recipe's pairs that are worst in a failed result, worst first.

    None where the stage draws no pictures of what was measured, or the metric has no value for each pair.

    Raises:
        DataError, ArtifactError, MissingDependency: what drawing needs is not there.
    """
    from flowpose.metrics import Scores

    found = measured(case, result.metric)
    own = found in case.artifact.manifest.measurements
    if not own or found.metric not in {each.name for each in fields(Scores)}:
        return None
    drawer_of = DRAWERS.get(case.artifact.manifest.kind)
    draw = drawer_of(case.artifact, found.stage) if drawer_of else None
    if draw is None:
        return None
    name = f"{case.stage}-{case.artifact.manifest.key[:12]}-{result.metric}.png"
    path = case.root / case.recipe.name / "failed" / name
    _write_worst(case, draw, found, highest=result.value > result.limit, path=path)
    return path


def _write_worst(case: Case, draw: Draw, found: Measurement, *, highest: bool, path: Path) -> None:
    """Writes the sheet of the pairs with the highest or lowest values of a score."""
    import numpy as np

    from flowpose import image
    from flowpose.comparison import scores_of, validation
    from flowpose.report import draw_pose, sheet

    pairs = validation(case.recipe, case.data)
    made = draw(pairs.sources, pairs.keypoints)
    values = np.array([getattr(each, found.metric) for each in scores_of(made, pairs)])
    worst = np.argsort(-values if highest else values, kind="stable")[:WORST]
    height, width = made.shape[1:3]
    poses = [draw_pose(pose, height, width) for pose in pairs.keypoints[worst]]
    rows = list(zip(pairs.sources[worst], poses, pairs.truths[worst], made[worst], strict=True))
    image.write(path, sheet(rows, ("source", "pose", "truth", found.stage)))


def _teacher(artifact: Artifact, label: str) -> Draw | None:
    """The teacher at the evaluations of its row; None for rows of others, such as `copy-source`."""
    from flowpose.evaluate import drawer, teacher_grid, teacher_middle
    from flowpose.model.weights import load_generator

    steps = re.fullmatch(r"teacher-(\d+)", label)
    if steps is None:
        return None
    grid = teacher_grid(int(steps[1]), teacher_middle(artifact))
    return drawer(load_generator(artifact).on_grid(grid, "euler"))


def _student(artifact: Artifact, label: str) -> Draw | None:
    """The student or the L1 baseline at one evaluation, or on its own grid where the row has more."""
    from flowpose.evaluate import drawer
    from flowpose.model.weights import STUDENT_GRID, STUDENT_SOLVER, load_generator

    grid = STUDENT_GRID if label in ("student-1", "l1") else artifact.manifest.times
    return drawer(load_generator(artifact).on_grid(grid, STUDENT_SOLVER))


def _quantized(artifact: Artifact, label: str) -> Draw | None:
    """The student as INT8 computes it."""
    from flowpose.evaluate import drawer
    from flowpose.quantize.quantizers import load_quantized

    return drawer(load_quantized(artifact))


DRAWERS: Mapping[ArtifactKind, Callable[[Artifact, str], Draw | None]] = MappingProxyType(
    {"model": _teacher, "student": _student, "quantized": _quantized}
)
"""Kind -> what draws the pictures that a row of its measurements is about."""
