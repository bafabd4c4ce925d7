"""What machine this is: named in engines' keys and beside every measurement."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import flowpose
from flowpose.runtime.backend import ARCHITECTURES, available_threads

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
POWER_MODE = Path("/var/lib/nvpmodel/status")  # of a Jetson: `pmode:0002`
BOARD = Path("/sys/firmware/devicetree/base/model")
TOOLS = ("numpy", "onnxruntime", "openvino", "opencv-python-headless")


@dataclass(frozen=True)
class Machine:
    """A machine.

    Attributes:
        cpu: the processor's name.
        cores: cores that this process may use.
        arch: x86_64, aarch64 or what the platform says.
        system: operating system and its release.
        memory_mb: memory of the machine, MB; 0 where it is not told.
        versions: installed tool -> version.
    """

    cpu: str
    cores: int
    arch: str
    system: str
    memory_mb: int
    versions: dict[str, str]


def machine() -> Machine:
    """Returns the description of this machine."""
    system = f"{platform.system()} {platform.release()}"
    return Machine(cpu_model(), available_threads(), machine_arch(), system, _memory(), versions())


def machine_arch() -> str:
    """Returns this machine's processor as targets name it: x86_64, aarch64 or what the platform says."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def machine_identity() -> dict[str, str]:
    """Returns what built files depend on beside their backend and its GPU: the power mode of a Jetson, by its number.

    The mode decides how many of the GPU's multiprocessors run, and how fast: an engine is tuned to that.
    """
    if not POWER_MODE.exists():
        return {}
    return {"power_mode": POWER_MODE.read_text().strip().removeprefix("pmode:").lstrip("0") or "0"}


def cpu_model() -> str:
    """Returns the processor's name, from /proc/cpuinfo, or the board's where that has none (ARM)."""
    for line in CPUINFO.read_text().splitlines() if CPUINFO.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    if BOARD.exists():
        return BOARD.read_text().strip("\0 \n")
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of flowpose, Python and those of TOOLS that are installed."""
    found = {"flowpose": flowpose.__version__, "python": platform.python_version()}
    installed = {tool: _version(tool) for tool in TOOLS}
    return {**found, **{tool: version for tool, version in installed.items() if version}}


def peak_memory_mb() -> float:
    """Returns the most memory that this process has had resident so far, MB.

    Linux gives a child the getrusage peak of the process that started it, so /proc is asked there.
    """
    for line in STATUS.read_text().splitlines() if STATUS.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024) if sys.platform == "darwin" else peak / 1024


def _version(tool: str) -> str:
    try:
        return metadata.version(tool)
    except metadata.PackageNotFoundError:
        return ""


def _memory() -> int:
    for line in MEMINFO.read_text().splitlines() if MEMINFO.exists() else ():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0
