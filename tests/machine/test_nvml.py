"""GPUs of a made-up driver; what a driver does not tell; and that the real package has every name that is used."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from flowpose.device import nvml
from flowpose.device.nvml import CORES_OF_AN_SM, REASONS, THROTTLING, Gpu, gpus, reason_names
from flowpose.errors import DeviceError

QUERIES = {
    "nvmlDeviceGetNumGpuCores": ("sms",),
    "nvmlDeviceGetMemoryInfo": ("memory_total_mb", "memory_free_mb"),
    "nvmlDeviceGetClockInfo": ("sm_mhz", "memory_mhz"),
    "nvmlDeviceGetMaxClockInfo": ("sm_max_mhz",),
    "nvmlDeviceGetPowerUsage": ("power_w",),
}


def test_every_fact_of_a_gpu(driver) -> None:
    found = gpus()
    assert (found.driver, found.absent) == ("570.124.06", None)
    assert found.gpus == (
        Gpu("NVIDIA GeForce RTX 4090 0", "8.9", 128, 24576, 23552, 210, 3105, 405, 21.5, 34.0, ()),
    )
    assert driver.started == 0


def test_gpus_are_told_in_order(driver) -> None:
    driver.gpus = 3
    assert [gpu.name[-1] for gpu in gpus().gpus] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("sm", "sms"),
    [((8, 0), 256), ((8, 6), 128), ((9, 0), 128), ((12, 0), 128), ((7, 5), 256), ((13, 0), None)],
)
def test_sms_by_compute_capability(driver, sm: tuple[int, int], sms: int | None) -> None:
    driver.sm = sm
    assert gpus().gpus[0].sms == sms


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("code", [3, 4, 13])
def test_what_a_driver_does_not_tell_is_none(driver, query: str, code: int) -> None:
    driver.fails = {query: code}
    told = gpus().gpus[0]
    names = [name for name in told.__dataclass_fields__ if getattr(told, name) is None]
    assert names == list(QUERIES[query])


def test_the_newer_of_two_queries_is_asked_where_the_older_is_gone(driver) -> None:
    driver.fails = {"nvmlDeviceGetTemperature": 13, "nvmlDeviceGetCurrentClocksEventReasons": 13}
    driver.reasons = 0x40
    found = gpus().gpus[0]
    assert (found.temperature_c, found.reasons) == (35.0, ("HwThermalSlowdown",))
    driver.fails |= {"nvmlDeviceGetTemperatureV": 3, "nvmlDeviceGetCurrentClocksThrottleReasons": 3}
    found = gpus().gpus[0]
    assert found.temperature_c is None and found.reasons is None


@pytest.mark.parametrize("query", ["nvmlDeviceGetPowerUsage", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_another_error_of_the_driver_is_an_error(driver, query: str) -> None:
    driver.fails = {query: 999}
    with pytest.raises(DeviceError, match="NVML: the driver answers with an error"):
        gpus()
    assert driver.started == 0


@pytest.mark.parametrize("code", [12, 9, 28])
def test_no_driver_is_a_clear_result(driver, code: int) -> None:
    driver.fails = {"nvmlInit": code}
    found = gpus()
    assert found.gpus == () and found.driver is None
    assert found.absent is not None and found.absent.what == "driver"
    assert found.absent.text == f"no NVIDIA driver (NVML error {code})"


def test_a_driver_that_cannot_be_started_is_an_error(driver) -> None:
    driver.fails = {"nvmlInit": 999}
    with pytest.raises(DeviceError, match="cannot be started"):
        gpus()


def test_a_driver_without_gpus(driver) -> None:
    driver.gpus = 0
    found = gpus()
    assert found.driver == "570.124.06" and found.absent is not None and "sees no GPU" in found.absent.text


def test_no_package_is_a_clear_result(no_driver) -> None:
    found = gpus()
    assert found.absent is not None and found.absent.what == "package"
    assert "nvidia-ml-py is not installed" in found.absent.text


def test_names_of_reasons() -> None:
    assert reason_names(0) == ()
    assert (
        reason_names(0x2) == ("ApplicationsClocksSetting",) and "ApplicationsClocksSetting" not in THROTTLING
    )
    assert reason_names(0x1 | 0x4 | 0x40) == ("GpuIdle", "SwPowerCap", "HwThermalSlowdown")
    assert reason_names(0x8 | 0x1000) == ("HwSlowdown", "bits 0x1000")
    assert {name for _, name in REASONS} > THROTTLING and "GpuIdle" not in THROTTLING


def used_names() -> set[str]:
    """Every name of pynvml in the source: attributes of `nvml`, and texts that are names of it."""
    tree = ast.parse(Path(nvml.__file__).read_text("utf-8"))
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nvml"
    }
    return {
        name
        for name in texts | attributes
        if name.startswith(("nvml", "NVML")) and name.replace("_", "").isalnum()
    }


def test_the_source_names_what_the_made_up_driver_has(driver) -> None:
    assert len(used_names()) > 20
    assert not {name for name in used_names() - {"NVML"} if not hasattr(driver, name)}


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="nvidia-ml-py is not installed")
def test_the_real_package_has_every_name_with_its_value() -> None:
    import pynvml

    assert not {name for name in used_names() - {"NVML"} if not hasattr(pynvml, name)}
    for bit, name in REASONS:
        found = getattr(pynvml, f"nvmlClocksEventReason{name}", None)
        assert (found if found is not None else getattr(pynvml, f"nvmlClocksThrottleReason{name}")) == bit
    assert issubclass(pynvml.NVMLError, Exception)
    if not Path("/proc/driver/nvidia").exists():
        absent = gpus().absent
        assert absent is not None and "no NVIDIA driver" in absent.text


def test_cores_of_an_sm_are_whole() -> None:
    assert {CORES_OF_AN_SM[sm] for sm in ("8.6", "8.7", "8.9", "9.0", "12.0")} == {128}
    assert CORES_OF_AN_SM["8.0"] == 64
