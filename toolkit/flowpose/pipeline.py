"""All stages of a recipe in order, each skipped where its key exists, resumed where it was stopped.

The stages' code is named here and imported when a stage runs, so that a run that skips everything loads no
PyTorch and ends in seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flowpose.artifact import Artifact, find_by_key, open_artifact, place
from flowpose.comparison import choosing, validation
from flowpose.compile import Request, check_machine, compile_graph, engine_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import MissingDependency
from flowpose.gates import Case, settled
from flowpose.half_made import alone, explaining, sweep
from flowpose.job import JUDGED, Job, Stage, data_digest, parent_stage, stage_keys, stages_of
from flowpose.ranks import agree, by_main, check_batches, current, launched, seen, together
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

BY_ONE: tuple[Stage, ...] = ("quantize", "export")
"""Stages that one process makes while the others of a training wait; all of them work on every other one."""

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
        sweep(self.root / self.recipe.name)  # what a killed run left in its last moment
        done: dict[Stage, Done] = {}
        with together():
            self._check([stage for stage in wanted if not find_by_key(self.root, keys[stage])], keys)
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

    def _check(self, missing: Sequence[Stage], keys: Mapping[Stage, str]) -> None:
        """Raises before any work what would make it fail.

        Packages, batches, processes that see different things, pairs that cannot be judged.
        """
        check_packages(missing)
        share = current()
        check_batches(self.recipe, missing, share)
        if share.world > 1:
            agree("keys, data or artifacts", (keys, missing, data_digest(self.recipe, "train", self.data)))
        if {*missing} & {*JUDGED}:
            by_main(lambda: len(validation(self.recipe, self.data)))
        if "train" in missing:
            by_main(lambda: len(choosing(self.recipe, self.data)))

    def _one(self, job: Job, calibration: Calibration, title: str, before: tuple[Artifact, ...]) -> Done:
        begun = time.perf_counter()
        # A folder without a manifest is an error now, not after the work.
        found, there = by_main(lambda: (find_by_key(self.root, job.key), job.path.exists()))
        made = None
        if not (found or there):
            with self._alone(job.path):
                # made by the run that this one waited for
                found = by_main(lambda: find_by_key(self.root, job.key))
                if not found:
                    self._tell(f"{title}  {job.key[:12]}  making")
                    made = _made(job, calibration)
        artifact = made or open_artifact(found or job.path)
        seconds = time.perf_counter() - begun
        self._tell(f"{title}  {job.key[:12]}  {'there, skipped' if found else f'made in {seconds:.1f} s'}")
        if found and current().main:
            self._tell_data(title, artifact)
        artifact = self._settled(job.stage, artifact, before)
        return Done(stage=job.stage, artifact=artifact, skipped=bool(found), seconds=seconds)

    def _tell_data(self, title: str, artifact: Artifact) -> None:
        """Says where what is there learnt from other data than today's: its key does not tell (see `data_digest`)."""
        then = artifact.manifest.stage.get("data_digest")
        now = data_digest(self.recipe, "train", self.data) if then else None
        if then and now and now != then:
            fix = f"for today's: another --out, or rm -r {artifact.path.parent}"
            self.say(f"{title}  learnt from other data, sha256 {then[:12]}, today's is {now[:12]}; {fix}")

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Holds the lock of what is made at a path; of several processes of one training the first does it for all.

        Raises:
            ArtifactError: the disk is full or takes nothing, or another run of several processes holds the lock.
        """
        rank, world = launched()
        if rank:
            yield
            return
        lock = self.root / self.recipe.name / "work" / f"{path.name}.lock"
        with explaining(path), alone(lock, self.say, wait=world == 1):
            yield

    def _settled(self, stage: str, artifact: Artifact, before: tuple[Artifact, ...] = ()) -> Artifact:
        """The artifact with its gates judged by this recipe and these waivers, whenever it was made."""
        case = Case(
            recipe=self.recipe, stage=stage, artifact=artifact, others=before, waive=self.waive,
            root=self.root, data=self.data,
        )  # fmt: skip
        return by_main(lambda: settled(case))

    def _tell(self, text: str) -> None:
        """Says a line, once for all processes of a training."""
        if current().main:
            self.say(text)

    def compile(self, graph: Artifact, target: Target, gates: tuple[GateResult, ...]) -> Done:
        """The engine of a graph for a target, made on this machine; `gates` are what its stages were judged by."""
        begun = time.perf_counter()
        spec = self.recipe.compile
        request = Request(precision=spec.precision, margin=spec.margin, threads=spec.threads, gates=gates)
        key = engine_key(graph, target, request)
        found = find_by_key(self.root, key)
        with nullcontext() if found else self._alone(place(self.root, graph.manifest.name, "compile", key)):
            there = found or find_by_key(self.root, key)
            engine = compile_graph(
                graph, target, self.root, request, rounds=self.recipe.evaluate.latency_runs, say=self.say
            )
        seconds = time.perf_counter() - begun
        self.say(
            f"compile  {engine.manifest.key[:12]}  {'there, skipped' if there else f'made in {seconds:.1f} s'}"
        )
        engine = self._settled("compile", engine)
        return Done(stage="compile", artifact=engine, skipped=bool(there), seconds=seconds)


def _made(job: Job, calibration: Calibration) -> Artifact:
    """The artifact of a stage, made now."""
    make, more = maker(job.stage), (calibration,) if job.stage == "quantize" else ()
    if job.stage not in BY_ONE:
        return make(job)
    by_main(lambda: make(job, *more).path)
    return seen(job.path)


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
    with together():
        by_main(lambda: check_machine(target))
        done = run.stages()
        gates = tuple(gate for each in done for gate in each.gates)  # those kept in the graph may be older
        graph = done[-1].artifact
        done.append(by_main(lambda: run.compile(graph, target, gates)))
        return done, by_main(lambda: report(run, done))


def report(run: Run, done: Sequence[Done]) -> Path:
    """The folder with the run's report; made where it is missing."""
    from flowpose.reporting import report_path, write_report  # imports PyTorch only where a report is made

    path, whole = report_path(run, done[-1].artifact), "report.json"
    begun, made = time.perf_counter(), False
    if not (path / whole).is_file():
        with run._alone(path):
            made = not (path / whole).is_file()
            if made:
                write_report(run, done, path)
    seconds = time.perf_counter() - begun
    run.say(f"report  {path}  {f'made in {seconds:.1f} s' if made else 'there, skipped'}")
    return path
