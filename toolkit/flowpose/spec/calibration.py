"""A calibration set: which pictures fix the INT8 scales. A description, not the pictures; and the lock of a draw."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from .base import Spec
from .manifest import Digest
from .recipe import DataSpec

Axis = Literal["view", "framing", "arms"]
"""What poses are told apart by; flowpose.quantize.strata says how."""


class Calibration(Spec):
    """Which samples a quantization is calibrated on; the same record always gives the same samples.

    Attributes:
        format: version of this file's layout.
        name: what the set is called in a recipe.
        data: the data the samples are drawn from, as in a recipe.
        split: the split that they are drawn from; test is left to the final numbers.
        count: how many source and pose pairs.
        seed: of the draw.
        strata: poses are sorted by these, and each sort gives as many pairs as any other; none: pairs are drawn as
            the data has them, so that its commonest poses fix most ranges.
        digest: sha256 of what was drawn, to notice changed data; None where it is not fixed. Of pictures that are
            read it is made from their files, whatever the size; of drawn ones from their pixels.
    """

    format: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    data: DataSpec
    split: Literal["train", "val"]
    count: PositiveInt
    seed: NonNegativeInt
    strata: tuple[Axis, ...] = ()
    digest: Digest | None = None

    @field_validator("strata")
    @classmethod
    def _each_once(cls, value: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"a name stands twice, got {list(value)}")
        return value


class LockedPair(Spec):
    """One drawn pair.

    Attributes:
        source: name of the picture that shows the person.
        pose: name of the picture whose joints are taken.
        stratum: of those joints.
        source_sha256, pose_sha256: digests of both pictures with their joints.
    """

    source: str
    pose: str
    stratum: str
    source_sha256: Digest
    pose_sha256: Digest


class CalibrationLock(Spec):
    """What a calibration set drew, so that a later draw can say which picture has changed.

    Attributes:
        format: version of this file's layout.
        calibration: the set, without its digest.
        size: height and width in pixels where pictures are drawn at that size, None where they are read from files.
        digest: of the pairs.
        pairs: in their order.
    """

    format: Literal[1]
    calibration: Calibration
    size: tuple[PositiveInt, PositiveInt] | None
    digest: Digest
    pairs: tuple[LockedPair, ...]
