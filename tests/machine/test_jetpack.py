"""Releases of L4T, the JetPack of each, and modules in a device tree."""

from __future__ import annotations

import pytest

from flowpose.device.jetpack import (
    CHIPS,
    JETPACKS,
    Board,
    board,
    jetpack,
    l4t,
    line_of,
    parse_compatible,
    parse_release,
)
from flowpose.errors import DeviceError, SpecError


@pytest.mark.parametrize(
    ("text", "version", "name"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3", "6.2"),
        ("# R36 (release), REVISION: 4.4, GCID: 41062509", "36.4.4", "6.2.1"),
        ("# R36 (release), REVISION: 4.7, GCID: 1", "36.4.7", "6.2.1"),
        ("# R36 (release), REVISION: 5.0, GCID: 1", "36.5.0", "6.2.2"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464", "38.2.0", "7.0"),
        ("# R38 (release), REVISION: 4.0", "38.4.0", "7.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 45755727", "39.2.0", "7.2"),
        (
            "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic\n# KERNEL_VARIANT: oot\n",
            "39.2.1",
            "7.2.1",
        ),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "35.4.1", None),
        ("# R36 (release), REVISION: 4.30, GCID: 1", "36.4.30", None),
        ("# R40 (release), REVISION: 0.0", "40.0.0", None),
    ],
)
def test_a_release_and_its_jetpack(text: str, version: str, name: str | None) -> None:
    found = parse_release(text)
    known = jetpack(found)
    assert (found, known.name if known else None) == (version, name)


def test_what_a_jetpack_brings() -> None:
    old, new = jetpack("36.4.3"), jetpack("39.2.1")
    assert old is not None and (old.tensorrt, old.cuda, old.python) == ("10.3.0", "12.6", "3.10")
    assert new is not None and (new.tensorrt, new.cuda, new.python) == ("10.16.2", "13.2.1", "3.12")
    assert jetpack("38.2") == jetpack("38.2.0")
    assert len({each.l4t for each in JETPACKS}) == len(JETPACKS)


LINES = ("JetPack 6.2", "JetPack 7.2")


@pytest.mark.parametrize(
    ("release", "line"),
    [
        ("6.2", "JetPack 6.2"), ("6.2.1", "JetPack 6.2"), ("6.2.2", "JetPack 6.2"), ("JetPack 6.2.1", "JetPack 6.2"),
        ("7.2", "JetPack 7.2"), ("7.2.1", "JetPack 7.2"), ("JetPack 7.2", "JetPack 7.2"),
    ],
)  # fmt: skip
def test_a_release_belongs_to_a_line(release: str, line: str) -> None:
    assert line_of(release, LINES) == line


@pytest.mark.parametrize("release", ["6", "6.1", "6.20", "6.2.9", "7.0", "7.1", "7.2.1.1", "", "jetpack"])
def test_a_release_of_no_line_is_refused_and_told_which_fit(release: str) -> None:
    fitting = r"expected one of 6\.2, 6\.2\.1, 6\.2\.2, 7\.2, 7\.2\.1 \(cat /etc/nv_tegra_release tells\)"
    with pytest.raises(SpecError, match=f"jetpack: not a release for it, got '{release}', {fitting}"):
        line_of(release, LINES)


@pytest.mark.parametrize(
    "text",
    ["", "# R36 (release)", "# R36 (release), REVISION: ", "R36.4.3", "# R36 (release), REVISION: x.3,"],
)
def test_a_garbled_release_is_an_error(text: str) -> None:
    with pytest.raises(DeviceError, match="nv_tegra_release: names no release"):
        parse_release(text)


@pytest.mark.parametrize(
    ("text", "module", "chip", "is_super"),
    [
        (
            "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "p3767-0005",
            "tegra234",
            True,
        ),
        ("nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234", "p3767-0000", "tegra234", False),
        ("nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234", "p3701-0005", "tegra234", False),
        ("nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264", "p3834-0008", "tegra264", False),
        ("maker,box\0nvidia,p3767-0001\0nvidia,tegra234", "p3767-0001", "tegra234", False),
        ("raspberrypi,5-model-b\0brcm,bcm2712", None, None, False),
        ("nvidia,p3768-0000+p3767-0005", None, None, False),
        ("", None, None, False),
    ],
)
def test_a_device_tree(text: str, module: str | None, chip: str | None, is_super: bool) -> None:
    assert parse_compatible(text, "a model") == Board("a model", module, chip, is_super)
    assert chip is None or chip in CHIPS


def test_a_tree_of_files(grow) -> None:
    root = grow("orin-nano")
    found = board(root)
    assert found is not None and found.model.endswith("Developer Kit Super")
    assert (found.module, l4t(root)) == ("p3767-0005", "36.4.3")


def test_a_machine_that_is_no_jetson(grow) -> None:
    root = grow("pc")
    assert board(root) is None and l4t(root) is None


def test_a_file_that_is_not_text_is_an_error(grow) -> None:
    root = grow("orin-nano")
    (root / "etc/nv_tegra_release").write_bytes(b"# R36 \xff\xfe")
    with pytest.raises(DeviceError, match="is not text"):
        l4t(root)
