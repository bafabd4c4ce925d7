"""Quality of the generators of every stage, on the same validation pairs, beside the baselines they must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flowpose.artifact import Artifact
from flowpose.comparison import (
    Draw,
    Images,
    Pairs,
    choosing,
    copy_source,
    judge,
    measurements,
    row,
    scores_of,
    truth_row,
    validation,
)
from flowpose.flow import end_dense
from flowpose.job import Job
from flowpose.metrics import Scores, own_lpips, summary
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures, to_tensor
from flowpose.optimize import own_device
from flowpose.spec.judging import EvaluateSpec
from flowpose.spec.manifest import Measurement

__all__ = [
    "MIDDLES",
    "Draw",
    "Images",
    "Pairs",
    "baselines",
    "best_middle",
    "copy_source",
    "drawer",
    "judge",
    "measure",
    "middle_row",
    "scores",
    "scores_of",
    "teacher_grid",
    "teacher_middle",
    "teacher_rows",
    "validation",
]

BATCH, CPU = 16, torch.device("cpu")
MIDDLES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIDDLE = 0.5  # of a teacher whose best was not looked for
MIDDLE_ROW, MIDDLE_METRIC = "teacher-2", "t_mid"


def drawer(generator: Generator, device: torch.device = CPU) -> Draw:
    """A generator on the CPU as a Draw, in batches, without gradients; it is there again after each call.

    On a GPU PyTorch's own settings hold: products in fp32, convolutions in TF32.
    """

    @torch.no_grad()
    def draw(sources: Images, keypoints: NDArray[np.float32]) -> Images:
        parts = [slice(i, i + BATCH) for i in range(0, len(sources), BATCH)]
        generator.to(device)
        made = [
            to_pictures(generator(to_tensor(sources[i], device), torch.from_numpy(keypoints[i]).to(device)))
            for i in parts
        ]
        generator.cpu()
        return np.concatenate(made)

    return draw


def scores(draw: Draw, pairs: Pairs) -> Scores:
    """Mean scores of a Draw against the truths."""
    return summary(scores_of(draw(pairs.sources, pairs.keypoints), pairs))


def measure(job: Job, contenders: Sequence[tuple[str, Draw]]) -> tuple[Measurement, ...]:
    """Measurements of (label, Draw) contenders on the recipe's validation pairs; `stage` holds the label."""
    pairs = validation(job.recipe, job.data)
    return measurements([row(label, draw, pairs) for label, draw in contenders], _set(job, pairs))


def baselines(job: Job) -> tuple[Measurement, ...]:
    """The truth itself (the judge's own ceiling for pose) and the copied source."""
    pairs = validation(job.recipe, job.data)
    return measurements([truth_row(pairs), row("copy-source", copy_source, pairs)], _set(job, pairs))


def _set(job: Job, pairs: Pairs) -> str:
    """The data of measurements; pairs drawn by another seed than the default are another set, as gates compare."""
    seed = job.recipe.evaluate.seed
    drawn = "" if seed == EvaluateSpec().seed else f", seed {seed}"
    return f"{job.set_name}/{pairs.split}{drawn}"


def teacher_grid(steps: int, middle: float = MIDDLE) -> tuple[float, ...]:
    """The grid of a teacher at so many Euler evaluations: (0, 1), (0, middle, 1), or end-dense."""
    return (0.0, middle, 1.0) if steps == 2 else end_dense(steps)


def teacher_rows(job: Job, teacher: Generator, middle: float = MIDDLE) -> tuple[Measurement, ...]:
    """The teacher at each number of evaluations that the recipe lists: Euler on `teacher_grid`."""
    contenders = [
        (f"teacher-{steps}", drawer(teacher.on_grid(teacher_grid(steps, middle), "euler"), own_device()))
        for steps in job.recipe.evaluate.teacher_steps
    ]
    return measure(job, contenders)


def best_middle(job: Job, teacher: Generator, candidates: Sequence[float] = MIDDLES) -> float:
    """The candidate t_mid at which two Euler evaluations have the least mean own-LPIPS on the pairs of `choosing`.

    It becomes the grid that students train on, so it is not chosen on the test split.
    """
    pairs = choosing(job.recipe, job.data)

    def distance(middle: float) -> float:
        draw = drawer(teacher.on_grid(teacher_grid(2, middle), "euler"), own_device())
        views = [judge().view(picture) for picture in draw(pairs.sources, pairs.keypoints)]
        return float(np.mean([own_lpips(a, b) for a, b in zip(views, pairs.views, strict=True)]))

    return min(candidates, key=distance)


def middle_row(job: Job, middle: float) -> Measurement:
    """`teacher-2.t_mid` as the teacher's artifact keeps it."""
    pairs = choosing(job.recipe, job.data)
    return Measurement(
        metric=MIDDLE_METRIC,
        value=middle,
        n=len(pairs),
        set=_set(job, pairs),
        against="truth",
        stage=MIDDLE_ROW,
    )


def teacher_middle(teacher: Artifact) -> float:
    """t_mid as a model artifact keeps it, MIDDLE where its best was not looked for."""
    kept = [m for m in teacher.manifest.measurements if (m.stage, m.metric) == (MIDDLE_ROW, MIDDLE_METRIC)]
    return kept[0].value if kept else MIDDLE
