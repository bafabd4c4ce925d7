"""Clocks, temperatures, power, memory, the driver and the processor of trees of files."""

from __future__ import annotations

import os

import pytest

from flowpose.device.processor import Processor, parse_cores, parse_cpuinfo, processor
from flowpose.device.sysfs import (
    GpuClock,
    Memory,
    driver,
    gpu_clock,
    memory,
    parse_meminfo,
    power,
    temperatures,
    tpc_mask,
)
from flowpose.errors import DeviceError
from flowpose.nvidia_files import parse_driver

DEVFREQ = "sys/class/devfreq"


def test_an_orin_nano(grow) -> None:
    root = grow("orin-nano")
    assert gpu_clock(root) == GpuClock(306, 612, 1020)
    assert temperatures(root) == {"cpu": 49.906, "tj": 50.062}
    assert power(root) == {"VDD_IN": 5.52, "VDD_CPU_GPU_CV": 1.0}
    assert memory(root) == Memory(7619, 1953, 3809, 3809)
    assert (tpc_mask(root), driver(root)) == (240, "540.4.0")


def test_zones_are_in_the_order_of_their_numbers(grow) -> None:
    root = grow("orin-nano", {"sys/class/thermal/thermal_zone2/temp": "41000"})
    assert list(temperatures(root)) == ["cpu", "cv0", "tj"]


def test_a_thor(grow) -> None:
    root = grow("thor")
    assert gpu_clock(root) == GpuClock(1575, 1575, None)
    assert power(root) == {"VIN": 31.5}
    assert tpc_mask(root) is None and driver(root) is None


@pytest.mark.parametrize("name", ["17000000.ga10b", "17000000.gv11b"])
def test_other_names_of_the_gpu(grow, name: str) -> None:
    root = grow("pc", {f"{DEVFREQ}/{name}/cur_freq": "624750000", f"{DEVFREQ}/{name}/max_freq": "624750000"})
    assert gpu_clock(root) == GpuClock(625, 625, None)


def test_a_pc_has_none_of_them(grow) -> None:
    root = grow("pc")
    assert gpu_clock(root) is None and tpc_mask(root) is None and driver(root) is None
    assert temperatures(root) == {} and power(root) == {}


def test_an_empty_root(tmp_path) -> None:
    assert memory(tmp_path) is None and processor(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{DEVFREQ}/17000000.gpu/cur_freq", "fast"),
        (f"{DEVFREQ}/17000000.gpu/available_frequencies", "306000000 many"),
        ("sys/class/thermal/thermal_zone0/temp", ""),
        ("sys/class/hwmon/hwmon1/in1_input", "5 V"),
        ("sys/devices/platform/gpu.0/tpc_pg_mask", "0xzz"),
    ],
)
def test_a_garbled_number_is_an_error_that_names_the_file(grow, path: str, text: str) -> None:
    root = grow("orin-nano", {path: text})
    with pytest.raises(DeviceError, match=f"{path}: not a number"):
        gpu_clock(root), temperatures(root), power(root), tpc_mask(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_not_told(grow) -> None:
    root = grow("orin-nano")
    (root / "sys/devices/platform/gpu.0/tpc_pg_mask").chmod(0)
    assert tpc_mask(root) is None


def test_memory_that_is_cut_short_is_an_error(grow) -> None:
    with pytest.raises(DeviceError, match="SwapTotal, SwapFree"):
        parse_meminfo("MemTotal:        7802848 kB\nMemAvailable:    2000000 kB\nSwapTo")


def test_the_drivers_version() -> None:
    pc = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n"
    assert parse_driver(pc) == "535.129.03"
    with pytest.raises(DeviceError, match="names no version"):
        parse_driver("NVRM version: NVIDIA UNIX x86_64 Kernel Mod")


def test_processors(grow) -> None:
    assert processor(grow("orin-nano")) == Processor("", 2, 2, "schedutil", ("asimddp",))


def test_a_list_of_allowed_cores_may_be_longer_than_the_machine(grow) -> None:
    assert processor(grow("pc")) == Processor("AMD EPYC 9R14", 2, 2, None, ("avx512_vnni",))


def test_fewer_cores_allowed(grow) -> None:
    found = processor(grow("pc", {"proc/self/status": "Cpus_allowed_list:\t1\n"}))
    assert found is not None and (found.allowed, found.cores) == (1, 2)


def test_a_processor_without_byte_products_and_one_that_lists_nothing() -> None:
    assert parse_cpuinfo("processor : 0\nmodel name : A\nflags : fpu avx2\n") == ("A", 1, ())
    assert parse_cpuinfo("processor : 0\n") == ("", 1, None)
    with pytest.raises(DeviceError, match="lists no processor"):
        parse_cpuinfo("model name : A\n")


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0-1,4,6-7", 5)])
def test_lists_of_cores(text: str, count: int) -> None:
    assert parse_cores(text) == count


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-", "0,,2"])
def test_garbled_lists_of_cores(text: str) -> None:
    with pytest.raises(DeviceError, match="list of cores"):
        parse_cores(text)


def test_this_machine_is_read() -> None:
    here, cpu = memory(), processor()
    assert here is not None and 0 < here.free_mb <= here.total_mb
    assert cpu is not None and 1 <= cpu.allowed <= cpu.cores
