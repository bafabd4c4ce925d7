"""What the kernel tells: GPU clocks, temperatures, power, memory, the mask of what is switched off, the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowpose.device.files import ROOT, listed, number, read, read_number
from flowpose.kernel_files import MEMINFO, memory_lines
from flowpose.nvidia_files import DRIVER, parse_driver

TPC_MASK = (
    "sys/devices/platform/gpu.0/tpc_pg_mask",
    "sys/devices/gpu.0/tpc_pg_mask",
)  # kernels of JetPack 6+ and 5
GPU_FOLDERS = re.compile(r"[0-9a-f]+\.(gpu|ga10b|gv11b)|gpu-gpc-\d+")  # under devfreq: Orin, Xavier, Thor
CHANNELS = (1, 2, 3)  # of an INA3221 power monitor


@dataclass(frozen=True)
class GpuClock:
    """A GPU's clock now, the highest that is allowed now, and the hardware's highest (None: not told), MHz."""

    now_mhz: int
    max_mhz: int
    top_mhz: int | None


@dataclass(frozen=True)
class Memory:
    """Memory and swap of the machine, MB; free is what new processes can have."""

    total_mb: int
    free_mb: int
    swap_total_mb: int
    swap_free_mb: int


def parse_meminfo(text: str) -> Memory:
    """Returns the memory of a /proc/meminfo; DeviceError where one of the four lines that it needs is missing."""
    return Memory(*memory_lines(text, "MemTotal", "MemAvailable", "SwapTotal", "SwapFree"))


def memory(root: Path = ROOT) -> Memory | None:
    """Returns the machine's memory; None where there is no /proc."""
    text = read(root, MEMINFO)
    return None if text is None else parse_meminfo(text)


def driver(root: Path = ROOT) -> str | None:
    """Returns the version of the NVIDIA driver that is loaded; None without one."""
    text = read(root, DRIVER)
    return None if text is None else parse_driver(text)


def tpc_mask(root: Path = ROOT) -> int | None:
    """Returns the mask of texture processing clusters that are switched off now; None where the kernel has none."""
    for path in TPC_MASK:
        found = read_number(root, path)
        if found is not None:
            return found
    return None


def gpu_clock(root: Path = ROOT) -> GpuClock | None:
    """Returns a Jetson GPU's clocks, of its first cluster where each has its own; None where there is no such GPU."""
    for folder in listed(root, "sys/class/devfreq/*"):
        if GPU_FOLDERS.fullmatch(PurePosixPath(folder).name):
            now, allowed = (read_number(root, f"{folder}/{name}_freq") for name in ("cur", "max"))
            if now is not None and allowed is not None:
                table = (read(root, f"{folder}/available_frequencies") or "").split()
                top = max((number(f"{folder}/available_frequencies", each) for each in table), default=None)
                return GpuClock(_mhz(now), _mhz(allowed), None if top is None else _mhz(top))
    return None


def temperatures(root: Path = ROOT) -> dict[str, float]:
    """Returns thermal zone in small letters, without `-thermal` -> C; without zones that are switched off."""
    found: dict[str, float] = {}
    for folder in listed(root, "sys/class/thermal/thermal_zone*"):
        name, value = read(root, f"{folder}/type"), read_number(root, f"{folder}/temp")
        if name and value is not None:
            found[name.lower().removesuffix("-thermal")] = value / 1000
    return found


def power(root: Path = ROOT) -> dict[str, float]:
    """Returns supply rail -> power now, W, of the power monitors on a Jetson's board; empty on other machines.

    VDD_IN (INA3221, Orin Nano and NX) or VIN (INA238, Thor) is the whole module.
    """
    found: dict[str, float] = {}
    for folder in listed(root, "sys/class/hwmon/hwmon*"):
        name = read(root, f"{folder}/name")
        if name == "ina3221":
            for channel in CHANNELS:
                label = read(root, f"{folder}/in{channel}_label")
                millivolts = read_number(root, f"{folder}/in{channel}_input")
                milliamperes = read_number(root, f"{folder}/curr{channel}_input")
                if label and label != "NC" and millivolts is not None and milliamperes is not None:
                    found[label] = millivolts * milliamperes / 1e6
        elif name == "ina238":
            microwatts = read_number(root, f"{folder}/power1_input")
            if microwatts is not None:
                found[read(root, f"{folder}/in1_label") or "VIN"] = microwatts / 1e6
    return found


def _mhz(hertz: int) -> int:
    return round(hertz / 1e6)
