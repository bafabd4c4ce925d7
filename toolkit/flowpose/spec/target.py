"""A target: the machine that a graph is compiled for and measured on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from .base import Precision, Spec

Backend = Literal["onnxruntime", "openvino"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_BOUND = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)")


class Budget(Spec):
    """What a frame may cost on the target; None leaves it open.

    Attributes:
        latency_ms_p95: 95th percentile of one frame graph run, milliseconds.
        memory_mb: resident memory of the process that runs the model, MB.
    """

    latency_ms_p95: Positive | None = None
    memory_mb: Positive | None = None


class Target(Spec):
    """Where a model runs.

    Attributes:
        format: version of this file's layout.
        name: what the target is called on the command line.
        backends: the runtimes that may be taken; of several, compile measures each and takes the fastest.
        arch: the processor that `platform.machine()` names, or `any`.
        precisions: the precisions that the machine can run.
        threads: CPU threads for one graph run; None takes every core that the process may use.
        memory_mb: memory of the machine, MB; None where it varies.
        budget: what a frame may cost.
        software: versions that are known to work: package -> range such as `>=1.20,<2`.
        note: what a reader should know, in a sentence or two.
    """

    format: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    backends: tuple[Backend, ...] = Field(min_length=1)
    arch: Literal["any", "x86_64", "aarch64"] = "any"
    precisions: tuple[Precision, ...] = Field(min_length=1)
    threads: PositiveInt | None = None
    memory_mb: PositiveInt | None = None
    budget: Budget = Budget()
    software: dict[str, str] = {}
    note: str = ""

    @field_validator("software")
    @classmethod
    def _ranges(cls, software: dict[str, str]) -> dict[str, str]:
        for tool, versions in software.items():
            if not all(_BOUND.fullmatch(bound.strip()) for bound in versions.split(",")):
                example = "such as '>=1.20,<2'"
                raise ValueError(f"{tool}: not a range of versions, got {versions!r}, expected {example}")
        return software

    @field_validator("backends", "precisions")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"a value stands twice, got {list(values)}")
        return values


def within(version: str, versions: str) -> bool:
    """Whether a version lies in a range.

    Args:
        version: such as `1.22.3`; what follows the leading numbers (`rc1`, `+cu130`) is not compared.
        versions: such as `>=1.20,<2`, as `Target.software` has it.
    """
    release = re.match(r"\d+(\.\d+)*", version)
    here = _numbers(release.group() if release else "0")
    return all(_holds(here, bound.strip()) for bound in versions.split(","))


def _holds(here: tuple[int, ...], bound: str) -> bool:
    found = _BOUND.fullmatch(bound)
    if found is None:
        raise ValueError(f"not a bound on a version: {bound!r}")
    there = _numbers(found.group(2))
    return {
        ">=": here >= there,
        "<=": here <= there,
        "==": here == there,
        "!=": here != there,
        ">": here > there,
        "<": here < there,
    }[found.group(1)]


def _numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version without zeros at the end, so that 2 and 2.0 are the same."""
    return tuple(int(part) for part in re.sub(r"(\.0+)+$", "", version).split("."))
