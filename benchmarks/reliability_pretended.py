"""Runs whose stages only pretend: every lock, folder, move and manifest is real, no network is trained.

What the small sample in the tests kills, and what two runs at once are tried on hundreds of times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from micro_line import Pretence, micro_recipe

from flowpose import job, pipeline
from flowpose.artifact import Artifact

STAGES = job.ORDER


class Pretended:
    """Starts of the micro recipe by makers that write a file and sleep; `folder` holds its calibration set.

    Args:
        folder: for the calibration set.
        seconds: that each stage takes.
        log: where the run's lines are added, with its number; None drops them.
    """

    def __init__(self, folder: Path, seconds: float = 0.0, log: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.seconds, self.log = micro_recipe(folder), seconds, log

    def __call__(self, root: Path, stage: str) -> None:
        job.GOALS = {}  # type: ignore[misc]  # in this child alone: up to `distill` is without its finish
        pipeline.maker = self._maker  # type: ignore[assignment]
        pipeline.check_packages = lambda stages: None  # they are not used
        run = pipeline.Run(recipe=self.recipe, root=root, say=self._say)
        run.stages(stage)  # type: ignore[arg-type]

    def _say(self, text: str) -> None:
        if self.log is not None:
            with self.log.open("a") as out:
                out.write(text + "\n")

    def _maker(self, stage: job.Stage) -> Callable[..., Artifact]:
        make = Pretence().maker(stage)

        def slowly(*given: object) -> Artifact:
            time.sleep(self.seconds)
            return make(*given)

        return slowly
