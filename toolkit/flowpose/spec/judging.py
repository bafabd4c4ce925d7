"""How a recipe is judged: what its quality is measured on, and the limits that stop a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from flowpose.spec.base import Spec


class EvaluateSpec(Spec):
    """How quality is measured: the split, how many pairs, and the teacher's step counts in the table."""

    split: Literal["train", "val", "test"] = "val"
    pairs: PositiveInt = 64
    sheet: PositiveInt = 8
    seed: Annotated[int, Field(ge=0)] = 0
    teacher_steps: tuple[PositiveInt, ...] = (1, 2, 16)
    latency_steps: tuple[PositiveInt, ...] = (16, 50)
    latency_runs: PositiveInt = 100


class Gate(Spec):
    """A limit on one measurement of one stage; the run stops where it is broken.

    Attributes:
        metric: `metric` or `label.metric`, of the stage's artifact or of what that was made from.
        min, max: the limits; with `of`, in units of that measurement.
        of: another measurement, such as `teacher-16.own_lpips`, of a stage before, the last made that has it.
    """

    stage: Literal[
        "autoencoder",
        "train",
        "regressor",
        "teacher_finish",
        "distill",
        "finish",
        "quantize",
        "export",
        "compile",
    ]
    metric: str
    min: float | None = None
    max: float | None = None
    of: str | None = None
