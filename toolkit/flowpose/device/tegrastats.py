"""One line of `tegrastats`: load, clocks, temperatures and power of a Jetson.

The lines differ between releases: a GPU has one clock or one for each cluster, Thor gives clocks without a load, names
of temperatures are in capitals or not, a temperature or a power may have its average and its maximum behind it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Timer

from flowpose.errors import DeviceError

TIMEOUT_S = 3.0
INTERVAL_MS = 500  # that loads are counted over; the first line comes after it

OFF_C = -256.0  # what a sensor that is switched off shows, C
UNCONNECTED = "NC"  # the name of a power rail that nothing is connected to

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB\b")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB\b")
_CPU = re.compile(r"\bCPU \[([^\]]*)\](?:@(\d+))?")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
_ENGINE = r"(?:(\d+)%)?(?:@(?:(\d+)|\[([^\]]*)\]))?(?=\s|$)"
_EMC = re.compile(rf"\bEMC_FREQ {_ENGINE}")
_GPU = re.compile(rf"\bGR3D_FREQ {_ENGINE}")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?:/-?[\d.]+C)?(?=\s|$)")
_RAIL = re.compile(
    r"(?<!\S)([A-Z]\w*) (\d+(?:\.\d+)?)(mW|W|)/(\d+(?:\.\d+)?)(mW|W|)(?:/\d+(?:\.\d+)?(?:mW|W|))?(?=\s|$)"
)
_MILLIWATTS = {"mW": 1.0, "W": 1000.0, "": 1.0}


@dataclass(frozen=True)
class Core:
    """A CPU core: load 0..100 % of its clock of now, and that clock, MHz; both None where it is off."""

    load: int | None
    mhz: int | None


@dataclass(frozen=True)
class Rail:
    """Power through a supply rail now and its average since tegrastats started, mW."""

    now_mw: float
    average_mw: float


@dataclass(frozen=True)
class TegraStats:
    """What one line tells.

    Attributes:
        ram_used_mb, ram_total_mb: memory of processor and GPU together, MB.
        swap_used_mb, swap_total_mb: MB; None where the line has none.
        emc_load, emc_mhz: memory controller, 0..100 % and MHz; None where the line has none.
        gpu_load: 0..100 %; None where the line gives clocks alone (Thor).
        gpu_mhz: a clock for each cluster of the GPU, MHz; empty where the line gives the load alone.
        cores: of the CPU.
        temperatures: sensor in small letters -> C; without those that are off.
        rails: supply rail -> power; VDD_IN or VIN is the whole module.
    """

    ram_used_mb: int
    ram_total_mb: int
    swap_used_mb: int | None
    swap_total_mb: int | None
    emc_load: int | None
    emc_mhz: int | None
    gpu_load: int | None
    gpu_mhz: tuple[int, ...]
    cores: tuple[Core, ...]
    temperatures: Mapping[str, float]
    rails: Mapping[str, Rail]


def stats(line: Callable[[], str | None]) -> TegraStats | None:
    """Returns what tegrastats tells now; None where it tells nothing.

    Args:
        line: gives a line of it, or None: `one_line`.

    Raises:
        DeviceError: as `parse_line`.
    """
    text = line()
    return parse_line(text) if text else None


def one_line() -> str | None:
    """Returns the first line that tegrastats writes; None where it is not installed or silent for TIMEOUT_S.

    Raises:
        DeviceError: it is there and cannot be run.
    """
    command = shutil.which("tegrastats")
    if command is None:
        return None
    arguments = [command, "--interval", str(INTERVAL_MS)]
    try:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
    except OSError as error:
        raise DeviceError("tegrastats", f"cannot be run ({error})") from error
    return _first(process) or None


def _first(process: subprocess.Popen[str]) -> str:
    """A process's first line, empty where it ends or does not come in time; the process never ends by itself."""
    with process:
        alarm = Timer(TIMEOUT_S, process.kill)
        alarm.start()
        try:
            return process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            alarm.cancel()
            process.kill()


def parse_line(line: str) -> TegraStats:
    """Returns what a line of tegrastats tells.

    Raises:
        DeviceError: no RAM or no GR3D_FREQ (each line has them: it is cut short or of something else), or a part
            of it that cannot be read.
    """
    ram, swap = _RAM.search(line), _SWAP.search(line)
    if ram is None:
        raise _unreadable("RAM", line, "RAM 620/7619MB")
    emc_load, emc_clocks = _engine(_EMC, "EMC_FREQ", line) if "EMC_FREQ" in line else (None, ())
    gpu_load, gpu_clocks = _engine(_GPU, "GR3D_FREQ", line)
    return TegraStats(
        ram_used_mb=int(ram.group(1)),
        ram_total_mb=int(ram.group(2)),
        swap_used_mb=int(swap.group(1)) if swap else None,
        swap_total_mb=int(swap.group(2)) if swap else None,
        emc_load=emc_load,
        emc_mhz=emc_clocks[0] if emc_clocks else None,
        gpu_load=gpu_load,
        gpu_mhz=gpu_clocks,
        cores=_cores(line),
        temperatures=_temperatures(line),
        rails=_rails(line),
    )


def _engine(pattern: re.Pattern[str], name: str, line: str) -> tuple[int | None, tuple[int, ...]]:
    """Load and clocks as `37%`, `37%@612`, `0%@[1300,1300]` or `@[1000,1000]`; a cluster that is off has no clock."""
    found = pattern.search(line)
    if found is None or not any(found.groups()):
        raise _unreadable(name, line, f"{name} 37%@612")
    load, clock, clocks = found.groups()
    parts = [part.strip() for part in clocks.split(",")] if clocks else [clock] if clock else []
    on = [part for part in parts if part != "off"]
    if not all(part.isdigit() for part in on):
        raise _unreadable(name, line, f"{name} 0%@[1300,1300]")
    return None if load is None else int(load), tuple(int(part) for part in on)


def _cores(line: str) -> tuple[Core, ...]:
    found = _CPU.search(line)
    if found is None:
        return ()
    shared = found.group(2)  # one clock behind the list, for all cores
    cores = []
    for part in found.group(1).split(","):
        core = _CORE.fullmatch(part.strip())
        if core is None and part.strip() != "off":
            raise _unreadable("CPU", line, "CPU [7%@729,off]")
        clock = core.group(2) or shared if core else None
        cores.append(Core(int(core.group(1)) if core else None, int(clock) if clock else None))
    return tuple(cores)


def _temperatures(line: str) -> dict[str, float]:
    found = {name.lower(): float(value) for name, value in _TEMPERATURE.findall(line)}
    return {name: value for name, value in found.items() if value != OFF_C}


def _rails(line: str) -> dict[str, Rail]:
    return {
        name: Rail(float(now) * _MILLIWATTS[unit], float(average) * _MILLIWATTS[average_unit or unit])
        for name, now, unit, average, average_unit in _RAIL.findall(line)
        if name != UNCONNECTED
    }


def _unreadable(part: str, line: str, example: str) -> DeviceError:
    return DeviceError(
        "tegrastats", f"a line whose {part} cannot be read", got=repr(line[:120]), expected=example
    )
