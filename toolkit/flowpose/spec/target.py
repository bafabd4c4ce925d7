"""A target: the machine that a graph is compiled for and measured on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from .base import Precision, Spec

Backend = Literal[
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "openvino",
    "tensorrt",
    "torch-compile",
    "torch-tensorrt",
]
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


class PowerMode(Spec):
    """What the power tool of a board allows its GPU: how much of the chip runs, and how fast.

    Attributes:
        name: what the tool calls the mode, such as `15W`; `boost` where there is no such tool.
        conf: the tool's file that holds it where a board has several, such as `super`.
        id: the tool's number for it in that file; boards number differently, so it is for reading only.
        sms: streaming multiprocessors that are not gated off.
        mhz: highest clock of the GPU.
        bandwidth: of the memory, GB/s of 10^9 bytes.
        default: whether the board starts in it when it is new.
    """

    name: str = Field(min_length=1)
    conf: str = ""
    id: NonNegativeInt | None = None
    sms: PositiveInt
    mhz: Positive
    bandwidth: Positive
    default: bool = False

    @property
    def label(self) -> str:
        """`super 25W` or `15W`."""
        return f"{self.conf} {self.name}" if self.conf else self.name


class Gpu(Spec):
    """An NVIDIA GPU.

    Attributes:
        sm: compute capability, such as `8.7`.
        found_by: part numbers of modules (`p3767-0003`, from the device tree) or names that the driver gives the GPU.
        ops: precision -> operations (an addition and a multiplication count as two) of one SM in one clock, dense.
        modes: power modes, one at least; no default among them where what the board starts in is not known well enough.
        dla: deep learning accelerators beside the GPU; flowpose does not use them.
        unified: whether GPU and CPU share one memory.
        memory_mb: the GPU's own memory, MB; None where it is shared.
    """

    sm: str = Field(pattern=r"^\d+\.\d$")
    found_by: tuple[str, ...] = Field(min_length=1)
    ops: dict[Precision, PositiveInt] = Field(min_length=1)
    modes: tuple[PowerMode, ...] = Field(min_length=1)
    dla: NonNegativeInt = 0
    unified: bool = False
    memory_mb: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_default(self) -> Self:
        labels = [mode.label for mode in self.modes]
        if len(set(labels)) != len(labels) or sum(mode.default for mode in self.modes) > 1:
            raise ValueError(f"modes need names of their own and at most one default, got {labels}")
        return self

    @property
    def default(self) -> PowerMode | None:
        """The mode that the board starts in when it is new; None where it is not among the modes."""
        return next((mode for mode in self.modes if mode.default), None)

    @property
    def best(self) -> PowerMode:
        """The mode with the most operations a second, and of those the one with the fastest memory."""
        return max(self.modes, key=lambda mode: (mode.sms * mode.mhz, mode.bandwidth))

    def peak(self, mode: PowerMode, precision: Precision) -> float | None:
        """Operations a second in a mode, None where the rate is not known."""
        return mode.sms * mode.mhz * 1e6 * self.ops[precision] if precision in self.ops else None


class Cpu(Spec):
    """A processor, by what simple loops measure on one of its threads (`flowpose.bench.peaks`).

    Attributes:
        peaks: precision -> operations a second of one thread.
        bandwidth: of one thread, GB/s of 10^9 bytes, read and written by copies of 2 MB: an activation's size, so
            caches are part of it.
    """

    peaks: dict[Precision, Positive] = Field(min_length=1)
    bandwidth: Positive


class Release(Spec):
    """A release of the board's software, and what it brings.

    Attributes:
        name: such as `JetPack 6.2`.
        tensorrt: its version, such as `10.3`; None where it brings none.
        python: such as `3.10`.
        cuda: such as `12.6`.
    """

    name: str
    tensorrt: str | None = None
    python: str | None = None
    cuda: str | None = None


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
        gpu: the GPU where graphs run on one.
        cpu: the processor's rates where graphs run on it and somebody measured them.
        releases: what the board's own software brings, oldest first.
        sources: where the numbers come from: what (`gpu.modes`) -> page, file or measurement.
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
    gpu: Gpu | None = None
    cpu: Cpu | None = None
    releases: tuple[Release, ...] = ()
    sources: dict[str, str] = {}
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

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.gpu is not None and self.cpu is not None:
            raise ValueError("gpu and cpu both given, expected the one that graphs run on")
        if (self.gpu is not None or self.cpu is not None) and not self.sources:
            raise ValueError("numbers without sources, expected sources: {what: where from}")
        return self


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
