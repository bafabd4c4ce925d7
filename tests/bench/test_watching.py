"""What a machine tells while something is measured, from files and drivers whose content is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import until

from flowpose.bench.readings import Load, Reading, take_reading
from flowpose.bench.watching import ABSENT, PERIOD_S, TEGRASTATS_S, Watch, seen
from flowpose.device.nvml import Gpu, Gpus
from flowpose.errors import DeviceError

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CPU = "sys/devices/system/cpu"
LAPTOP = {
    "proc/self/statm": "90000 25600 9000 1 0 60000 0",
    "proc/stat": "cpu  1000 200 300 5000 40 10 20 30 7 0\ncpu0 1 2 3",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3600000",
    f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "1200000",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "4",
    f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "9",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143000000",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "3000000",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone0/temp": "61500",
}
ORIN = {
    "proc/self/statm": "90000 25600 9000 1 0 60000 0",
    "sys/class/devfreq/17000000.gpu/cur_freq": "612000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
    "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "44000",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "5000",
    "sys/class/hwmon/hwmon1/curr1_input": "1500",
}
LINE = (
    "RAM 620/7619MB (lfb 1100x4MB) SWAP 12/3810MB (cached 0MB) CPU [7%@729,off] EMC_FREQ 2%@2133 GR3D_FREQ 37%@612 "
    "CPU@39.5C gpu@42.25C VDD_IN 5520mW/5400mW"
)
CARD = Gpu("RTX", "8.9", 128, 1, 1, 2520, 3105, 10501, 211.5, 66.0, ("GpuIdle",))


def files(root: Path, content: Mapping[str, str]) -> Path:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def cards(*found: Gpu) -> Gpus:
    return Gpus("570", found, None)


def test_a_laptop_tells_all_but_power(tmp_path: Path) -> None:
    found = take_reading(files(tmp_path, LAPTOP))
    assert found.memory_mb == 25600 * PAGE / 2**20
    assert found.clocks == {"cpu0": 3600, "cpu1": 1200}
    assert found.throttles == {"cpu0 core_throttle_count": 4, "cpu0 package_throttle_count": 9}
    assert found.temperatures == {"x86_pkg_temp": 61.5} and found.power == {}
    assert found.energy == {"package-0": 5.0}, "a part of the package is counted in it"
    busy = (1000 + 200 + 300 + 10 + 20) / TICK  # guests' 7 ticks are in the users' already
    assert found.load == Load(pytest.approx(busy), 30 / TICK, pytest.approx(6600 / TICK))
    assert found.own > 0


def test_a_jetson_tells_its_gpu_and_power(tmp_path: Path) -> None:
    found = take_reading(files(tmp_path, ORIN))
    assert found.clocks == {"gpu": 612} and found.temperatures == {"gpu": 44.0}
    assert found.power == {"VDD_IN": pytest.approx(7.5)}
    told = take_reading(tmp_path, line=lambda: LINE)
    assert told.clocks == {"gpu": 612, "cpu0": 729, "memory controller": 2133}
    assert told.temperatures["cpu"] == 39.5 and told.power["VDD_IN"] == pytest.approx(5.52)


def test_a_card_tells_of_itself_and_what_holds_it_down(tmp_path: Path) -> None:
    found = take_reading(tmp_path, lambda: cards(CARD))
    assert (found.clocks, found.temperatures, found.power) == ({"gpu": 2520}, {"gpu": 66}, {"gpu": 211.5})
    assert found.reasons == (), "an idle card is not throttled"
    hot = replace(CARD, reasons=("SwPowerCap", "ApplicationsClocksSetting"), power_w=None)
    found = take_reading(tmp_path, lambda: cards(CARD, hot))
    assert found.reasons == ("gpu1 SwPowerCap",) and found.power == {"gpu0": 211.5}


def test_what_a_machine_does_not_tell_is_named_with_its_reason_and_is_not_0(tmp_path: Path) -> None:
    nothing = take_reading(tmp_path)
    found = seen([nothing, replace(nothing, at=nothing.at + 1)])
    assert found.absent == dict(ABSENT) and all(found.absent.values())
    assert found.memory_mb is None and found.steal is None and found.others is None
    assert found.clocks == found.power == found.energy == found.temperatures == {}
    laptop = take_reading(files(tmp_path, LAPTOP))
    assert set(seen([laptop, replace(laptop, at=laptop.at + 1)]).absent) == {"gpu clock", "power"}


def readings(**changes: list) -> list[Reading]:
    """One a second, with the values of each attribute in turn."""
    count = len(next(iter(changes.values())))
    return [
        Reading(at=float(i), **{name: values[i] for name, values in changes.items()}) for i in range(count)
    ]


def test_a_leak_is_a_slope_and_a_start_is_none() -> None:
    leak = seen(readings(memory_mb=[100.0 + i for i in range(20)]), lambda: 119.0)
    assert leak.memory_slope == pytest.approx(60) and leak.memory_peak_mb == 119
    filled = seen(readings(memory_mb=[100.0, 150.0, 190.0, *[200.0] * 17]))
    assert filled.memory_slope == pytest.approx(0), "what a run fills at its start is no leak"
    assert filled.memory_mb is not None and (filled.memory_mb.low, filled.memory_mb.high) == (100, 200)
    assert seen(readings(memory_mb=[1.0, 2.0, 3.0])).memory_slope is None


def test_time_of_others_and_of_the_hypervisor() -> None:
    loads = [Load(100.0, 1.0, 400.0), Load(108.0, 1.2, 410.0), Load(115.0, 1.5, 420.0)]
    found = seen(readings(load=loads, own=[50.0, 55.0, 60.0]))
    assert found.others == pytest.approx((15 - 10) / 2) and found.steal == pytest.approx(0.5 / 20)
    alone = seen(readings(load=[Load(100.0, 1.0, 400.0), Load(101.0, 1.0, 402.0)], own=[0.0, 1.01]))
    assert alone.others == 0, "ticks of 10 ms are no negative load"


def test_energy_of_a_meter_that_went_round() -> None:
    given = {"energy_range": [{"package-0": 1000.0}] * 2}
    assert seen(readings(energy=[{"package-0": 10.0}, {"package-0": 60.0}], **given)).energy == {
        "package-0": 50
    }
    assert seen(readings(energy=[{"package-0": 990.0}, {"package-0": 40.0}], **given)).energy == {
        "package-0": 50
    }
    assert seen(readings(energy=[{"package-0": 990.0}, {"package-0": 40.0}])).energy == {}, (
        "no range, no guess"
    )


def test_counters_that_grew_and_reasons_that_were_seen_are_throttling() -> None:
    counted = readings(throttles=[{"cpu0 core_throttle_count": 4, "cpu1 core_throttle_count": 2}] * 2)
    assert seen(counted).throttling == ()
    grown = [
        counted[0],
        replace(counted[1], throttles={"cpu0 core_throttle_count": 5, "cpu1 core_throttle_count": 2}),
    ]
    assert seen(grown).throttling == ("cpu0 core_throttle_count",)
    told = readings(reasons=[(), ("gpu HwThermalSlowdown",), ("gpu HwThermalSlowdown",), ()])
    assert seen(told).throttling == ("gpu HwThermalSlowdown",)


def test_clocks_are_told_by_their_first_and_last_third() -> None:
    found = seen(readings(clocks=[{"cpu0": mhz} for mhz in (3600.0, 3500, 3000, 3000, 2000, 2200)])).clocks[
        "cpu0"
    ]
    assert (found.start, found.end, found.low, found.high) == (3550, 2100, 2000, 3600)


def test_a_watch_reads_this_machine_from_start_to_end() -> None:
    with Watch(period=0.02) as watch:
        until(lambda: len(watch.readings) >= 4)
    found = watch.observed()
    assert found.n == len(watch.readings) >= 4 and found.seconds >= 0.04
    assert (
        found.memory_mb is not None
        and found.memory_mb.low > 5
        and found.memory_peak_mb >= found.memory_mb.low
    )
    assert watch.readings == sorted(watch.readings, key=lambda each: each.at)


def test_tegrastats_is_asked_where_it_is_installed_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Watch().period == PERIOD_S
    monkeypatch.setattr("flowpose.bench.watching.shutil.which", lambda _: "/usr/bin/tegrastats")
    monkeypatch.setattr("flowpose.bench.watching.one_line", lambda: LINE)
    with Watch() as watch:
        assert watch.period == TEGRASTATS_S
    assert watch.observed().clocks["memory controller"].high == 2133


def test_a_reading_that_fails_is_told_when_the_watch_ends() -> None:
    taken = iter([Reading(0.0)])

    def take() -> Reading:
        try:
            return next(taken)
        except StopIteration:
            raise DeviceError("NVML", "the driver answers with an error") from None

    with pytest.raises(DeviceError, match="the driver answers"), Watch(take, period=0.01) as watch:
        until(lambda: not watch._thread.is_alive())
