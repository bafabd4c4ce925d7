"""The run that faults are tried on: recipes/tiny.yaml at the sizes of tests/micro_line.py, in forked children.

Importing this loads PyTorch, ModelOpt and all that a run needs, so that a child starts at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import modelopt.torch.quantization  # noqa: F401
import onnxruntime  # noqa: F401
import torch
import torch.utils.tensorboard

import flowpose.compile.engine
import flowpose.distill
import flowpose.export.exporting
import flowpose.quantize
import flowpose.reporting  # noqa: F401 - imports that a start would make
from flowpose import job, pipeline
from flowpose.spec.reading import load_target

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from micro_line import micro_recipe

STAGES = (*job.ORDER, "compile", "report")


class Line:
    """Starts of the micro recipe; `folder` holds its calibration set."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe = micro_recipe(folder)

    def __call__(self, root: Path, stage: str) -> None:
        """Makes everything up to a stage; flowpose's errors come through."""
        torch.set_num_threads(1)
        job.GOALS = {}  # in this child alone: up to `distill` is without its finish, so that a kill can lie between
        run = pipeline.Run(recipe=self.recipe, root=root)
        if stage == "report":
            pipeline.run(run, load_target("cpu"))
        elif stage == "compile":
            done = run.stages()
            gates = tuple(gate for each in done for gate in each.gates)
            run.compile(done[-1].artifact, load_target("cpu"), gates)
        else:
            run.stages(stage)  # type: ignore[arg-type]
