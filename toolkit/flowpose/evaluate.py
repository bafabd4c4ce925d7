"""Quality of anything that makes pictures, on the same validation pairs, beside the baselines it must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowpose import data
from flowpose.flow import end_dense
from flowpose.job import Job
from flowpose.metrics import Judge, Scores, View, score, summary
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures, to_tensor
from flowpose.spec.manifest import Measurement
from flowpose.spec.recipe import EvaluateSpec, FiguresData, FolderData, ImageSpec, Recipe

Images = NDArray[np.uint8]
Draw = Callable[[Images, NDArray[np.float32]], Images]
"""Sources u8[n, H, W, 3] and keypoints f32[n, 133, 3] -> pictures u8[n, H, W, 3]."""

UNITS = {"psnr": "dB"}
BATCH = 16


@dataclass(frozen=True, eq=False)
class Pairs:
    """Validation pairs in memory, and what the judge sees in their truths."""

    split: str
    sources: Images
    truths: Images
    keypoints: NDArray[np.float32]
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.sources)


@lru_cache(maxsize=1)
def judge() -> Judge:
    """The packaged judge, loaded once a process."""
    return Judge()


def validation(recipe: Recipe, roots: tuple[Path, ...]) -> Pairs:
    """The pairs that the recipe is judged on: the same for every stage and run."""
    return _validation(recipe.data, recipe.image, recipe.evaluate, roots)


@lru_cache(maxsize=2)
def _validation(
    source: FolderData | FiguresData, size: ImageSpec, spec: EvaluateSpec, roots: tuple[Path, ...]
) -> Pairs:
    pictures = data.read(source, size, spec.split, roots)
    numbers = np.array(list(data.draw_pairs(pictures, spec.pairs, spec.seed)))
    truths = pictures.images[numbers[:, 1]]
    return Pairs(
        split=spec.split,
        sources=pictures.images[numbers[:, 0]],
        truths=truths,
        keypoints=pictures.keypoints[numbers[:, 1]],
        views=tuple(judge().view(truth) for truth in truths),
    )


def drawer(generator: Generator) -> Draw:
    """A generator as a Draw, in batches, without gradients."""

    @torch.no_grad()
    def draw(sources: Images, keypoints: NDArray[np.float32]) -> Images:
        parts = range(0, len(sources), BATCH)
        made = [
            generator(to_tensor(sources[i : i + BATCH]), torch.from_numpy(keypoints[i : i + BATCH]))
            for i in parts
        ]
        return np.concatenate([to_pictures(part) for part in made])

    return draw


def copy_source(sources: Images, keypoints: NDArray[np.float32]) -> Images:
    """The baseline that ignores the pose."""
    return sources


def scores(draw: Draw, pairs: Pairs) -> Scores:
    """Mean scores of a Draw against the truths."""
    made = draw(pairs.sources, pairs.keypoints)
    rows = zip(made, pairs.truths, pairs.keypoints, pairs.views, strict=True)
    return summary([score(m, t, k, judge(), truth_view=v) for m, t, k, v in rows])


def measure(job: Job, contenders: Sequence[tuple[str, Draw]]) -> tuple[Measurement, ...]:
    """Measurements of (label, Draw) contenders on the recipe's validation pairs; `stage` holds the label."""
    pairs = validation(job.recipe, job.data)
    return tuple(
        Measurement(
            metric=metric, value=value, unit=UNITS.get(metric, ""), n=len(pairs),
            set=f"{job.set_name}/{pairs.split}", against="truth", stage=label,
        )
        for label, draw in contenders
        for metric, value in asdict(scores(draw, pairs)).items()
    )  # fmt: skip


def baselines(job: Job) -> tuple[Measurement, ...]:
    """The truth itself (the judge's own ceiling for pose) and the copied source."""
    truths = validation(job.recipe, job.data).truths
    return measure(job, [("truth", lambda sources, keypoints: truths), ("copy-source", copy_source)])


def teacher_rows(job: Job, teacher: Generator) -> tuple[Measurement, ...]:
    """The teacher at each number of evaluations that the recipe lists: Euler on the end-dense grid."""
    contenders = [
        (f"teacher-{steps}", drawer(teacher.on_grid(end_dense(steps), "euler")))
        for steps in job.recipe.evaluate.teacher_steps
    ]
    return measure(job, contenders)
