"""One line of tegrastats for each variant that is known to break parsers."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from flowpose.device import tegrastats
from flowpose.device.tegrastats import Core, Rail, TegraStats, one_line, parse_line, stats
from flowpose.errors import DeviceError

ORIN_NANO = (
    "10-08-2026 04:35:02 RAM 620/7619MB (lfb 1100x4MB) SWAP 12/3810MB (cached 0MB) CPU [7%@729,off,3%@1510] "
    "EMC_FREQ 2%@2133 GR3D_FREQ 37%@612 NVDEC off NVJPG off VIC off OFA off APE 200 CPU@39.5C gpu@42.25C tj@43.0C "
    "soc2@41C cv0@-256C VDD_IN 5520mW/5400mW VDD_CPU_GPU_CV 1013mW/900mW VDD_SOC 1544mW/1500mW"
)
AGX_ORIN = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) "
    "CPU [14%@2188,5%@2112,off,off] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C "
    "Tboard@32C SOC2@40.093C GPU@-256C tj@44.343C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW "
    "VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
ORIN_JP7 = ORIN_NANO.replace("37%@612", "0%@[1300,1300]")
THOR = (
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off] EMC_FREQ 34%@4266 "
    "GR3D_FREQ @[1000,1000,1000] NVENC0_FREQ @1691 VIC off cpu@58.25C/61.75C tj@66.625C/66.625C gpu@56.937C/66.625C "
    "soc012@55.375C/58.781C VDD_GPU 37939mW/8660mW/37939mW VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW "
    "VIN 124486mW/36487mW/124486mW FUTURE_TOKEN value"
)
IDLE_THOR = (
    "RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 GR3D_FREQ @[1574,off,1574] "
    "VIN 28W/14.5W/28W"
)
OLD_NANO = (
    "RAM 1400/3964MB (lfb 2x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [10%,off,4%,off] "
    "EMC_FREQ 0% GR3D_FREQ 37% PLL@37C CPU@39.5C PMIC@100C GPU@37.5C POM_5V_IN 2430/2100 POM_5V_GPU 554/600"
)


def test_every_fact_of_an_orin_nano() -> None:
    assert parse_line(ORIN_NANO) == TegraStats(
        ram_used_mb=620,
        ram_total_mb=7619,
        swap_used_mb=12,
        swap_total_mb=3810,
        emc_load=2,
        emc_mhz=2133,
        gpu_load=37,
        gpu_mhz=(612,),
        cores=(Core(7, 729), Core(None, None), Core(3, 1510)),
        temperatures={"cpu": 39.5, "gpu": 42.25, "tj": 43.0, "soc2": 41.0},
        rails={
            "VDD_IN": Rail(5520, 5400),
            "VDD_CPU_GPU_CV": Rail(1013, 900),
            "VDD_SOC": Rail(1544, 1500),
        },
    )


@pytest.mark.parametrize(
    ("line", "load", "clocks", "emc"),
    [
        (ORIN_NANO, 37, (612,), (2, 2133)),
        (AGX_ORIN, 0, (0, 0), (3, 2133)),
        (ORIN_JP7, 0, (1300, 1300), (2, 2133)),
        (THOR, None, (1000, 1000, 1000), (34, 4266)),
        (IDLE_THOR, None, (1574, 1574), (None, 4266)),
        (OLD_NANO, 37, (), (0, None)),
        ("RAM 1/2MB GR3D_FREQ 20%@[0, 300, 400] EMC_FREQ 3%", 20, (0, 300, 400), (3, None)),
        ("RAM 1/2MB GR3D_FREQ 99%@[612]", 99, (612,), (None, None)),
    ],
)
def test_load_and_clocks(
    line: str, load: int | None, clocks: tuple[int, ...], emc: tuple[int | None, int | None]
) -> None:
    found = parse_line(line)
    assert (found.gpu_load, found.gpu_mhz, (found.emc_load, found.emc_mhz)) == (load, clocks, emc)


def test_sensors_in_capitals_and_those_that_are_off() -> None:
    assert parse_line(AGX_ORIN).temperatures == {
        "cpu": 44.562, "tboard": 32.0, "soc2": 40.093, "tj": 44.343,
    }  # fmt: skip
    assert parse_line(THOR).temperatures == {"cpu": 58.25, "tj": 66.625, "gpu": 56.937, "soc012": 55.375}


def test_power_of_every_form() -> None:
    assert parse_line(AGX_ORIN).rails == {
        "VDD_GPU_SOC": Rail(2340, 2340),
        "VDD_CPU_CV": Rail(390, 390),
        "VIN_SYS_5V0": Rail(4025, 4025),
        "VDDQ_VDD2_1V8AO": Rail(301, 301),
    }
    assert parse_line(THOR).rails["VIN"] == Rail(124486, 36487)
    assert parse_line(IDLE_THOR).rails == {"VIN": Rail(28000, 14500)}
    assert parse_line(OLD_NANO).rails == {"POM_5V_IN": Rail(2430, 2100), "POM_5V_GPU": Rail(554, 600)}


def test_cores_of_every_form() -> None:
    assert parse_line(IDLE_THOR).cores == (Core(0, 2601), Core(5, 2601), Core(None, None))
    assert parse_line(OLD_NANO).cores == (Core(10, None), Core(None, None), Core(4, None), Core(None, None))
    assert parse_line(THOR).swap_total_mb is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "RAM"),
        ("Loading NVGPU", "RAM"),
        (ORIN_NANO[:30], "RAM"),
        (ORIN_NANO[: ORIN_NANO.index("GR3D")], "GR3D_FREQ"),
        (ORIN_NANO[: ORIN_NANO.index("37%")], "GR3D_FREQ"),
        (ORIN_NANO.replace("37%@612", "37%@"), "GR3D_FREQ"),
        (ORIN_NANO.replace("37%@612", "N/A"), "GR3D_FREQ"),
        (ORIN_JP7.replace("1300,1300]", "1300,NaN]"), "GR3D_FREQ"),
        (ORIN_NANO.replace("2%@2133", "much"), "EMC_FREQ"),
        (ORIN_NANO.replace("7%@729", "7@729"), "CPU"),
    ],
)
def test_a_garbled_line_is_an_error_that_names_the_part(line: str, said: str) -> None:
    with pytest.raises(DeviceError, match=f"tegrastats: a line whose {said} cannot be read"):
        parse_line(line)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A made-up `tegrastats` that writes a line and goes on, as the real one."""
    made = tmp_path / "tegrastats"
    made.write_text(f"#!/bin/sh\n[ $1 = --interval ] && echo '{ORIN_NANO}'\nexec sleep 30\n")
    made.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return made


def test_one_line_is_read_and_the_command_ended(command: Path) -> None:
    begun = perf_counter()
    assert one_line() == ORIN_NANO and stats(one_line) == parse_line(ORIN_NANO)
    assert perf_counter() - begun < 2 * tegrastats.TIMEOUT_S


def test_a_command_that_tells_nothing_is_not_waited_for(
    command: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tegrastats, "TIMEOUT_S", 0.2)
    command.write_text("#!/bin/sh\nexec sleep 30\n")
    begun = perf_counter()
    assert one_line() is None and perf_counter() - begun < 10
    command.write_text("#!/bin/sh\nexit 1\n")
    assert one_line() is None


def test_no_command_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert one_line() is None and stats(one_line) is None


def test_a_command_that_cannot_be_run_is_an_error(command: Path) -> None:
    command.write_text("\0")
    with pytest.raises(DeviceError, match="tegrastats: cannot be run"):
        one_line()


def test_a_runners_line_is_read() -> None:
    found = stats(lambda: THOR)
    assert found is not None and found.gpu_mhz == (1000, 1000, 1000)
    assert stats(lambda: None) is None and stats(lambda: "") is None
