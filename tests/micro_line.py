"""The smallest recipe that goes through every stage, a run of it by the command line, and stages that only pretend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.job import ORDER, Job, Stage
from flowpose.pipeline import Run
from flowpose.spec.manifest import ArtifactKind
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe

FIGURES = {"source": "figures", "identities": 6, "pictures": 3, "seed": 0}
CALIBRATION = {"format": 1, "name": "micro", "data": FIGURES, "split": "train", "count": 6, "seed": 1}
RUN = ("iterations=4", "batch=6", "warmup=1", "checkpoint_every=2")
OPTIM = "{iterations: 4, batch: 6, warmup: 1, checkpoint_every: 2}"
SMALL = (
    *("data.identities=6", "data.pictures=3", "image.height=48", "image.width=32"),
    *("autoencoder.widths=[8, 8, 8, 16]", "autoencoder.latents=4", "autoencoder.crop=16"),
    *(
        f"{run}.{setting}"
        for run in ("autoencoder.optim", "train.joints", "train.optim", "distill.optim")
        for setting in RUN
    ),
    *("distill.pairs=8", "distill.intervals=2"),
    *(f"{stage}={{optim: {OPTIM}}}" for stage in ("regressor", "finish")),
    f"teacher_finish={{pairs: 8, intervals: 2, optim: {OPTIM}}}",
    *("evaluate.pairs=2", "evaluate.sheet=2", "evaluate.latency_runs=3"),
    *("evaluate.teacher_steps=[1]", "evaluate.latency_steps=[2]"),
    *("compile.threads=1",),
)
STAGES = (*ORDER, "compile")


def overrides(folder: Path) -> list[str]:
    """What makes the shipped `tiny` recipe micro; its calibration set is written into `folder`."""
    file = folder / "micro.yaml"
    file.write_text(yaml.safe_dump(CALIBRATION))
    return [*SMALL, f"quantize.calibration={file}"]


def micro_recipe(folder: Path, *further: str) -> Recipe:
    return load_recipe("tiny", [*overrides(folder), *further])


def environment() -> dict[str, str]:
    """One thread: the same numbers in every process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "flowpose.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=600, check=False)


@dataclass(frozen=True)
class Line:
    """A finished run of the micro recipe.

    Attributes:
        folder: with the calibration set and, below `out`, the artifacts.
        stdout, stderr: what the command wrote.
    """

    folder: Path
    stdout: str
    stderr: str

    @property
    def root(self) -> Path:
        return self.folder / "out"

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout))

    def recipe(self, *further: str) -> Recipe:
        return micro_recipe(self.folder, *further)

    @property
    def settings(self) -> list[str]:
        """The command line's options that make `tiny` micro."""
        return [part for each in overrides(self.folder) for part in ("--set", each)]

    def run(self, *further: str, root: Path | None = None, **fields: Any) -> Run:
        return Run(recipe=self.recipe(*further), root=root or self.root, data=DEFAULT_ROOTS, **fields)

    def path(self, stage: str) -> Path:
        """The artifact of a stage."""
        return next(Path(each["path"]) for each in self.result["stages"] if each["stage"] == stage)


def finished(folder: Path) -> Line:
    """Runs the micro recipe for the `cpu` target's kind of machine."""
    settings = [part for override in overrides(folder) for part in ("--set", override)]
    done = command(["run", "tiny", "--out", str(folder / "out"), *settings, "--json"])
    assert done.returncode == 0, done.stderr
    return Line(folder, done.stdout, done.stderr)


KINDS: Mapping[Stage, ArtifactKind] = {
    "autoencoder": "autoencoder",
    "train": "model",
    "regressor": "student",
    "teacher_finish": "model",
    "distill": "student",
    "finish": "student",
    "quantize": "quantized",
    "export": "graph",
}
LABELS: Mapping[Stage, str] = {
    "train": "teacher-16",
    "regressor": "l1",
    "teacher_finish": "teacher-16",
    "distill": "student-1",
    "finish": "student-1",
}


@dataclass
class Pretence:
    """Makes every stage's artifact at once, without training, from the own_lpips it is told to have.

    Attributes:
        values: stage -> own_lpips, measured under the stage's row; 0.5 where nothing is said.
        stop: the stage whose maker fails after it has begun to write.
        asked: (stage, its parent's stage) in the order in which they were made.
        siblings: stage -> those that its job found.
    """

    values: dict[str, float] = field(default_factory=dict)
    stop: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    siblings: dict[str, list[str]] = field(default_factory=dict)

    def maker(self, stage: Stage) -> Callable[..., Artifact]:
        """Stands in for `flowpose.pipeline.maker`."""
        return self._make

    def _make(self, job: Job, calibration: object = None) -> Artifact:
        parent = job.parent.manifest.stage["name"] if job.parent else None
        self.asked.append((job.stage, parent))
        self.siblings[job.stage] = [each for each in ORDER if job.sibling(each)]
        label = LABELS.get(job.stage, job.stage)
        row = job.measured("own_lpips", self.values.get(job.stage, 0.5), n=4, split="val")
        with creating(job.path, **job.fields(KINDS[job.stage])) as draft:
            (draft / "weights").write_text(job.key)
            if self.stop == job.stage:
                raise KeyboardInterrupt
            draft.add(measurements=[row.model_copy(update={"stage": label})])
        return open_artifact(job.path)
