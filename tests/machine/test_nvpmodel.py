"""Tables of power modes of six boards, the mode that is set, and SMs that a mask leaves on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flowpose.device import nvpmodel
from flowpose.device.nvpmodel import (
    current_mode,
    live_sms,
    mode_mhz,
    mode_sms,
    parse_conf,
    power_modes,
    rates,
)
from flowpose.errors import DeviceError
from flowpose.nvidia_files import NamedMode, parse_query, parse_status

RECORDED = Path(__file__).with_name("recorded")
ORIN_TPCS = 8

# Board -> mode's name -> id, SMs, GPU MHz (None: uncapped); from the tables of notes/edge.md 3.2.
EXPECTED: dict[str, dict[str, tuple[int, int, int | None]]] = {
    "orin_nano": {"15W": (0, 8, None), "7W": (1, 4, 408)},
    "orin_nano_super": {"15W": (0, 8, 612), "25W": (1, 8, 918), "MAXN_SUPER": (2, 8, None), "7W": (3, 4, 408)},
    "orin_nano_4gb": {"10W": (0, 4, None), "7W_AI": (1, 4, 408), "7W_CPU": (2, 4, 306)},
    "orin_nx_16gb_super": {
        "MAXN_SUPER": (0, 8, None), "10W": (1, 4, 612), "15W": (2, 4, 612), "25W": (3, 8, 408), "40W": (4, 8, 1173),
    },
    "agx_orin": {
        "MAXN": (0, 16, None), "MODE_15W": (1, 6, 408), "MODE_30W": (2, 8, 612), "MODE_50W": (3, 16, 816),
    },
    "agx_orin_32gb": {
        "MAXN": (0, 14, None), "MODE_15W": (1, 6, 408), "MODE_30W": (2, 8, 612), "MODE_40W": (3, 14, 816),
    },
}  # fmt: skip
DEFAULTS = {"orin_nano": 0, "orin_nano_super": 1, "orin_nx_16gb_super": 4, "agx_orin": 2, "agx_orin_32gb": 2}


def table(board: str) -> nvpmodel.PowerModes:
    return parse_conf((RECORDED / f"{board}.conf").read_text("utf-8"))


@pytest.mark.parametrize("board", EXPECTED)
def test_a_boards_modes(board: str) -> None:
    found = {mode.name: (mode.id, mode_sms(mode, ORIN_TPCS), mode.gpu_mhz) for mode in table(board).modes}
    assert found == EXPECTED[board]
    assert all(mode.gpu_uncapped == (mode.gpu_mhz is None) for mode in table(board).modes)


@pytest.mark.parametrize("board", DEFAULTS)
def test_a_boards_default(board: str) -> None:
    assert table(board).default == DEFAULTS[board]


def test_memory_clock_and_cores() -> None:
    fifteen, most = (table("agx_orin").modes[i] for i in (1, 0))
    assert (fifteen.emc_mhz, fifteen.cores) == (2133, 4)
    assert (most.emc_mhz, most.cores) == (None, 12)
    assert table("orin_nano").modes[0].emc_mhz is None  # 0 there, -1 on others


def test_a_table_without_clocks_and_masks() -> None:
    modes = table("thor").modes
    assert [(mode.id, mode.name) for mode in modes] == [(0, "MAXN"), (1, "120W"), (2, "90W"), (3, "70W")]
    assert not any(mode.gpu_uncapped or mode.gpu_mhz or mode.tpc_mask for mode in modes)
    assert rates(modes, 1575, None) is None and mode_mhz(modes[0], 1575) is None


@pytest.mark.parametrize(
    ("board", "top", "fastest"),
    [
        ("agx_orin", 1301, {0}),
        ("agx_orin", None, {0}),
        ("orin_nano_super", 1020, {2}),
        ("orin_nano", 625, {0}),
        ("orin_nx_16gb_super", 1173, {0, 4}),
    ],
)
def test_the_fastest_mode(board: str, top: int | None, fastest: set[int]) -> None:
    found = rates(table(board).modes, top, ORIN_TPCS)
    assert found is not None
    assert {mode for mode, rate in found.items() if rate == max(found.values())} == fastest


def test_more_sms_at_a_lower_clock_may_be_faster() -> None:
    """On an Orin NX 25 W has 8 SMs at 408 MHz, 15 W has 4 at 612 MHz."""
    found = rates(table("orin_nx_16gb_super").modes, 1173, ORIN_TPCS)
    assert found is not None and found[3] == 8 * 408 > found[2] == 4 * 612


def test_no_mode_raises_the_hardwares_clock() -> None:
    """An Orin Nano whose firmware lacks the super setting: 25 W is no faster than MAXN_SUPER."""
    found = rates(table("orin_nano_super").modes, 625, ORIN_TPCS)
    assert found == {0: 8 * 612, 1: 8 * 625, 2: 8 * 625, 3: 4 * 408}


def test_without_a_chip_masks_are_not_counted() -> None:
    assert rates(table("agx_orin").modes, 1301, None) is None
    assert mode_mhz(table("agx_orin").modes[0], None) == math.inf


@pytest.mark.parametrize(("mask", "sms"), [(0, 16), (128, 14), (240, 8), (248, 6), (252, 4), (255, 0)])
def test_sms_that_a_mask_leaves_on(mask: int, sms: int) -> None:
    assert live_sms(mask, ORIN_TPCS) == sms


@pytest.mark.parametrize("mask", [256, -1])
def test_a_mask_that_does_not_fit_is_an_error(mask: int) -> None:
    with pytest.raises(DeviceError, match=r"0\.\.255"):
        live_sms(mask, ORIN_TPCS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NV Power Mode: 15W\n0", NamedMode(0, "15W")),
        ("NV Power Mode: 15W\n0\n", NamedMode(0, "15W")),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n", NamedMode(2, "MODE_30W")),
        (
            "NV Fan Mode:quiet\nNV Power Mode: MODE_15W_DESKTOP\n7\n"
            "NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n",
            NamedMode(7, "MODE_15W_DESKTOP"),
        ),
    ],
)
def test_what_nvpmodel_says(text: str, expected: NamedMode) -> None:
    assert parse_query(text) == expected


@pytest.mark.parametrize(
    "text", ["", "NV Power Mode: 15W\n", "NV Power Mode: 15W\nmany", "NV Fan Mode:quiet\n2\n"]
)
def test_half_an_answer_of_nvpmodel_is_an_error(text: str) -> None:
    with pytest.raises(DeviceError, match="nvpmodel -q"):
        parse_query(text)


@pytest.mark.parametrize(
    ("text", "mode"), [("pmode:0002", 2), ("pmode:0010 fmode:fan_mode_quiet\n", 10), ("pmode: 3", 3)]
)
def test_the_status_file(text: str, mode: int) -> None:
    assert parse_status(text) == mode


@pytest.mark.parametrize("text", ["", "pmode:", "fmode:quiet", "pmode:two"])
def test_a_garbled_status_file_is_an_error(text: str) -> None:
    with pytest.raises(DeviceError, match="pmode:0002"):
        parse_status(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "no power mode"),
        (lambda text: text[: text.index("< PM_CONFIG")], "cut short"),
        (lambda text: text[: text.index("NAME=MODE_50W")], "not a section"),
        (lambda text: text.replace("DEFAULT=2", "DEFAULT=9"), "one of 0, 1, 2, 3"),
        (lambda text: text.replace("DEFAULT=2", ""), "not a number|not a section"),
        (lambda text: text.replace("ID=3 ", "ID=x "), "not a number, got 'x'"),
        (lambda text: text.replace("ID=3 NAME=MODE_50W", "ID=3"), "has no name"),
        (lambda text: text.replace("612000000", "612MHz"), "ID=2: MAX_FREQ: not a number, got '612MHz'"),
        (lambda text: text.replace("TPC_PG_MASK 248", "TPC_PG_MASK ?"), "ID=1: TPC_PG_MASK: not a number"),
    ],
)
def test_a_garbled_table_is_an_error_that_names_the_place(change, said: str) -> None:
    text = (RECORDED / "agx_orin.conf").read_text("utf-8")
    assert change(text) != text
    with pytest.raises(DeviceError, match=said):
        parse_conf(change(text))


def test_comments_are_not_read() -> None:
    text = (RECORDED / "agx_orin.conf").read_text("utf-8")
    assert parse_conf(text.replace("GPU MAX_FREQ 612000000", "GPU MAX_FREQ 612000000\t# 612 MHz")) == table(
        "agx_orin"
    )
    assert parse_conf(text.replace("EMC MAX_FREQ -1", "EMC MAX_FREQ -1\n#GPU MAX_FREQ 1")) == table(
        "agx_orin"
    )


def test_an_unknown_section_and_a_hexadecimal_mask_are_read() -> None:
    text = (RECORDED / "agx_orin.conf").read_text("utf-8").replace("TPC_PG_MASK 248", "TPC_PG_MASK 0xf8")
    found = parse_conf("< FAN_CONFIG DEFAULT=quiet >\nx y\n" + text)
    assert found == table("agx_orin")


def test_the_mode_of_a_tree(grow) -> None:
    root = grow("orin-nano", {"var/lib/nvpmodel/status": "pmode:0002"})
    assert current_mode(power_modes(root), root) == NamedMode(2, "MAXN_SUPER")
    assert current_mode(None, root) == NamedMode(2, "")


def test_a_tree_without_status_or_table(grow) -> None:
    root = grow("orin-nano", {"var/lib/nvpmodel/status": None, "etc/nvpmodel.conf": None})
    assert power_modes(root) is None and current_mode(None, root) is None


def test_a_status_that_the_table_lacks_is_an_error(grow) -> None:
    root = grow("orin-nano", {"var/lib/nvpmodel/status": "pmode:0007"})
    with pytest.raises(DeviceError, match="lacks, got 7, expected one of 0, 1, 2, 3"):
        current_mode(power_modes(root), root)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A made-up `nvpmodel` that is set to 25 W, on a machine without a status file."""
    made = tmp_path / "bin" / "nvpmodel"
    made.parent.mkdir()
    made.write_text("#!/bin/sh\n[ $1 = -q ] && echo 'NV Power Mode: 25W' && echo 1\n")
    made.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.parent}:/bin:/usr/bin")
    monkeypatch.setattr(nvpmodel, "STATUS", "not/here")
    return made


def test_nvpmodel_is_asked_where_there_is_no_status_file(command: Path) -> None:
    assert current_mode(None) == NamedMode(1, "25W")
    command.unlink()
    assert current_mode(None) is None


def test_nvpmodel_is_not_asked_for_another_root(command: Path, tmp_path: Path) -> None:
    assert current_mode(None, tmp_path) is None


def test_an_nvpmodel_that_cannot_be_run_is_an_error(command: Path) -> None:
    command.write_text("\0")
    with pytest.raises(DeviceError, match="cannot be run"):
        current_mode(None)
