"""One optimization run, as every trained stage has it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .base import Spec


class OptimSpec(Spec):
    """One optimization run: AdamW, linear warm-up, cosine decay to a tenth, EMA of the weights.

    No iterations leave the weights as they start.
    """

    iterations: Annotated[int, Field(ge=0)]
    batch: PositiveInt
    lr: PositiveFloat = 3e-4
    warmup: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    accumulate: PositiveInt = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: PositiveInt = 500
    sample_every: Annotated[int, Field(ge=0)] = 0
