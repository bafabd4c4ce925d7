"""What would make this machine faster, or a step on it fail: sentences, each with the command that mends it.

Numbers without a source here are those of NVIDIA's tables and release notes; none was measured by this project.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from flowpose.device.facts import Device
from flowpose.device.nvml import INSTALL, THROTTLING
from flowpose.device.nvpmodel import PowerMode, mode_mhz, mode_sms, rates
from flowpose.device.packages import Python

HOT_C = 90.0  # a bound of this project: boards have their own, from about there on
NEAR = 0.9  # of the highest allowed clock: below it, a clock counts as not pinned
SMALL_BOARD_MB = 9000  # memory of boards sold with 4 and 8 GB is below
ENOUGH_FREE_MB = (
    2500  # TensorRT's builder alone takes about 1,800 MB, and then come the graph and its buffers
)
SWAP_MB = 4096
STUCK_MHZ = (624, 625)  # 624.75 MHz: the clock at which firmware without the super setting holds an Orin Nano
BAD_TENSORRT = "10.2.0"
ANY_PYTHON = "3"  # of a package folder that all Python 3 share
ARM = ("aarch64", "arm64")  # names of the processor of every board
BOARD_WITH_SUPER = "p3767"  # Orin Nano and Orin NX

UNLIMITED = "MAXN"
AFTERWARDS = "A reboot may be asked for, and engines must be compiled again."
FAN = "sudo jetson_clocks --fan"
TO_CONSOLE = "sudo systemctl set-default multi-user.target && sudo reboot"
MORE_SWAP = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile"
    " && sudo swapon /swapfile"
)


@dataclass(frozen=True)
class Advice:
    """A sentence, and the command that does what it says; None where there is no command."""

    text: str
    command: str | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.command}" if self.command else self.text


def advise(device: Device, python: Python) -> list[Advice]:
    """Returns what to change on this machine, the most effective first; empty where nothing is known to be wrong.

    Args:
        device: the machine.
        python: the Python that will run the model.
    """
    found = [each for rule in RULES[device.kind] for each in rule(device)]
    return [*found, *_tensorrt(device, python)]


def _mode(device: Device) -> list[Advice]:
    """A power mode that is not the fastest."""
    modes = {mode.id: mode for mode in device.modes}
    speeds = rates(device.modes, device.gpu_top_mhz, device.tpcs)
    if device.power_mode is None or device.power_mode.id not in modes:
        return []
    now = device.power_mode.id
    if speeds is None:
        return _unlimited(device)
    best = max(speeds, key=lambda mode: speeds[mode])
    if speeds[best] <= speeds[now]:
        return []
    text = f"Power mode {_allows(modes[now], device)}; {_allows(modes[best], device)}. {AFTERWARDS}"
    if modes[best].gpu_uncapped:
        text += " That mode has no power limit, so it may throttle."
    return [Advice(text, f"sudo nvpmodel -m {best}")]


def _unlimited(device: Device) -> list[Advice]:
    """The mode that NVIDIA calls MAXN on every board, for a table that does not tell what its modes allow (Thor)."""
    named = [mode for mode in device.modes if mode.name == UNLIMITED]
    if device.power_mode is None or not named or device.power_mode.name == UNLIMITED:
        return []
    text = f"Power mode {device.power_mode.id} ({device.power_mode.name}) limits the board's power; {named[0].id}"
    text += f" ({UNLIMITED}) does not, and may throttle. {AFTERWARDS}"
    return [Advice(text, f"sudo nvpmodel -m {named[0].id}")]


def _allows(mode: PowerMode, device: Device) -> str:
    sms, mhz = mode_sms(mode, device.tpcs), mode_mhz(mode, device.gpu_top_mhz)
    clock = f"{mhz:.0f} MHz" if mhz is not None and mhz < inf else "the GPU's highest clock"
    return f"{mode.id} ({mode.name}) allows " + (f"{sms} SMs at {clock}" if sms is not None else clock)


def _clock(device: Device) -> list[Advice]:
    """A GPU clock that follows the load."""
    clocks = _gpu_clocks(device)
    if clocks is None or clocks[0] >= NEAR * clocks[1]:
        return []
    text = f"The GPU's clock is {clocks[0]} of {clocks[1]:.0f} MHz and rises only under load, so that frames"
    return [Advice(f"{text} after a pause are slow. Pinned until the next boot by:", "sudo jetson_clocks")]


def _gpu_clocks(device: Device) -> tuple[int, float] | None:
    """The GPU's clock now and the highest that is allowed, MHz; None where neither is told.

    By the kernel, else (a container) by tegrastats and the table's line of the mode that is set.
    """
    if device.gpu_mhz is not None and device.gpu_max_mhz is not None:
        return device.gpu_mhz, device.gpu_max_mhz
    now = device.power_mode
    limits = [mode_mhz(mode, device.gpu_top_mhz) for mode in device.modes if now and mode.id == now.id]
    if device.stats is None or not device.stats.gpu_mhz or not limits or limits[0] in (None, inf):
        return None
    return max(device.stats.gpu_mhz), limits[0] or inf


def _heat(device: Device) -> list[Advice]:
    """A board near the temperature at which it lowers its clocks: by the kernel's sensors, else by tegrastats."""
    told = device.temperatures or (device.stats.temperatures if device.stats is not None else {})
    name = max(told, key=lambda sensor: told[sensor], default=None)
    if name is None or told[name] < HOT_C:
        return []
    text = f"Sensor {name} is at {told[name]:.0f} C, where boards lower their clocks (throttle) or soon will: what is"
    return [Advice(f"{text} measured may not count. The fan at its fastest until the next boot:", FAN)]


