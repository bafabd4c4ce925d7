"""A calibration set: which pictures fix the INT8 scales. A description, not the pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from .base import Spec
from .manifest import Digest
from .recipe import DataSpec


class Calibration(Spec):
    """Which samples a quantization is calibrated on; the same record always gives the same samples.

    Attributes:
        format: version of this file's layout.
        name: what the set is called in a recipe.
        data: the data the samples are drawn from, as in a recipe.
        split: the split that they are drawn from; test is left to the final numbers.
        count: how many source and pose pairs.
        seed: of the draw.
        digest: sha256 of the drawn samples, to notice changed data; None where it is not fixed.
    """

    format: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    data: DataSpec
    split: Literal["train", "val"]
    count: PositiveInt
    seed: NonNegativeInt
    digest: Digest | None = None
