"""All stages of a recipe in order, each skipped where its key exists, resumed where it was stopped.

The stages' code is named here and imported when a stage runs, so that a run that skips everything loads no
PyTorch and ends in seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flowpose.artifact import Artifact, find_by_key, open_artifact
from flowpose.compile import check_machine, compile_graph, engine_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import GateFailed, MissingDependency
from flowpose.job import ORDER, Job, Stage, stage_keys
from flowpose.spec.calibration import Calibration
from flowpose.spec.check import check, check_recipe
from flowpose.spec.manifest import GateResult
from flowpose.spec.reading import load_calibration
from flowpose.spec.recipe import Gate, Recipe
from flowpose.spec.target import Target

MAKERS: Mapping[Stage, tuple[str, str, str]] = MappingProxyType(
    {
        "autoencoder": ("flowpose.train", "train_autoencoder", "train"),
        "train": ("flowpose.train", "train_teacher", "train"),
        "distill": ("flowpose.distill", "distill", "train"),
        "quantize": ("flowpose.quantize", "quantize", "quantize"),
        "export": ("flowpose.export", "export", "quantize"),
    }
)
"""Stage -> module, function, and the extra that brings what it needs."""

PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("torch", "accelerate", "safetensors", "tensorboard"),
        "quantize": ("torch", "safetensors", "modelopt", "onnx", "onnxslim"),
    }
)
"""Extra -> the packages that its stages import."""

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A stage that is there: what it made, and whether this run had to make it."""

    stage: str
    artifact: Artifact
    skipped: bool
    seconds: float
    gates: tuple[GateResult, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {
            "stage": self.stage,
            "key": self.artifact.manifest.key,
            "path": str(self.artifact.path),
            "skipped": self.skipped,
            "seconds": round(self.seconds, 2),
            "gates": [gate.model_dump() for gate in self.gates],
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a recipe is carried out.

    Attributes:
        recipe: what is made.
        root: where artifacts are kept.
        data: folders in which named data sets are looked for.
        waive: metric -> reason, for gates that may fail.
        say: told one line a stage.
    """

    recipe: Recipe
    root: Path = Path("artifacts")
    data: tuple[Path, ...] = DEFAULT_ROOTS
    waive: Mapping[str, str] = field(default_factory=dict)
    say: Say = silent

    def stages(self, until: Stage = "export") -> list[Done]:
        """Makes or finds the artifacts of all stages up to `until`, in order.

        Raises:
            IntegrityError: an artifact that is there was changed.
            GateFailed: a measurement is outside the recipe's limits.
            FlowposeError: what the stages raise.
        """
        check_recipe(self.recipe)
        calibration = load_calibration(self.recipe.quantize.calibration)
        keys = stage_keys(self.recipe, calibration.model_dump(mode="json"))
        wanted = ORDER[: ORDER.index(until) + 1]
        check_packages([stage for stage in wanted if not find_by_key(self.root, keys[stage])])
        done: list[Done] = []
        for number, stage in enumerate(wanted, 1):
            parent = done[-1].artifact if done else None
            job = Job(
                recipe=self.recipe,
                stage=stage,
                key=keys[stage],
                root=self.root,
                parent=parent,
                data=self.data,
            )
            done.append(self._one(job, calibration, f"[{number}/{len(wanted)}] {stage}"))
        return done

    def _one(self, job: Job, calibration: Calibration, title: str) -> Done:
        begun = time.perf_counter()
        found = find_by_key(self.root, job.key)
        if found or job.path.exists():  # a folder without a manifest is an error now, not after the work
            artifact = open_artifact(found or job.path)
        else:
            self.say(f"{title}  {job.key[:12]}  making")
            make = maker(job.stage)
            artifact = make(job, calibration) if job.stage == "quantize" else make(job)
        seconds = time.perf_counter() - begun
        self.say(f"{title}  {job.key[:12]}  {'there, skipped' if found else f'made in {seconds:.1f} s'}")
        gates = judged(self.recipe.gates, job.stage, artifact, self.waive)
        return Done(stage=job.stage, artifact=artifact, skipped=bool(found), seconds=seconds, gates=gates)

    def compile(self, graph: Artifact, target: Target) -> Done:
        """The engine of a graph for a target, made on this machine."""
        begun = time.perf_counter()
        spec = self.recipe.compile
        there = find_by_key(
            self.root, engine_key(graph, target, threads=spec.threads, precision=spec.precision)
        )
        engine = compile_graph(
            graph, target, self.root, threads=spec.threads, precision=spec.precision, say=self.say,
            rounds=self.recipe.evaluate.latency_runs,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        self.say(
            f"compile  {engine.manifest.key[:12]}  {'there, skipped' if there else f'made in {seconds:.1f} s'}"
        )
        gates = (*engine.manifest.gates, *judged(self.recipe.gates, "compile", engine, self.waive))
        return Done(stage="compile", artifact=engine, skipped=bool(there), seconds=seconds, gates=gates)


def check_packages(stages: Sequence[Stage]) -> None:
    """Raises before any work when a stage that is to be made lacks a package.

    Raises:
        MissingDependency: names the package and the extra that has it.
    """
    for stage in stages:
        extra = MAKERS[stage][2]
        for package in PACKAGES[extra]:
            if importlib.util.find_spec(package) is None:
                raise MissingDependency(
                    f"stage {stage}",
                    "a package is not installed",
                    got=package,
                    fix=f"pip install 'flowpose[{extra}]'",
                )


def maker(stage: Stage) -> Callable[..., Artifact]:
    """The function that makes a stage's artifact.

    Raises:
        MissingDependency: the stage needs a package that is not installed; names the extra that has it.
    """
    module, name, extra = MAKERS[stage]
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"stage {stage}",
            "a package is not installed",
            got=error.name,
            fix=f"pip install 'flowpose[{extra}]'",
        ) from error


def judged(
    gates: Sequence[Gate], stage: str, artifact: Artifact, waive: Mapping[str, str]
) -> tuple[GateResult, ...]:
    """The results of a stage's gates.

    A gate's metric is `metric` or `label.metric`, where the label says what was measured (`student.psnr`).

    Raises:
        GateFailed: a value is outside its limit and not waived, or was not measured.
    """
    results = [result for gate in gates if gate.stage == stage for result in _limits(gate, artifact, waive)]
    failed = [result for result in results if not result.passed and result.waived is None]
    if failed:
        worst = failed[0]
        raise GateFailed(
            f"{artifact.path} {worst.metric}", "outside the recipe's limit", got=f"{worst.value:.4g}",
            expected=f"limit {worst.limit:.4g}", fix=f"--waive {worst.metric}=REASON, or change the recipe",
        )  # fmt: skip
    return tuple(results)


def _limits(gate: Gate, artifact: Artifact, waive: Mapping[str, str]) -> list[GateResult]:
    value = measured(artifact, gate.metric)
    found = []
    for limit, sign in ((gate.min, 1), (gate.max, -1)):
        if limit is not None:
            passed = sign * (value - limit) >= 0
            waived = None if passed else waive.get(gate.metric)
            found.append(
                GateResult(
                    stage=gate.stage,
                    metric=gate.metric,
                    limit=limit,
                    value=value,
                    passed=passed,
                    waived=waived,
                )
            )
    return found


def measured(artifact: Artifact, metric: str) -> float:
    """The value of `metric` or `label.metric` among an artifact's measurements.

    Raises:
        GateFailed: it was not measured, or for several labels and none is given.
    """
    rows = artifact.manifest.measurements
    found = [m for m in rows if metric in (m.metric, f"{m.stage}.{m.metric}")]
    where, labels = f"{artifact.path} {metric}", sorted({m.stage for m in found})
    if not found:
        known = ", ".join(sorted({f"{m.stage}.{m.metric}" for m in rows})) or "nothing"
        raise GateFailed(where, "was not measured", expected=f"one of {known}")
    if len(labels) > 1:
        names = ", ".join(f"{label}.{metric}" for label in labels)
        raise GateFailed(where, "was measured of several things", expected=f"one of {names}")
    return found[0].value


def run(run: Run, target: Target) -> tuple[list[Done], Path]:
    """Makes everything of a recipe for a target, and its report; (stages, report folder).

    Raises:
        SpecError: recipe and target do not fit; nothing was started.
        FlowposeError: what the stages raise.
    """
    check(run.recipe, target)
    check_machine(target)
    done = run.stages()
    done.append(run.compile(done[-1].artifact, target))
    return done, report(run, done)


def report(run: Run, done: Sequence[Done]) -> Path:
    """The folder with the run's report; made where it is missing."""
    from flowpose.reporting import report_path, write_report  # imports PyTorch only where a report is made

    path = report_path(run, done[-1].artifact)
    if (path / "report.json").is_file():
        run.say(f"report  {path}  there, skipped")
        return path
    begun = time.perf_counter()
    write_report(run, done, path)
    run.say(f"report  {path}  made in {time.perf_counter() - begun:.1f} s")
    return path
