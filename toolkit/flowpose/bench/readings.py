"""One look at what the machine does: memory, clocks, heat, power, and who else has the processor.

What a machine does not tell is left out of a reading, never 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowpose.device import nvml, sysfs
from flowpose.device.files import ROOT, listed, read, read_number
from flowpose.device.tegrastats import TegraStats, stats

STAT, STATM = "proc/stat", "proc/self/statm"
CPUFREQ = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
THROTTLES = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"
RAPL = "sys/class/powercap/intel-rapl:*"
COUNTS = ("core_throttle_count", "package_throttle_count")


@dataclass(frozen=True)
class Load:
    """Time of all cores together since boot, s: at work, given to other machines by the hypervisor, all."""

    busy: float
    stolen: float
    total: float


@dataclass(frozen=True)
class Reading:
    """One look at the machine; a quantity that it does not tell is missing from its table, or None.

    Attributes:
        at: seconds from any fixed moment.
        memory_mb: resident memory of this process.
        clocks: what -> MHz.
        temperatures: sensor -> C.
        power: rail -> W.
        energy: meter -> J since any moment.
        energy_range: meter -> J at which it starts anew.
        throttles: counter -> how often it held a core down since boot.
        reasons: what holds a GPU's clock down now, by NVML's names.
        load: of the machine.
        own: processor time of this process and of the children it waited for, s.
    """

    at: float
    memory_mb: float | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    power: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    energy_range: Mapping[str, float] = field(default_factory=dict)
    throttles: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    load: Load | None = None
    own: float = 0.0


def take_reading(
    root: Path = ROOT,
    gpus: Callable[[], nvml.Gpus] | None = None,
    line: Callable[[], str | None] | None = None,
) -> Reading:
    """Returns what the machine tells now.

    Args:
        root: where /proc and /sys are.
        gpus: asks NVML; None does not.
        line: gives a line of tegrastats, which takes half a second; None does not ask it.

    Raises:
        DeviceError: a file, the driver or tegrastats answers with what is not in its format.
    """
    clocks, temperatures, power = cpu_clocks(root), sysfs.temperatures(root), sysfs.power(root)
    jetson = sysfs.gpu_clock(root)
    if jetson is not None:
        clocks["gpu"] = float(jetson.now_mhz)
    cards = gpus().gpus if gpus is not None else ()
    reasons: list[str] = []
    for index, card in enumerate(cards):
        name = "gpu" if len(cards) == 1 else f"gpu{index}"
        told = ((clocks, card.sm_mhz), (temperatures, card.temperature_c), (power, card.power_w))
        for table, value in told:
            if value is not None:
                table[name] = float(value)
        reasons += [f"{name} {each}" for each in card.reasons or () if each in nvml.THROTTLING]
    found = stats(line) if line is not None else None
    if found is not None:
        clocks |= _tegra_clocks(found)
        temperatures |= found.temperatures
        power |= {rail: each.now_mw / 1000 for rail, each in found.rails.items()}
    energy, ranges = rapl(root)
    own = os.times()
    return Reading(
        time.perf_counter(), resident_mb(root), clocks, temperatures, power, energy, ranges, cpu_throttles(root),
        tuple(reasons), load(root), own.user + own.system + own.children_user + own.children_system,
    )  # fmt: skip


def _tegra_clocks(found: TegraStats) -> dict[str, float]:
    clocks = {f"cpu{index}": each.mhz for index, each in enumerate(found.cores)}
    told = {**clocks, "memory controller": found.emc_mhz, "gpu": max(found.gpu_mhz, default=None)}
    return {name: float(mhz) for name, mhz in told.items() if mhz is not None}


def resident_mb(root: Path = ROOT) -> float | None:
    """Returns the memory of this process that is resident now, MB; None where the kernel does not tell."""
    text = read(root, STATM)
    return None if text is None else int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu_clocks(root: Path = ROOT) -> dict[str, float]:
    """Returns core -> its clock now, MHz; empty where the kernel does not govern clocks."""
    found = {}
    for folder in listed(root, CPUFREQ):
        kilohertz = read_number(root, f"{folder}/scaling_cur_freq")
        if kilohertz is not None:
            found[folder.split("/")[-2]] = kilohertz / 1000
    return found


def cpu_throttles(root: Path = ROOT) -> dict[str, int]:
    """Returns core and counter -> how often heat held it down since boot; empty where the kernel does not count."""
    found = {}
    for folder in listed(root, THROTTLES):
        for name in COUNTS:
            count = read_number(root, f"{folder}/{name}")
            if count is not None:
                found[f"{folder.split('/')[-2]} {name}"] = count
    return found


def rapl(root: Path = ROOT) -> tuple[dict[str, float], dict[str, float]]:
    """Returns meter -> J, and meter -> J at which it starts anew; both empty where this user may not read them.

    Only whole packages (`intel-rapl:0`, also on AMD): a part such as `intel-rapl:0:0` is counted in its package.
    """
    energy, ranges = {}, {}
    for folder in listed(root, RAPL):
        microjoules = read_number(root, f"{folder}/energy_uj")
        if folder.count(":") == 1 and microjoules is not None:
            name = read(root, f"{folder}/name") or folder.rpartition("/")[2]
            energy[name] = microjoules / 1e6
            ranges[name] = (read_number(root, f"{folder}/max_energy_range_uj") or 0) / 1e6
    return energy, ranges


def load(root: Path = ROOT) -> Load | None:
    """Returns how busy the machine's cores have been since boot; None where there is no /proc/stat.

    Its first line is `cpu user nice system idle iowait irq softirq steal ...` in ticks (proc_stat(5)).
    """
    text = read(root, STAT)
    if text is None:
        return None
    ticks = [int(part) / os.sysconf("SC_CLK_TCK") for part in text.splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, soft, stolen = ticks
    return Load(user + nice + system + irq + soft, stolen, sum(ticks))
