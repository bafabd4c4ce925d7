"""Machines as trees of files, in the formats that JetPack 6 and 7 write; and a driver's library that is made up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

RECORDED = Path(__file__).with_name("recorded")
Grow = Callable[..., Path]

MEMINFO = """MemTotal:        7802848 kB
MemFree:         1204000 kB
MemAvailable:    {free} kB
Buffers:           51200 kB
SwapTotal:       {swap} kB
SwapFree:        {swap} kB
HugePages_Total:       0
"""
ORIN_CPU = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd42

processor\t: 1
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
PC_CPU = """processor\t: 0
model name\t: AMD EPYC 9R14
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: AMD EPYC 9R14
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni
"""

ORIN_NANO: dict[str, str] = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed"
    " Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "etc/nvpmodel.conf": (RECORDED / "orin_nano_super.conf").read_text("utf-8"),
    "var/lib/nvpmodel/status": "pmode:0000 fmode:fan_mode_quiet\n",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": MEMINFO.format(free=2000000, swap=3901424),
    "proc/cpuinfo": ORIN_CPU,
    "proc/self/status": "Name:\tpython3\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build"
    "  (buildbrain@mobile)\nGCC version:  collect2: error: ld returned 1 exit status\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
    "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 408000000 510000000 612000000 1020000000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/class/devfreq/15340000.vic/max_freq": "435200000\n",
    "sys/devices/platform/gpu.0/tpc_pg_mask": "240\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "49906\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",  # off: reading its temperature fails
    "sys/class/thermal/thermal_zone10/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone10/temp": "50062\n",
    "sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1104\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr2_input": "200\n",
    "sys/class/hwmon/hwmon1/in3_label": "NC\n",
    "sys/class/hwmon/hwmon1/in3_input": "0\n",
    "sys/class/hwmon/hwmon1/curr3_input": "0\n",
    "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
    "usr/lib/python3.10/dist-packages/tensorrt-10.3.0.dist-info/METADATA": "Name: tensorrt\n",
}
THOR: dict[str, str] = {
    "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": (RECORDED / "thor.conf").read_text("utf-8"),
    "var/lib/nvpmodel/status": "pmode:0001",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/meminfo": MEMINFO.format(free=120000000, swap=0).replace("7802848", "128790092"),
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-1/cur_freq": "315000000\n",
    "sys/class/devfreq/gpu-gpc-1/max_freq": "1575000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n",
    "sys/class/hwmon/hwmon3/name": "ina238\n",
    "sys/class/hwmon/hwmon3/in1_label": "VIN\n",
    "sys/class/hwmon/hwmon3/power1_input": "31500000\n",
}
PC: dict[str, str] = {
    "proc/meminfo": MEMINFO.format(free=30000000, swap=0).replace("7802848", "32000000"),
    "proc/cpuinfo": PC_CPU,
    "proc/self/status": "Cpus_allowed_list:\t0-127\n",
}
MACHINES = {"orin-nano": ORIN_NANO, "thor": THOR, "pc": PC}


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    """Writes a machine's files below a folder, after changes: path -> text, None leaves the file out."""

    def write(machine: str, changes: dict[str, str | None] | None = None) -> Path:
        for path, text in {**MACHINES[machine], **(changes or {})}.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_bytes(text.encode())
        return tmp_path

    return write


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml(SimpleNamespace):
    """A driver with GPUs; `fails` names functions, and the code of the error that each raises."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_DRIVER_NOT_LOADED = 3, 4, 9
    NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_FUNCTION_NOT_FOUND, NVML_ERROR_GPU_NOT_FOUND = 12, 13, 28
    NVML_ERROR_UNKNOWN = 999
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, gpus: int = 1, sm: tuple[int, int] = (8, 9), reasons: int = 0) -> None:
        super().__init__(fails={}, started=0, asked=[], gpus=gpus, sm=sm, reasons=reasons)

    def _answer(self, name: str, answer: Any) -> Any:
        self.asked.append(name)
        if name in self.fails:
            raise NVMLError(self.fails[name])
        return answer

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlSystemGetDriverVersion(self) -> Any:
        return self._answer("nvmlSystemGetDriverVersion", "570.124.06")

    def nvmlDeviceGetCount(self) -> Any:
        return self._answer("nvmlDeviceGetCount", self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._answer("nvmlDeviceGetHandleByIndex", index)

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetName", f"NVIDIA GeForce RTX 4090 {handle}")

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetCudaComputeCapability", self.sm)

    def nvmlDeviceGetNumGpuCores(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetNumGpuCores", 16384)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetMemoryInfo", SimpleNamespace(total=24 << 30, free=23 << 30))

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> Any:
        return self._answer("nvmlDeviceGetClockInfo", {1: 210, 2: 405}[kind])

    def nvmlDeviceGetMaxClockInfo(self, handle: int, kind: int) -> Any:
        return self._answer("nvmlDeviceGetMaxClockInfo", {1: 3105, 2: 10501}[kind])

    def nvmlDeviceGetPowerUsage(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetPowerUsage", 21500)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> Any:
        return self._answer("nvmlDeviceGetTemperature", 34)

    def nvmlDeviceGetTemperatureV(self, handle: int, sensor: int) -> Any:
        return self._answer("nvmlDeviceGetTemperatureV", 35)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> Any:
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", self.reasons)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A made-up driver, which `import pynvml` gives."""
    made = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the package nvidia-ml-py."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
