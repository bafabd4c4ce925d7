"""What machine this is, in one record: for engines' keys, for measurements, and for advice."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flowpose.device import nvml, sysfs
from flowpose.device.files import ROOT
from flowpose.device.jetpack import CHIPS, Board, Chip, JetPack, board, jetpack, l4t
from flowpose.device.nvpmodel import (
    PowerMode,
    PowerModes,
    current_mode,
    live_sms,
    mode_sms,
    power_modes,
)
from flowpose.device.processor import Processor, processor
from flowpose.device.tegrastats import TegraStats
from flowpose.nvidia_files import NamedMode

Kind = Literal["jetson", "nvidia", "cpu"]


@dataclass(frozen=True)
class Device:
    """A machine. None: not told, or not of this kind of machine.

    Attributes:
        kind: a Jetson; a machine with an NVIDIA GPU (the first that NVML lists is told of); any other.
        name: of the board or the GPU, else of the processor.
        module: a Jetson's part number, as p3767-0005.
        sm: compute capability of the GPU, as `8.7`.
        sms: streaming multiprocessors of it that are switched on.
        tpcs: texture processing clusters (two SMs each) of a Jetson's chip, before any is switched off.
        power_mode: that is set on a Jetson.
        modes: of a Jetson's table; empty without one.
        driver: version of the NVIDIA driver that is loaded, also where no GPU is seen.
        l4t, jetpack: version of a Jetson's Linux, and the JetPack that it belongs to.
        memory: of the machine (a Jetson's GPU shares it).
        gpu_memory_total_mb, gpu_memory_free_mb: the GPU's own, MB.
        gpu_mhz, gpu_max_mhz: clock now, and the highest that is allowed now, MHz.
        gpu_top_mhz: the hardware's highest, MHz.
        clock_reasons: names of what holds a desktop GPU's clock down, as NVML has them.
        temperatures: sensor -> C.
        power: supply rail -> W.
        cpu: the processor.
        no_gpu: why NVML tells of no GPU.
        stats: a Jetson's line of tegrastats, where one was read (`doctoring.examine` does).
    """

    kind: Kind
    name: str
    module: str | None = None
    sm: str | None = None
    sms: int | None = None
    tpcs: int | None = None
    power_mode: NamedMode | None = None
    modes: tuple[PowerMode, ...] = ()
    driver: str | None = None
    l4t: str | None = None
    jetpack: JetPack | None = None
    memory: sysfs.Memory | None = None
    gpu_memory_total_mb: int | None = None
    gpu_memory_free_mb: int | None = None
    gpu_mhz: int | None = None
    gpu_max_mhz: int | None = None
    gpu_top_mhz: int | None = None
    clock_reasons: tuple[str, ...] | None = None
    temperatures: dict[str, float] | None = None
    power: dict[str, float] | None = None
    cpu: Processor | None = None
    no_gpu: nvml.Absent | None = None
    stats: TegraStats | None = None


def device(root: Path = ROOT) -> Device:
    """Returns what machine this is.

    Args:
        root: where /proc, /sys, /etc and /var are; a GPU that is not a Jetson's is asked of the driver all the same.

    Raises:
        DeviceError: a file or an answer of the driver is not in its format; names it.
    """
    found, release = board(root), l4t(root)
    if release is not None or (found is not None and found.chip is not None):
        return _jetson(root, found, release)
    seen = nvml.gpus()
    return _nvidia(root, seen) if seen.gpus else _plain(root, found, seen)


def _jetson(root: Path, found: Board | None, release: str | None) -> Device:
    table, clock = power_modes(root), sysfs.gpu_clock(root)
    chip = CHIPS[found.chip] if found is not None and found.chip is not None else None
    mode = current_mode(table, root)
    return Device(
        kind="jetson",
        name=(found.model if found is not None else "") or "NVIDIA Jetson",
        module=found.module if found is not None else None,
        sm=chip.sm if chip is not None else None,
        sms=_live(root, chip, table, mode),
        tpcs=chip.tpcs if chip is not None else None,
        power_mode=mode,
        modes=table.modes if table is not None else (),
        driver=sysfs.driver(root),
        l4t=release,
        jetpack=jetpack(release) if release is not None else None,
        memory=sysfs.memory(root),
        gpu_mhz=clock.now_mhz if clock is not None else None,
        gpu_max_mhz=clock.max_mhz if clock is not None else None,
        gpu_top_mhz=clock.top_mhz if clock is not None else None,
        temperatures=sysfs.temperatures(root),
        power=sysfs.power(root),
        cpu=processor(root),
    )


def _live(root: Path, chip: Chip | None, table: PowerModes | None, mode: NamedMode | None) -> int | None:
    """SMs that are on: by the kernel's mask, else by the table's line of the mode that is set."""
    if chip is None or chip.tpcs is None:
        return None
    mask = sysfs.tpc_mask(root)
    if mask is not None:
        return live_sms(mask, chip.tpcs)
    for each in table.modes if table is not None and mode is not None else ():
        if mode is not None and each.id == mode.id:
            return mode_sms(each, chip.tpcs)
    return None


def _nvidia(root: Path, seen: nvml.Gpus) -> Device:
    gpu = seen.gpus[0]
    return Device(
        kind="nvidia",
        name=gpu.name,
        sm=gpu.sm,
        sms=gpu.sms,
        driver=seen.driver,
        memory=sysfs.memory(root),
        gpu_memory_total_mb=gpu.memory_total_mb,
        gpu_memory_free_mb=gpu.memory_free_mb,
        gpu_mhz=gpu.sm_mhz,
        gpu_max_mhz=gpu.sm_max_mhz,
        gpu_top_mhz=gpu.sm_max_mhz,
        clock_reasons=gpu.reasons,
        temperatures={} if gpu.temperature_c is None else {"gpu": gpu.temperature_c},
        power={} if gpu.power_w is None else {"board": gpu.power_w},
        cpu=processor(root),
    )


def _plain(root: Path, found: Board | None, seen: nvml.Gpus) -> Device:
    cpu = processor(root)
    names = (cpu.name if cpu is not None else "", found.model if found is not None else "")
    return Device(
        kind="cpu",
        name=next((name for name in names if name), platform.processor() or platform.machine()),
        driver=sysfs.driver(root),
        memory=sysfs.memory(root),
        temperatures=sysfs.temperatures(root),
        power=sysfs.power(root),
        cpu=cpu,
        no_gpu=seen.absent,
    )
