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
from flowpose.compile import Request, check_machine, compile_graph, engine_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import MissingDependency
from flowpose.gates import Case, settled
from flowpose.job import Job, Stage, parent_stage, stage_keys, stages_of
from flowpose.spec.calibration import Calibration
from flowpose.spec.check import check, check_recipe
from flowpose.spec.manifest import GateResult
from flowpose.spec.reading import load_calibration
from flowpose.spec.recipe import Recipe
from flowpose.spec.target import Target

MAKERS: Mapping[Stage, tuple[str, str, str]] = MappingProxyType(
    {
        "autoencoder": ("flowpose.train", "train_autoencoder", "train"),
        "train": ("flowpose.train", "train_teacher", "train"),
        "regressor": ("flowpose.distill", "train_regressor", "train"),
        "teacher_finish": ("flowpose.distill", "finish_teacher", "train"),
        "distill": ("flowpose.distill", "distill", "train"),
        "finish": ("flowpose.distill", "finish", "train"),
        "quantize": ("flowpose.quantize", "quantize", "quantize"),
        "export": ("flowpose.export", "export", "quantize"),
    }
)
"""Stage -> module, function, and the extra that brings what it needs."""

PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("torch", "accelerate", "safetensors", "tensorboard", "onnx"),
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

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """What was judged of it, as its manifest keeps it."""
        return self.artifact.manifest.gates

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
        """Makes or finds the artifacts of all stages of the recipe up to `until`, in order, and judges them.

        Up to `distill` means up to the finished student, where the recipe has a finish.

        Raises:
            IntegrityError: an artifact that is there was changed.
            GateFailed: a measurement is outside the recipe's limits; what was made stays.
            FlowposeError: what the stages raise.
        """
        check_recipe(self.recipe)
        calibration = load_calibration(self.recipe.quantize.calibration)
        keys = stage_keys(self.recipe, calibration.model_dump(mode="json"))
        wanted = stages_of(self.recipe, until)
        check_packages([stage for stage in wanted if not find_by_key(self.root, keys[stage])])
        done: dict[Stage, Done] = {}
        for number, stage in enumerate(wanted, 1):
            parent = parent_stage(self.recipe, stage)
            job = Job(
                recipe=self.recipe,
                stage=stage,
                key=keys[stage],
                root=self.root,
                parent=done[parent].artifact if parent else None,
                data=self.data,
            )
            before = tuple(each.artifact for each in done.values())
            done[stage] = self._one(job, calibration, f"[{number}/{len(wanted)}] {stage}", before)
        return list(done.values())

    def _one(self, job: Job, calibration: Calibration, title: str, before: tuple[Artifact, ...]) -> Done:
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
        artifact = self._settled(job.stage, artifact, before)
        return Done(stage=job.stage, artifact=artifact, skipped=bool(found), seconds=seconds)

    def _settled(self, stage: str, artifact: Artifact, before: tuple[Artifact, ...] = ()) -> Artifact:
        """The artifact with its gates judged by this recipe and these waivers, whenever it was made."""
        case = Case(
            recipe=self.recipe, stage=stage, artifact=artifact, others=before, waive=self.waive,
            root=self.root, data=self.data,
        )  # fmt: skip
        return settled(case)

    def compile(self, graph: Artifact, target: Target, gates: tuple[GateResult, ...]) -> Done:
        """The engine of a graph for a target, made on this machine; `gates` are what its stages were judged by."""
        begun = time.perf_counter()
        spec = self.recipe.compile
        request = Request(precision=spec.precision, margin=spec.margin, threads=spec.threads, gates=gates)
        there = find_by_key(self.root, engine_key(graph, target, request))
        engine = compile_graph(
            graph, target, self.root, request, rounds=self.recipe.evaluate.latency_runs, say=self.say
        )
        seconds = time.perf_counter() - begun
        self.say(
            f"compile  {engine.manifest.key[:12]}  {'there, skipped' if there else f'made in {seconds:.1f} s'}"
        )
        engine = self._settled("compile", engine)
        return Done(stage="compile", artifact=engine, skipped=bool(there), seconds=seconds)


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


def run(run: Run, target: Target) -> tuple[list[Done], Path]:
    """Makes everything of a recipe for a target, and its report; (stages, report folder).

    Raises:
        SpecError: recipe and target do not fit; nothing was started.
        FlowposeError: what the stages raise.
    """
    check(run.recipe, target)
    check_machine(target)
    done = run.stages()
    gates = tuple(gate for each in done for gate in each.gates)  # those kept in the graph may be older
    done.append(run.compile(done[-1].artifact, target, gates))
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
