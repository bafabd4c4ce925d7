"""Advice: each rule on a machine that needs it, and none on one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flowpose.device import packages
from flowpose.device.advice import RULES, Advice, advise
from flowpose.device.facts import Device, device
from flowpose.device.nvml import Absent
from flowpose.device.packages import Python, parse_venv, python, system_tensorrt
from flowpose.device.processor import Processor
from flowpose.device.tegrastats import parse_line

SEES = Python("3.10.12", "/usr", False, True, "10.3.0", {"3.10": "10.3.0"})
RECORDED = Path(__file__).with_name("recorded")
CONF = "etc/nvpmodel.conf"
STATUS = "var/lib/nvpmodel/status"
MAX = "sys/class/devfreq/17000000.gpu/max_freq"
NOW = "sys/class/devfreq/17000000.gpu/cur_freq"
TABLE = "sys/class/devfreq/17000000.gpu/available_frequencies"
JETPACK_72 = "# R39 (release), REVISION: 2.0, GCID: 45755727"


def found(machine: Device, here: Python = SEES) -> dict[str | None, str]:
    """Command -> sentence."""
    return {each.command: each.text for each in advise(machine, here)}


@pytest.fixture
def tuned(grow):
    """An Orin Nano in its fastest mode, with clocks pinned and memory free."""

    def make(changes: dict[str, str | None] | None = None) -> Device:
        best = {STATUS: "pmode:0002", MAX: "1020000000", NOW: "1020000000"}
        machine = device(grow("orin-nano", {**best, **(changes or {})}))
        assert machine.memory is not None
        return replace(machine, memory=replace(machine.memory, free_mb=5000))

    return make


def test_a_tuned_machine_gets_none(tuned) -> None:
    assert advise(tuned(), SEES) == []


def test_a_slower_mode_names_what_the_fastest_gives(grow) -> None:
    text = found(device(grow("orin-nano")))["sudo nvpmodel -m 2"]
    assert "mode 0 (15W) allows 8 SMs at 612 MHz; 2 (MAXN_SUPER) allows 8 SMs at 1020 MHz" in text
    assert "compiled again" in text and "may throttle" in text


def test_the_default_of_an_agx_orin(tuned) -> None:
    conf = (RECORDED / "agx_orin.conf").read_text("utf-8")
    machine = tuned({CONF: conf, STATUS: "pmode:0002", TABLE: "306000000 1300500000"})
    text = found(machine)["sudo nvpmodel -m 0"]
    assert "2 (MODE_30W) allows 8 SMs at 612 MHz; 0 (MAXN) allows 16 SMs at 1300 MHz" in text


def test_a_limited_mode_that_is_as_fast_needs_no_change(tuned) -> None:
    conf = (RECORDED / "orin_nx_16gb_super.conf").read_text("utf-8")
    clocks = {MAX: "1173000000", NOW: "1173000000", TABLE: "306000000 1173000000"}
    assert found(tuned({CONF: conf, STATUS: "pmode:0004", **clocks})) == {}
    assert "sudo nvpmodel -m 0" in found(tuned({CONF: conf, STATUS: "pmode:0003", **clocks}))


def test_a_clock_that_the_table_does_not_tell_is_not_invented(tuned) -> None:
    machine = replace(tuned({STATUS: "pmode:0001"}), gpu_top_mhz=None)
    assert "8 SMs at the GPU's highest clock" in found(machine)["sudo nvpmodel -m 2"]


def test_thors_table_is_compared_by_name(grow) -> None:
    text = found(device(grow("thor")))["sudo nvpmodel -m 0"]
    assert "1 (120W) limits the board's power; 0 (MAXN) does not" in text
    assert "sudo nvpmodel -m 0" not in found(device(grow("thor", {STATUS: "pmode:0000"})))


@pytest.mark.parametrize(("now", "advised"), [(306, True), (917, True), (919, False), (1020, False)])
def test_a_clock_that_is_not_pinned(tuned, now: int, advised: bool) -> None:
    given = found(replace(tuned(), gpu_mhz=now))
    assert ("sudo jetson_clocks" in given) == advised
    if advised:
        assert f"{now} of 1020 MHz" in given["sudo jetson_clocks"]


LINE = "RAM 620/7619MB GR3D_FREQ {load}%@[{mhz},0] tj@{heat}C"


@pytest.mark.parametrize(("mhz", "advised"), [(306, True), (600, False)])
def test_a_clock_that_only_tegrastats_tells(tuned, mhz: int, advised: bool) -> None:
    machine = replace(tuned({STATUS: "pmode:0000"}), gpu_mhz=None, gpu_max_mhz=None)
    assert "sudo jetson_clocks" not in found(machine)
    given = found(replace(machine, stats=parse_line(LINE.format(load=1, mhz=mhz, heat=40))))
    assert ("sudo jetson_clocks" in given) == advised
    if advised:
        assert "306 of 612 MHz" in given["sudo jetson_clocks"]


def test_a_mode_without_a_limit_tells_no_clock_to_compare(tuned) -> None:
    machine = replace(tuned(), gpu_mhz=None, gpu_max_mhz=None, gpu_top_mhz=None)
    stats = parse_line(LINE.format(load=1, mhz=306, heat=40))
    assert "sudo jetson_clocks" not in found(replace(machine, stats=stats))


@pytest.mark.parametrize(
    ("kernel", "line", "said"),
    [
        ({"cpu": 50.0, "tj": 91.2}, 40, "Sensor tj is at 91 C"),
        ({"tj": 50.0}, 95, None),  # the kernel's own go first
        ({}, 95, "Sensor tj is at 95 C"),
        (None, 95, "Sensor tj is at 95 C"),
        ({}, 89, None),
    ],
)
def test_a_board_that_throttles(tuned, kernel: dict[str, float] | None, line: int, said: str | None) -> None:
    stats = parse_line(LINE.format(load=99, mhz=1020, heat=line))
    given = found(replace(tuned(), temperatures=kernel, stats=stats))
    assert ("sudo jetson_clocks --fan" in given) == (said is not None)
    if said:
        assert said in given["sudo jetson_clocks --fan"]


def test_the_stuck_clock_of_jetpack_72(tuned) -> None:
    stuck = {"etc/nv_tegra_release": JETPACK_72, MAX: "624750000", NOW: "624750000", TABLE: "624750000"}
    text = found(tuned(stuck))[None]
    assert "624.75 MHz" in text and "7.2.1" in text
    assert found(tuned({**stuck, "etc/nv_tegra_release": "# R39 (release), REVISION: 2.1, GCID: 1"})) == {}
    assert found(tuned({"etc/nv_tegra_release": JETPACK_72})) == {}


def test_jetpack_72_without_super_modes(tuned) -> None:
    plain = {
        CONF: (RECORDED / "orin_nano.conf").read_text("utf-8"),
        STATUS: "pmode:0000", MAX: "624750000", NOW: "624750000", TABLE: "306000000 624750000",
    }  # fmt: skip
    assert "lacks MAXN_SUPER" in found(tuned({**plain, "etc/nv_tegra_release": JETPACK_72}))[None]
    assert found(tuned(plain)) == {}
    agx = {**plain, "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234"}
    assert found(tuned({**agx, "etc/nv_tegra_release": JETPACK_72})) == {}


@pytest.mark.parametrize(
    ("total", "free", "swap", "rules"),
    [(7619, 2499, 4096, 1), (7619, 2499, 3809, 2), (7619, 2500, 0, 0), (15368, 900, 0, 0)],
)
def test_too_little_memory_to_build(tuned, total: int, free: int, swap: int, rules: int) -> None:
    machine = tuned()
    given = found(
        replace(machine, memory=replace(machine.memory, total_mb=total, free_mb=free, swap_total_mb=swap))
    )
    assert len(given) == rules
    assert sum("multi-user.target" in str(command) for command in given) == (rules > 0)
    assert sum("swapon" in str(command) for command in given) == (rules > 1)


@pytest.mark.parametrize(
    ("reasons", "advised"),
    [
        (("GpuIdle", "ApplicationsClocksSetting", "SyncBoost", "DisplayClockSetting"), False),
        (("GpuIdle", "SwThermalSlowdown"), True),
        (("SwPowerCap",), True),
        ((), False),
        (None, False),
    ],
)
def test_throttling(grow, driver, reasons: tuple[str, ...] | None, advised: bool) -> None:
    given = found(replace(device(grow("pc")), clock_reasons=reasons))
    assert bool(given) == advised
    if advised and reasons:
        assert reasons[-1] in next(iter(given.values())) and "GpuIdle" not in next(iter(given.values()))


@pytest.mark.parametrize(
    ("what", "command"), [("package", "pip install nvidia-ml-py"), ("driver", "nvidia-smi")]
)
def test_a_driver_whose_gpu_is_not_seen(grow, no_driver, what, command: str) -> None:
    machine = replace(device(grow("pc")), no_gpu=Absent(what, "why"))
    assert found(machine) == {}
    assert "570.1 is loaded, but no GPU is seen: why" in found(replace(machine, driver="570.1"))[command]


def test_processors(grow, no_driver) -> None:
    machine = device(grow("pc"))

    def given(cpu: Processor) -> str:
        return " | ".join(map(str, advise(replace(machine, cpu=cpu), SEES)))

    good = Processor("A", 8, 8, "performance", ("avx_vnni",))
    assert given(good) == "" and given(replace(good, byte_products=None, governor=None)) == ""
    assert "scaling_governor" in given(replace(good, governor="powersave"))
    assert "may use 2 of 8 cores" in given(replace(good, allowed=2))
    assert "INT8 gains little" in given(replace(good, byte_products=()))


@pytest.mark.parametrize(
    ("here", "text", "command"),
    [
        (
            replace(SEES, tensorrt="10.2.0.post1"),
            "TensorRT 10.2.0.post1 is known to be faulty. JetPack 6.2 or later brings another",
            "sudo apt-get install nvidia-jetpack",
        ),
        (
            Python("3.10.12", "/home/a/.venv", True, False, None, {"3.10": "10.3.0"}),
            "virtual environment (/home/a/.venv) does not see",
            "python3.10 -m venv --system-site-packages .venv",
        ),
        (
            Python("3.12.3", "/v", True, True, None, {"3.10": "10.3.0"}),
            "It is for Python 3.10, and this is 3.12",
            "python3.10 -m venv --system-site-packages .venv",
        ),
        (Python("3.12.3", "/v", True, False, None, {"3": ""}), "does not see", "python3.12 -m venv"),
        (
            Python("3.11.9", "/opt/conda", False, True, None, {"3.10": ""}),
            "this Python (/opt/conda)",
            "python3.10",
        ),
    ],
)
def test_a_tensorrt_that_is_faulty_or_unseen(tuned, here: Python, text: str, command: str) -> None:
    given = found(tuned(), here)
    assert len(given) == 1
    assert text in next(iter(given.values())) and command in str(next(iter(given)))


@pytest.mark.parametrize(
    ("arch", "command"),
    [
        ("x86_64", "pip install 'tensorrt>=10.3'"),
        ("aarch64", "sudo apt-get install nvidia-jetpack"),
        ("arm64", "sudo apt-get install nvidia-jetpack"),
    ],
)
def test_a_faulty_tensorrt_is_mended_by_pip_only_off_a_board(
    tuned, monkeypatch: pytest.MonkeyPatch, arch: str, command: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: arch)
    pc = replace(tuned(), kind="nvidia", cpu=None)
    (text,) = found(pc, replace(SEES, tensorrt="10.2.0")).items()
    assert text[0] == command and "10.2.0 is known to be faulty" in text[1]


@pytest.mark.parametrize(
    "here", [SEES, replace(SEES, tensorrt=None, system_tensorrt={}), replace(SEES, tensorrt="10.20.0")]
)
def test_a_tensorrt_that_is_seen_or_not_there(tuned, here: Python) -> None:
    assert found(tuned(), here) == {}


def test_every_kind_of_machine_has_rules_and_the_mode_comes_first(grow) -> None:
    assert set(RULES) == {"jetson", "nvidia", "cpu"}
    given = advise(device(grow("orin-nano")), SEES)
    assert [each.command for each in given[:2]] == ["sudo nvpmodel -m 2", "sudo jetson_clocks"]
    assert len(given) == 4 and str(given[1]).endswith(" sudo jetson_clocks")
    assert str(Advice("So it is.")) == "So it is."


def test_the_systems_tensorrt(grow) -> None:
    assert system_tensorrt(grow("orin-nano")) == {"3.10": "10.3.0"}


def test_the_systems_tensorrt_without_version(grow) -> None:
    shared = "usr/lib/python3/dist-packages/tensorrt/__init__.py"
    assert system_tensorrt(grow("pc", {shared: ""})) == {"3": ""}


def test_virtual_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    (tmp_path / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.10.12\n"
    )
    assert (python(tmp_path).virtual, python(tmp_path).sees_system) == (True, False)
    (tmp_path / "pyvenv.cfg").write_text("include-system-site-packages = true\n")
    assert python(tmp_path).sees_system
    assert not parse_venv("home = /usr")
    monkeypatch.setattr("sys.prefix", packages.sys.base_prefix)
    assert (python(tmp_path).virtual, python(tmp_path).sees_system) == (False, True)
