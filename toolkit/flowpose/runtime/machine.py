"""What machine this is: named in engines' keys and beside every measurement."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import flowpose
from flowpose.kernel_files import Cpuinfo, parse_cpuinfo, parse_meminfo
from flowpose.nvidia_files import asked_mode, parse_driver, parse_status
from flowpose.runtime.backend import ARCHITECTURES, available_threads

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
POWER_MODE = Path("/var/lib/nvpmodel/status")  # of a Jetson
JETSON = Path("/etc/nv_tegra_release")  # on Jetsons alone
DRIVER = Path("/proc/driver/nvidia/version")
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

    The mode decides how many of the GPU's multiprocessors run, and how fast: an engine is tuned to that. It is read
    from the status file; a Jetson without one (a container) is asked by `nvpmodel -q`, where that is installed.

    Raises:
        DeviceError: the file, or the answer, does not name the mode.
    """
    if POWER_MODE.exists():
        return {"power_mode": str(parse_status(POWER_MODE.read_text()))}
    mode = asked_mode() if JETSON.exists() else None
    return {"power_mode": str(mode.id)} if mode is not None else {}


def driver_identity() -> dict[str, str]:
    """Returns `driver`, the version of the NVIDIA driver that is loaded; empty where it cannot be read.

    Raises:
        DeviceError: the kernel's file names no version.
    """
    try:
        text = DRIVER.read_text()
    except OSError:  # no driver, one without the file (WSL), or a container that hides it
        return {}
    return {"driver": parse_driver(text)}


def cpu_identity() -> dict[str, str]:
    """Returns what code made for this very processor depends on: `cpu`, its name, and `cpu_flags`.

    The latter is a digest of the instructions that /proc/cpuinfo lists, in any order; left out where it lists none.
    """
    found = _cpuinfo().instructions
    digest = hashlib.sha256(" ".join(sorted(found or ())).encode()).hexdigest()[:16]
    return {"cpu": cpu_model(), **({"cpu_flags": digest} if found else {})}


def cpu_model() -> str:
    """Returns the processor's name, from /proc/cpuinfo, or the board's where that has none (ARM)."""
    name = _cpuinfo().name
    if name:
        return name
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
    for line in _text(STATUS).splitlines():
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
    return parse_meminfo(_text(MEMINFO)).get("MemTotal", 0)


def _cpuinfo() -> Cpuinfo:
    return parse_cpuinfo(_text(CPUINFO))


def _text(file: Path) -> str:
    """A file of /proc; empty where there is none, for not every system has them."""
    return file.read_text() if file.exists() else ""
