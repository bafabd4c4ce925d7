"""What engines' keys say of the machine: power mode, driver, the very processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowpose import nvidia_files
from flowpose.errors import DeviceError
from flowpose.runtime import machine
from flowpose.runtime.machine import cpu_identity, driver_identity, machine_identity

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)\n"
)
CPU = "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: {flags}\n"


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Jetson's files in a folder: the release, no status of nvpmodel, no driver, no commands."""
    for name in ("POWER_MODE", "JETSON", "DRIVER", "CPUINFO", "BOARD"):
        monkeypatch.setattr(machine, name, tmp_path / name)
    (tmp_path / "JETSON").write_text("# R36 (release), REVISION: 4.3\n")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def nvpmodel(board: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = board / "bin" / "nvpmodel"
    command.write_text(f"#!/bin/sh\n{says}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/bin:/usr/bin")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("pmode:0002\n", "2"),
        ("pmode:0002 fmode:quiet\n", "2"),
        ("fmode:quiet pmode:0010", "10"),
        ("pmode:0000", "0"),
    ],
)
def test_the_power_mode_is_a_number_whatever_stands_beside_it(board: Path, text: str, mode: str) -> None:
    (board / "POWER_MODE").write_text(text)
    assert machine_identity() == {"power_mode": mode}


def test_a_status_without_the_mode_is_an_error(board: Path) -> None:
    (board / "POWER_MODE").write_text("fmode:quiet")
    with pytest.raises(DeviceError, match="does not name the mode"):
        machine_identity()


def test_a_container_without_the_status_asks_nvpmodel(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvpmodel(board, "[ $1 = -q ] && echo 'NV Power Mode: 25W' && echo 1", monkeypatch)
    assert machine_identity() == {"power_mode": "1"}
    (board / "POWER_MODE").write_text("pmode:0003")
    assert machine_identity() == {"power_mode": "3"}


def test_without_both_nothing_is_known(board: Path) -> None:
    assert machine_identity() == {}


def test_another_machine_is_not_asked(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvpmodel(board, "echo 'NV Power Mode: 25W' && echo 1", monkeypatch)
    (board / "JETSON").unlink()
    assert machine_identity() == {}


@pytest.mark.parametrize(("says", "text"), [("exec sleep 30", "cannot be run"), ("echo no", "name the mode")])
def test_an_answer_that_does_not_come_is_an_error(
    board: Path, says: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode would be missing in the key, and an engine of another mode be taken for one of this."""
    monkeypatch.setattr(nvidia_files, "TIMEOUT_S", 0.2 if "sleep" in says else 3.0)
    nvpmodel(board, says, monkeypatch)
    with pytest.raises(DeviceError, match=f"nvpmodel -q: .*{text}.*docker run -v /var/lib/nvpmodel"):
        machine_identity()


def test_the_driver_is_named_where_the_kernel_tells_it(board: Path) -> None:
    assert driver_identity() == {}
    (board / "DRIVER").write_text(VERSION)
    assert driver_identity() == {"driver": "540.4.0"}
    (board / "DRIVER").write_text("NVRM version: none")
    with pytest.raises(DeviceError, match="names no version"):
        driver_identity()


def test_the_memory_of_a_machine_is_what_the_kernel_tells(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MEMINFO", board / "MEMINFO")
    assert machine.machine().memory_mb == 0
    (board / "MEMINFO").write_text("MemTotal:        7802848 kB\nMemFree:          100 kB\n")
    assert machine.machine().memory_mb == 7619, "an old kernel does not tell what is available"


def test_a_processor_is_known_by_its_name_and_instructions(board: Path) -> None:
    cpuinfo = board / "CPUINFO"
    cpuinfo.write_text(CPU.format(flags="fpu avx2 avx512f"))
    first = cpu_identity()
    assert first["cpu"] == "AMD EPYC 9R14" and len(first["cpu_flags"]) == 16
    cpuinfo.write_text(CPU.format(flags="avx512f fpu avx2") * 2)
    assert cpu_identity() == first
    cpuinfo.write_text(CPU.format(flags="fpu avx2 avx512f avx512_vnni"))
    assert cpu_identity()["cpu_flags"] != first["cpu_flags"]
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert cpu_identity()["cpu_flags"] != first["cpu_flags"]
    cpuinfo.unlink()
    assert "cpu_flags" not in cpu_identity()
