"""Runs the micro recipe again and again in one folder, and kills it each time in another place.

    python killed_line.py FOLDER ROOT

A process that has imported everything forks a child for each place; the child sends itself SIGKILL there, so
nothing of it is cleaned up, and the next child finds what it left. FOLDER holds the calibration set, ROOT the
artifacts. Prints one JSON document.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelopt.torch.quantization  # noqa: F401
import onnxruntime  # noqa: F401
import torch
import torch.utils.tensorboard
from micro_line import micro_recipe

import flowpose.compile.engine
import flowpose.distill
import flowpose.export.exporting
import flowpose.optimize
import flowpose.quantize
import flowpose.reporting
import flowpose.train
from flowpose import artifact, pipeline
from flowpose.spec.reading import load_target


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(owner: Any, name: str, where: Callable[..., bool] = lambda *_: True) -> Callable[[], None]:
    """Dies when `owner.name` is called with arguments for which `where` holds."""

    def arm() -> None:
        original = getattr(owner, name)

        def replacement(*given: Any, **named: Any) -> Any:
            if where(*given):
                die()
            return original(*given, **named)

        setattr(owner, name, replacement)

    return arm


def half_a_checkpoint(owner: Any = torch) -> None:
    """Dies while the teacher's second checkpoint is being written."""
    original = owner.save

    def writing(state: dict[str, Any], file: Any) -> None:
        if "train-" in Path(file.name).parent.name and state["iteration"] == 4:
            file.write(b"PK half of a checkpoint")
            file.flush()
            die()
        original(state, file)

    owner.save = writing


def step(title: str, iteration: int) -> Callable[..., bool]:
    return lambda accelerator, module, optimizer, task, spec, at: task.title == title and at == iteration


def named(part: str) -> Callable[..., bool]:
    return lambda *given: any(part in str(each) for each in given)


PLACES: dict[str, Callable[[], None]] = {
    "autoencoder, before a checkpoint": dying_before(flowpose.optimize, "_step", step("autoencoder", 1)),
    "autoencoder, after a checkpoint": dying_before(flowpose.optimize, "_step", step("autoencoder", 3)),
    "autoencoder, sealed and not moved": dying_before(artifact, "move", named("autoencoder-")),
    "joints, after a checkpoint": dying_before(flowpose.optimize, "_step", step("joints", 3)),
    "teacher, half a checkpoint": half_a_checkpoint,
    "teacher, weights written": dying_before(artifact, "_seal", named("train-")),
    "student, end points made": dying_before(
        flowpose.distill, "_train", lambda job, *_: job.stage == "distill"
    ),
    "student, after a checkpoint": dying_before(flowpose.optimize, "_step", step("distill", 2)),
    "quantize, weights written": dying_before(artifact, "_seal", named("quantize-")),
    "export, one graph written": dying_before(flowpose.export.exporting, "_write_frame"),
    "compile, before the last file": dying_before(
        flowpose.compile.engine.shutil, "copyfile", named("source.onnx")
    ),
    "report, half of it": dying_before(flowpose.reporting, "write_run"),
}


def run(folder: Path, root: Path, arm: Callable[[], None] | None) -> None:
    torch.set_num_threads(1)
    if arm:
        arm()
    pipeline.run(pipeline.Run(recipe=micro_recipe(folder), root=root), load_target("cpu"))


def left(root: Path) -> list[str]:
    """The artifacts that can be found; opening them all must succeed."""
    found = [path.parent for path in sorted(root.glob("tiny/*/manifest.json"))]
    for path in found:
        artifact.open_artifact(path)
    return [path.name.rpartition("-")[0] for path in found]


def main(folder: Path, root: Path) -> None:
    fork = multiprocessing.get_context("fork")
    report = []
    for place, arm in [*PLACES.items(), ("", None)]:
        child = fork.Process(target=run, args=(folder, root, arm))
        child.start()
        child.join()
        partial = [path.name for path in root.rglob(".*.partial")]
        report.append({"place": place, "exit": child.exitcode, "left": left(root), "partial": partial})
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
