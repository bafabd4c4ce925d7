"""One record for a Jetson, a PC with an NVIDIA GPU, and a machine without one."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from flowpose.device.facts import Device, device
from flowpose.errors import DeviceError
from flowpose.nvidia_files import NamedMode


def test_an_orin_nano(grow, driver) -> None:
    found = device(grow("orin-nano"))
    assert (
        found.kind == "jetson"
        and found.name == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    )
    assert (found.module, found.sm, found.sms, found.tpcs) == ("p3767-0005", "8.7", 8, 8)
    assert found.power_mode == NamedMode(0, "15W") and len(found.modes) == 4
    assert (found.driver, found.l4t) == ("540.4.0", "36.4.3")
    assert found.jetpack is not None and found.jetpack.name == "6.2"
    assert found.memory is not None and (found.memory.total_mb, found.memory.free_mb) == (7619, 1953)
    assert (found.gpu_mhz, found.gpu_max_mhz, found.gpu_top_mhz) == (306, 612, 1020)
    assert found.gpu_memory_total_mb is None and found.clock_reasons is None
    assert found.temperatures == {"cpu": 49.906, "tj": 50.062} and found.power == {
        "VDD_IN": 5.52,
        "VDD_CPU_GPU_CV": 1,
    }
    assert found.cpu is not None and found.cpu.cores == 2
    assert driver.asked == []  # NVML's facts are of cards


@pytest.mark.parametrize(
    ("changes", "sms"),
    [
        ({"sys/devices/platform/gpu.0/tpc_pg_mask": "252"}, 4),
        ({"sys/devices/platform/gpu.0/tpc_pg_mask": None, "sys/devices/gpu.0/tpc_pg_mask": "252"}, 4),
        ({"sys/devices/platform/gpu.0/tpc_pg_mask": None}, 8),
        ({"sys/devices/platform/gpu.0/tpc_pg_mask": None, "var/lib/nvpmodel/status": "pmode:0003"}, 4),
        ({"sys/devices/platform/gpu.0/tpc_pg_mask": None, "var/lib/nvpmodel/status": None}, None),
        ({"proc/device-tree/compatible": None}, None),
    ],
)
def test_sms_are_those_that_are_on(grow, changes: dict[str, str | None], sms: int | None) -> None:
    """The kernel's mask goes before the table: a mode that was set waits for a reboot to switch SMs."""
    assert device(grow("orin-nano", changes)).sms == sms


def test_a_container_on_a_jetson_still_is_one(grow) -> None:
    found = device(grow("orin-nano", {"etc/nv_tegra_release": None, "etc/nvpmodel.conf": None}))
    assert (found.kind, found.module, found.l4t, found.jetpack, found.modes) == (
        "jetson",
        "p3767-0005",
        None,
        None,
        (),
    )
    assert found.power_mode == NamedMode(0, "")


def test_a_jetson_without_a_device_tree_still_is_one(grow, no_driver) -> None:
    found = device(grow("orin-nano", {"proc/device-tree/compatible": None, "proc/device-tree/model": None}))
    assert (found.kind, found.name, found.module, found.sm) == ("jetson", "NVIDIA Jetson", None, None)
    assert found.l4t == "36.4.3" and found.power_mode == NamedMode(0, "15W")


def test_an_unknown_release_keeps_its_version(grow) -> None:
    found = device(grow("orin-nano", {"etc/nv_tegra_release": "# R41 (release), REVISION: 1.0, GCID: 1"}))
    assert (found.kind, found.l4t, found.jetpack) == ("jetson", "41.1.0", None)


def test_a_thor(grow) -> None:
    found = device(grow("thor"))
    assert (found.kind, found.module, found.sm, found.sms) == ("jetson", "p3834-0008", "11.0", None)
    assert found.power_mode == NamedMode(1, "120W") and found.power == {"VIN": 31.5}
    assert found.jetpack is not None and found.jetpack.name == "7.1"
    assert found.gpu_mhz == found.gpu_max_mhz == 1575


def test_a_pc_with_a_gpu(grow, driver) -> None:
    driver.reasons = 0x4
    found = device(grow("pc"))
    assert (found.kind, found.name, found.sm, found.sms) == (
        "nvidia",
        "NVIDIA GeForce RTX 4090 0",
        "8.9",
        128,
    )
    assert (found.driver, found.clock_reasons) == ("570.124.06", ("SwPowerCap",))
    assert (found.gpu_memory_total_mb, found.gpu_memory_free_mb) == (24576, 23552)
    assert (found.gpu_mhz, found.gpu_max_mhz) == (210, 3105)
    assert found.temperatures == {"gpu": 34.0} and found.power == {"board": 21.5}
    assert found.module is None and found.power_mode is None and found.no_gpu is None
    assert found.memory is not None and found.memory.total_mb == 31250


def test_a_pc_without_one(grow, no_driver) -> None:
    found = device(grow("pc"))
    assert (found.kind, found.name, found.sm, found.driver) == ("cpu", "AMD EPYC 9R14", None, None)
    assert found.no_gpu is not None and found.no_gpu.what == "package"


def test_another_arm_board_bears_its_models_name(grow, no_driver) -> None:
    tree = {
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712",
        "proc/device-tree/model": "Pi 5\0",
    }
    found = device(grow("orin-nano", {"etc/nv_tegra_release": None, **tree}))
    assert (found.kind, found.name, found.module) == ("cpu", "Pi 5", None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/nv_tegra_release", "R36"),
        ("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_F"),
        ("var/lib/nvpmodel/status", "pmode"),
        ("proc/meminfo", "MemTotal:"),
        ("proc/cpuinfo", "model name: none"),
        ("proc/driver/nvidia/version", "NVRM"),
        ("sys/devices/platform/gpu.0/tpc_pg_mask", "999"),
    ],
)
def test_a_garbled_file_is_an_error(grow, path: str, text: str) -> None:
    with pytest.raises(DeviceError):
        device(grow("orin-nano", {path: text}))


@pytest.mark.parametrize("machine", ["orin-nano", "thor", "pc"])
def test_a_record_is_json_data(grow, driver, machine: str) -> None:
    found = device(grow(machine))
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["kind"] == found.kind


def test_this_machine() -> None:
    found = device()
    assert isinstance(found, Device) and found.name and found.memory is not None
