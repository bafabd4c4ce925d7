"""NVIDIA GPUs, as the driver's own library (NVML) tells of them, through the optional Python package nvidia-ml-py."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from flowpose.errors import DeviceError

PACKAGE = "nvidia-ml-py"
INSTALL = f"pip install {PACKAGE}"

CORES_OF_AN_SM = {
    "7.0": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128, "9.0": 128, "10.0": 128, "11.0": 128,
    "12.0": 128,
}  # fmt: skip
"""Compute capability -> FP32 cores of a streaming multiprocessor."""

REASONS = (
    (0x1, "GpuIdle"),
    (0x2, "ApplicationsClocksSetting"),
    (0x4, "SwPowerCap"),
    (0x8, "HwSlowdown"),
    (0x10, "SyncBoost"),
    (0x20, "SwThermalSlowdown"),
    (0x40, "HwThermalSlowdown"),
    (0x80, "HwPowerBrakeSlowdown"),
    (0x100, "DisplayClockSetting"),
    (0x200, "BoardLimit"),
    (0x400, "Reliability"),
)
"""Bits of why a clock is not higher, as nvml.h names them. 0x2 is a clock that somebody has set, no throttling."""

THROTTLING = frozenset(
    ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "BoardLimit",
     "Reliability")
)  # fmt: skip
"""Reasons that make a measurement worthless: heat or power."""

UNTOLD = ("NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_FUNCTION_NOT_FOUND", "NVML_ERROR_NO_PERMISSION")
NO_DRIVER = ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED", "NVML_ERROR_GPU_NOT_FOUND")
REASON_QUERIES = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
TEMPERATURE_QUERIES = ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV")  # the first ends with CUDA 14
MB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """A GPU; None: the driver does not tell it of this one.

    Attributes:
        name: of its model.
        sm: compute capability, as `8.9`.
        sms: streaming multiprocessors.
        memory_total_mb, memory_free_mb: its own memory, MB.
        sm_mhz, sm_max_mhz, memory_mhz: clocks now, and the highest, MHz.
        power_w, temperature_c: of the whole board, W; of the chip, C.
        reasons: names of REASONS that hold the clock down now; empty: none.
    """

    name: str
    sm: str
    sms: int | None
    memory_total_mb: int | None
    memory_free_mb: int | None
    sm_mhz: int | None
    sm_max_mhz: int | None
    memory_mhz: int | None
    power_w: float | None
    temperature_c: float | None
    reasons: tuple[str, ...] | None


@dataclass(frozen=True)
class Absent:
    """Why no GPU is told of: the package is not installed, or there is no driver (or no GPU for it)."""

    what: Literal["package", "driver"]
    text: str


@dataclass(frozen=True)
class Gpus:
    """The driver's version, its GPUs in NVML's order, and why there are none."""

    driver: str | None
    gpus: tuple[Gpu, ...]
    absent: Absent | None


def gpus() -> Gpus:
    """Returns the GPUs of this machine; on one without package or driver, none and why.

    Raises:
        DeviceError: the driver is there and answers with an error.
    """
    try:
        nvml = import_module("pynvml")
    except ModuleNotFoundError as error:
        if error.name != "pynvml":
            raise
        return Gpus(None, (), Absent("package", f"the Python package {PACKAGE} is not installed"))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if _is(nvml, error, NO_DRIVER):
            return Gpus(None, (), Absent("driver", f"no NVIDIA driver ({error})"))
        raise DeviceError("NVML", f"cannot be started ({error})") from error
    try:
        return _seen(nvml)
    finally:
        nvml.nvmlShutdown()


def reason_names(bits: int) -> tuple[str, ...]:
    """Returns the names of a mask of clock-event reasons; a bit that REASONS lacks is named by its number."""
    known = sum(bit for bit, _ in REASONS)
    rest = bits & ~known
    return tuple(name for bit, name in REASONS if bits & bit) + ((f"bits {rest:#x}",) if rest else ())


def _seen(nvml: Any) -> Gpus:
    try:
        driver = str(nvml.nvmlSystemGetDriverVersion())
        found = tuple(
            _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())
        )
    except nvml.NVMLError as error:
        fix = "see what nvidia-smi says; a driver that was updated needs a reboot"
        raise DeviceError("NVML", f"the driver answers with an error ({error})", fix=fix) from error
    return Gpus(driver, found, None if found else Absent("driver", "the NVIDIA driver sees no GPU"))


def _gpu(nvml: Any, handle: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    sm = f"{major}.{minor}"
    cores = _told(nvml, ("nvmlDeviceGetNumGpuCores",), handle)
    memory = _told(nvml, ("nvmlDeviceGetMemoryInfo",), handle)
    milliwatts = _told(nvml, ("nvmlDeviceGetPowerUsage",), handle)
    celsius = _told(nvml, TEMPERATURE_QUERIES, handle, nvml.NVML_TEMPERATURE_GPU)
    bits = _told(nvml, REASON_QUERIES, handle)
    of_an_sm = CORES_OF_AN_SM.get(sm)
    return Gpu(
        name=str(nvml.nvmlDeviceGetName(handle)),
        sm=sm,
        sms=None if cores is None or of_an_sm is None else int(cores) // of_an_sm,
        memory_total_mb=None if memory is None else int(memory.total) // MB,
        memory_free_mb=None if memory is None else int(memory.free) // MB,
        sm_mhz=_told(nvml, ("nvmlDeviceGetClockInfo",), handle, nvml.NVML_CLOCK_SM),
        sm_max_mhz=_told(nvml, ("nvmlDeviceGetMaxClockInfo",), handle, nvml.NVML_CLOCK_SM),
        memory_mhz=_told(nvml, ("nvmlDeviceGetClockInfo",), handle, nvml.NVML_CLOCK_MEM),
        power_w=None if milliwatts is None else milliwatts / 1000,
        temperature_c=None if celsius is None else float(celsius),
        reasons=None if bits is None else reason_names(int(bits)),
    )


def _told(nvml: Any, queries: tuple[str, ...], *arguments: Any) -> Any:
    """What the first query that this package and this driver know answers; None where the GPU does not tell it."""
    for query in queries:
        if hasattr(nvml, query):
            try:
                return getattr(nvml, query)(*arguments)
            except nvml.NVMLError as error:
                if not _is(nvml, error, UNTOLD):
                    raise
    return None


def _is(nvml: Any, error: Any, codes: tuple[str, ...]) -> bool:
    return error.value in {getattr(nvml, code) for code in codes}
