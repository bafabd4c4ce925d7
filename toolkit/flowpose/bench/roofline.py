"""How long a graph should take on a machine: its arithmetic, its memory traffic and its launches against the peaks.

    time = sum over groups of max(operations / (peak * share), bytes / (bandwidth * share)) + launch, + a run's own cost

A group is a layer with the arithmetic that its backend fuses to it, or another step. What shares of the peaks a backend
reaches stands in FAMILIES, measured for the processor, from the notes named there for GPUs. It is a prediction:
nothing here has run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from flowpose.errors import TargetMismatch
from flowpose.spec.base import Precision
from flowpose.spec.costs import WIDTHS, Fused, GraphCosts, Group, Step
from flowpose.spec.target import PowerMode, Target

NARROW = 16  # K or N below it leaves most of a matrix unit idle
TILE = 64 * 64  # results that one SM computes at once, at the least
Device = Literal["gpu", "cpu"]
FUSES_ALL: frozenset[Fused] = frozenset(("layer", "chain"))
FUSES_LAYERS: frozenset[Fused] = frozenset(("layer",))
FUSES_NONE: frozenset[Fused] = frozenset()


@dataclass(frozen=True)
class Shares:
    """Shares of the peak that layers reach: convolutions, products of matrices, and those with K or N below NARROW."""

    conv: float
    matmul: float
    narrow: float

    def of(self, step: Step) -> float:
        """Returns the share of a layer."""
        if min(step.inner, step.columns) < NARROW:
            return self.narrow
        return self.conv if step.kind == "conv" else self.matmul


@dataclass(frozen=True)
class Family:
    """What a backend makes of a kind of device.

    Attributes:
        floats, codes: shares of the peak in floating point, and in codes of 8 bits.
        memory: share of the bandwidth.
        launch_us: what each group costs besides, microseconds.
        run_us: what each run of a graph costs besides: inputs, outputs and the call, microseconds.
        fuses: what it runs inside the step before.
        second_thread: what each CPU thread after the first adds, in units of the first; 1 for GPUs.
        source: where the numbers come from.
    """

    floats: Shares
    codes: Shares
    memory: float
    launch_us: float
    run_us: float
    fuses: frozenset[Fused]
    second_thread: float
    source: str


_EDGE = (
    "other people's measurements, not of flowpose: layers reach 0.45 to 0.7 of the peak, memory 0.85 to 0.92 (an Orin"
    " Nano reads 62.3 of 68.3 GB/s)"
)
_GRAPH = _EDGE + "; 1 to 2 us a kernel inside a CUDA graph; narrow layers and a run's own 50 us assumed"
_EAGER = _EDGE + "; 5 to 10 us a kernel without a CUDA graph; narrow layers and a run's own 50 us assumed"
_FITTED = (
    "fitted on four untrained models, one thread of an EPYC (Zen 4), CPU time (benchmarks/results/roofline-cpu.json;"
    " benchmarks/roofline.py); a second thread on people-128 (benchmarks/results/people-128-bench-backends.json)"
)
_SHARES = Shares(conv=0.6, matmul=0.55, narrow=0.1)
FAMILIES: Mapping[tuple[Device, str], Family] = MappingProxyType(
    {
        ("gpu", "tensorrt"): Family(_SHARES, _SHARES, 0.88, 2.0, 50.0, FUSES_ALL, 1.0, _GRAPH),
        ("gpu", "torch-tensorrt"): Family(_SHARES, _SHARES, 0.88, 2.0, 50.0, FUSES_ALL, 1.0, _GRAPH),
        ("gpu", "torch-compile"): Family(_SHARES, _SHARES, 0.88, 2.0, 50.0, FUSES_ALL, 1.0, _GRAPH),
        ("gpu", "onnxruntime-tensorrt"): Family(_SHARES, _SHARES, 0.88, 7.0, 50.0, FUSES_ALL, 1.0, _EAGER),
        ("gpu", "onnxruntime-cuda"): Family(_SHARES, _SHARES, 0.88, 7.0, 50.0, FUSES_NONE, 1.0, _EAGER),
        ("cpu", "openvino"): Family(
            Shares(1.0, 1.0, 0.25), Shares(0.76, 0.49, 0.25), 0.27, 7.1, 50.0, FUSES_ALL, 0.9, _FITTED
        ),
        ("cpu", "onnxruntime"): Family(
            Shares(1.0, 0.84, 0.24), Shares(0.75, 0.50, 0.24), 0.29, 4.0, 50.0, FUSES_LAYERS, 0.9, _FITTED
        ),
    }
)
"""Kind of device and backend -> what the backend makes of it."""


@dataclass(frozen=True)
class Limits:
    """What a machine can do at best.

    Attributes:
        device: what graphs run on.
        peaks: precision -> operations a second.
        bandwidth: bytes a second.
        sms: streaming multiprocessors that share the work; 1 for a processor.
        threads: CPU threads; 1 for a GPU.
    """

    device: Device
    peaks: Mapping[str, float]
    bandwidth: float
    sms: int = 1
    threads: int = 1


def gpu_limits(
    target: Target, mode: PowerMode, *, sms: int | None = None, mhz: float | None = None
) -> Limits:
    """Returns the limits of a target's GPU in a power mode, or with the SMs and the clock that were observed.

    Raises:
        TargetMismatch: the target has no GPU.
    """
    if target.gpu is None:
        raise TargetMismatch(f"target {target.name}", "has no GPU", expected="a target with gpu:")
    seen = mode.model_copy(update={"sms": sms or mode.sms, "mhz": mhz or mode.mhz})
    rates = {each: target.gpu.peak(seen, each) for each in target.gpu.ops}
    peaks = {str(each): rate for each, rate in rates.items() if rate is not None}
    return Limits("gpu", peaks, mode.bandwidth * 1e9, seen.sms)


def cpu_limits(target: Target, threads: int) -> Limits:
    """Returns the limits of so many threads of a target's processor.

    Raises:
        TargetMismatch: nobody has measured the target's processor.
    """
    if target.cpu is None:
        fix = "measure it: python benchmarks/roofline.py peaks"
        raise TargetMismatch(f"target {target.name}", "has no measured peaks", expected="cpu:", fix=fix)
    peaks = {str(each): rate for each, rate in target.cpu.peaks.items()}
    return Limits("cpu", peaks, target.cpu.bandwidth * 1e9, threads=threads)


@dataclass(frozen=True)
class Prediction:
    """How long one run of a graph should take. Predicted, not measured.

    Attributes:
        ms: in all, milliseconds.
        compute_ms: of groups that arithmetic bounds.
        memory_ms: of groups that memory bounds.
        launch_ms: launches and the run's own cost.
        bound_ms: the least that the peaks allow: every share 1, all fused, no launches. Of a processor, whose caches
            keep small tensors, only the arithmetic is a bound.
        groups: how many steps the backend runs.
    """

    ms: float
    compute_ms: float
    memory_ms: float
    launch_ms: float
    bound_ms: float
    groups: int


def predict(graph: GraphCosts, limits: Limits, family: Family, *, width: int | None = None) -> Prediction:
    """Returns how long a run of a graph should take.

    Args:
        graph: its costs.
        limits: of the machine.
        family: what the backend makes of the machine.
        width: bytes of a float, 4 or 2, where that is not the file's own; layers in codes stay so.

    Raises:
        TargetMismatch: the machine's rate is not known in a precision that the graph computes in.
    """
    wide = graph.width if width is None else width
    speedup = 1 + (limits.threads - 1) * family.second_thread
    compute, memory = 0.0, 0.0
    groups = graph.groups(family.fuses)
    for group in groups:
        busy = sum(_seconds(step, limits, wide) / family_share(family, step) for step in group.steps)
        moved = _bytes(group, wide) / (limits.bandwidth * family.memory)
        if busy >= moved:
            compute += busy / speedup
        else:
            memory += moved / speedup
    launch = (len(groups) * family.launch_us + family.run_us) / 1e6
    bound = _bound(graph, limits, wide)
    return Prediction(
        ms=1e3 * (compute + memory + launch),
        compute_ms=1e3 * compute,
        memory_ms=1e3 * memory,
        launch_ms=1e3 * launch,
        bound_ms=1e3 * bound,
        groups=len(groups),
    )


def family_share(family: Family, step: Step) -> float:
    """Returns the share of the peak that a step reaches; 1 where it is no layer, which has no operations here."""
    if step.kind == "other":
        return 1.0
    return (family.codes if step.int8 or step.fp8 else family.floats).of(step)


def _seconds(step: Step, limits: Limits, width: int) -> float:
    """The least time of a step's arithmetic; a layer with fewer tiles than there are SMs leaves the others idle."""
    if not step.macs:
        return 0.0
    precision = _precision(step, width)
    if precision not in limits.peaks:
        known = ", ".join(limits.peaks)
        raise TargetMismatch("predict", "the rate is not known", got=precision, expected=f"one of {known}")
    tiles = -(-step.writes.count // TILE)
    return 2 * step.macs / limits.peaks[precision] * limits.sms / min(limits.sms, max(tiles, 1))


def _precision(step: Step, width: int) -> Precision:
    if step.int8 or step.fp8:
        return "int8" if step.int8 else "fp8"
    return "fp32" if width == WIDTHS["fp32"] else "fp16"


def _bytes(group: Group, width: int) -> int:
    return group.weights.bytes(width) + group.moved.bytes(width)


def _bound(graph: GraphCosts, limits: Limits, width: int) -> float:
    """Seconds that no backend can go below, see `Prediction.bound_ms`."""
    found = 0.0
    for group in graph.groups(FUSES_ALL):
        busy = sum(2 * step.macs / limits.peaks[_precision(step, width)] for step in group.steps if step.macs)
        moved = _bytes(group, width) / limits.bandwidth if limits.device == "gpu" else 0.0
        found += max(busy, moved)
    return found / limits.threads


@dataclass(frozen=True)
class AgainstRoofline:
    """A measurement beside what was predicted.

    Attributes:
        predicted_ms, measured_ms: of one run.
        ratio: measured over predicted. Above 3 something is wrong with the engine or the clock; below 1, with the
            model.
        share_of_limit: the least time that the target's peaks allow over the measured one; above 1 on a faster
            processor than the target was measured on.
    """

    predicted_ms: float
    measured_ms: float
    ratio: float
    share_of_limit: float


def against_roofline(found: Prediction, measured_ms: float) -> AgainstRoofline:
    """Returns a measured median beside the prediction, milliseconds."""
    return AgainstRoofline(found.ms, measured_ms, measured_ms / found.ms, found.bound_ms / measured_ms)