def _super(device: Device) -> list[Advice]:
    """Orin Nano and NX without the clocks of their super configuration, as JetPack 7.2 left them."""
    if device.jetpack is None or device.jetpack.name != "7.2":
        return []
    mend = "JetPack 7.2.1 mends it: flash it with SDK Manager (NVIDIA's forum, thread {})."
    if device.power_mode is not None and "SUPER" in device.power_mode.name:
        if device.gpu_max_mhz not in STUCK_MHZ:
            return []
        text = "The GPU is held at 624.75 MHz although the mode is MAXN_SUPER: the firmware lacks the super setting."
        return [Advice(f"{text} {mend.format(377003)}")]
    named = any("SUPER" in mode.name for mode in device.modes)
    if named or not device.modes or not (device.module or "").startswith(BOARD_WITH_SUPER):
        return []
    return [Advice(f"The table of power modes lacks MAXN_SUPER. {mend.format(372627)}")]


def _memory(device: Device) -> list[Advice]:
    """A small board with too little free memory to build an engine."""
    memory = device.memory
    if memory is None or memory.total_mb >= SMALL_BOARD_MB or memory.free_mb >= ENOUGH_FREE_MB:
        return []
    text = f"{memory.free_mb} MB of {memory.total_mb} MB are free, and TensorRT's builder alone takes about 1,800 MB."
    found = [Advice(f"{text} Without the desktop 800 MB or more come free:", TO_CONSOLE)]
    if memory.swap_total_mb < SWAP_MB:
        found.append(
            Advice(f"Swap is {memory.swap_total_mb} MB. On a disk (not zram) builds need more:", MORE_SWAP)
        )
    return found


def _throttling(device: Device) -> list[Advice]:
    """A GPU that is slowed down by heat or power now."""
    held = [reason for reason in device.clock_reasons or () if reason in THROTTLING]
    if not held:
        return []
    text = f"The GPU throttles now ({', '.join(held)}), so that what is measured does not count."
    return [
        Advice(
            f"{text} See what loads it and how warm it is:", "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER"
        )
    ]


def _unseen(device: Device) -> list[Advice]:
    """An NVIDIA driver without a GPU that is seen."""
    if device.driver is None or device.no_gpu is None:
        return []
    text = f"The NVIDIA driver {device.driver} is loaded, but no GPU is seen: {device.no_gpu.text}."
    return [Advice(text, INSTALL if device.no_gpu.what == "package" else "nvidia-smi")]


def _governor(device: Device) -> list[Advice]:
    """A CPU clock that is kept low."""
    if device.cpu is None or device.cpu.governor != "powersave":
        return []
    text = "The CPU's governor is powersave, which raises the clock late or never. Until the next boot:"
    return [Advice(text, "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")]


def _cores(device: Device) -> list[Advice]:
    """Cores that this process may not use."""
    if device.cpu is None or device.cpu.allowed >= device.cpu.cores:
        return []
    text = f"This process may use {device.cpu.allowed} of {device.cpu.cores} cores (taskset, a container or a cpuset)."
    return [Advice(f"{text} All of them:", f"taskset -c 0-{device.cpu.cores - 1} flowpose doctor")]


def _bytes(device: Device) -> list[Advice]:
    """A CPU for which INT8 is not worth its loss of quality."""
    if device.cpu is None or device.cpu.byte_products is None or device.cpu.byte_products:
        return []
    text = (
        "The CPU has no instructions for products of bytes (AVX512-VNNI, AVX-VNNI or ARM's dot product): INT8"
    )
    return [Advice(f"{text} gains little. `flowpose compile` measures both and keeps what wins.")]


def _tensorrt(device: Device, python: Python) -> list[Advice]:
    """A TensorRT that is known to be faulty, or one that this Python does not see."""
    if python.tensorrt is not None:
        if python.tensorrt.startswith(BAD_TENSORRT):
            return [_another(python.tensorrt, board=device.kind == "jetson" or platform.machine() in ARM)]
        return []
    if not python.system_tensorrt:
        return []
    kind = "virtual environment" if python.virtual else "Python"
    text = f"The system has TensorRT, which this {kind} ({python.folder}) does not see."
    own, wanted = ".".join(python.version.split(".")[:2]), next(iter(python.system_tensorrt))
    if not {ANY_PYTHON, own} & set(python.system_tensorrt):
        text += f" It is for Python {wanted}, and this is {own}."
    interpreter = f"python{own if {ANY_PYTHON, own} & set(python.system_tensorrt) else wanted}"
    return [Advice(f"{text} One that does:", f"{interpreter} -m venv --system-site-packages .venv")]


def _another(faulty: str, *, board: bool) -> Advice:
    """Instead of a faulty TensorRT: on a board JetPack's own, which one from pip would shadow."""
    text = f"TensorRT {faulty} is known to be faulty."
    if not board:
        return Advice(f"{text} Another:", "pip install 'tensorrt>=10.3'")
    text += " JetPack 6.2 or later brings another; do not take it from pip. On such a JetPack:"
    return Advice(text, "sudo apt-get install nvidia-jetpack")


Rule = Callable[[Device], list[Advice]]
CPU_RULES: tuple[Rule, ...] = (_governor, _cores, _bytes)
RULES: dict[str, tuple[Rule, ...]] = {
    "jetson": (_mode, _super, _clock, _heat, _memory, _governor, _cores),
    "nvidia": (_throttling, *CPU_RULES),
    "cpu": (_unseen, *CPU_RULES),
}
"""Kind of machine -> what is looked at, the most effective first."""
