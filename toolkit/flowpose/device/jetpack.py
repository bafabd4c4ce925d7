"""Which Jetson this is, and which JetPack runs on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpose.device.files import ROOT, read
from flowpose.errors import DeviceError, SpecError

RELEASE = "etc/nv_tegra_release"
TREE = "proc/device-tree"

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)\s*(?:,|$)", re.MULTILINE)
_MODULE = re.compile(r"\bp\d{4}-\d{4}")


@dataclass(frozen=True)
class JetPack:
    """A release of NVIDIA's system for Jetsons: its name, its Linux (L4T), and the versions that it brings."""

    name: str
    l4t: str
    tensorrt: str
    cuda: str
    python: str


JETPACKS = (
    JetPack("6.2", "36.4.3", "10.3.0", "12.6", "3.10"),
    JetPack("6.2.1", "36.4.4", "10.3.0", "12.6", "3.10"),
    JetPack("6.2.1", "36.4.7", "10.3.0", "12.6", "3.10"),
    JetPack("6.2.2", "36.5.0", "10.3.0", "12.6", "3.10"),
    JetPack("7.0", "38.2", "10.13", "13.0", "3.12"),
    JetPack("7.1", "38.4", "10.13", "13.0", "3.12"),
    JetPack("7.2", "39.2.0", "10.16.2", "13.2.1", "3.12"),
    JetPack("7.2.1", "39.2.1", "10.16.2", "13.2.1", "3.12"),
)


@dataclass(frozen=True)
class Chip:
    """A Jetson's chip: the GPU's compute capability, and its texture processing clusters; None: not known."""

    sm: str
    tpcs: int | None


CHIPS = {
    "tegra194": Chip("7.2", None),
    "tegra234": Chip(
        "8.7", 8
    ),  # every Orin: smaller modules are the same chip with a mask (nvpmodel tables of R36)
    "tegra264": Chip("11.0", None),  # Thor; nobody here has seen how it numbers what is off
}


@dataclass(frozen=True)
class Board:
    """A board, from its device tree.

    Attributes:
        model: the maker's name for it; empty where there is none.
        module: part number of the Jetson module, as p3767-0005; None on other boards.
        chip: key of CHIPS; None on other boards.
        super: the device tree is that of the `super` configuration, with higher clocks.
    """

    model: str
    module: str | None
    chip: str | None
    super: bool


def parse_release(text: str) -> str:
    """Returns the version of L4T in an nv_tegra_release, as `36.4.3`.

    Raises:
        DeviceError: no line `# R36 (release), REVISION: 4.3, ...`.
    """
    found = _RELEASE.search(text)
    if found is None:
        expected = "# R36 (release), REVISION: 4.3, ..."
        raise DeviceError(RELEASE, "names no release", got=repr(text[:60]), expected=expected)
    return f"{found.group(1)}.{found.group(2)}"


def jetpack(l4t: str) -> JetPack | None:
    """Returns the JetPack of a version of L4T; None for one that JETPACKS lacks. 38.2 and 38.2.0 are the same."""
    for each in JETPACKS:
        if _significant(each.l4t) == _significant(l4t):
            return each
    return None


def line_of(release: str, lines: Sequence[str]) -> str:
    """Returns the line of JetPack that a release belongs to, as `6.2.1` to `JetPack 6.2`.

    Args:
        release: such as `6.2.1` or `JetPack 6.2.1`; one of JETPACKS, or a line itself.
        lines: such as `JetPack 6.2`, as a target lists its releases.

    Raises:
        SpecError: it belongs to none of them; lists what does.
    """
    fitting: dict[str, str] = {}
    for line in lines:
        number = line.split()[-1]
        names = [each.name for each in JETPACKS if each.name.startswith(f"{number}.")]
        fitting.update(dict.fromkeys((number, *names), line))
    asked = release.removeprefix("JetPack ")
    if asked not in fitting:
        expected = f"one of {', '.join(fitting)} (cat /etc/nv_tegra_release tells)"
        raise SpecError("deploy", [f"jetpack: not a release for it, got {release!r}, expected {expected}"])
    return fitting[asked]


def parse_compatible(text: str, model: str) -> Board:
    """Returns the board of a device tree.

    Args:
        text: its `compatible`: names with a NUL between them, as nvidia,p3768-0000+p3767-0005-super.
        model: its `model`.
    """
    names = [name for name in text.split("\0") if name]
    nvidia = [name.removeprefix("nvidia,") for name in names if name.startswith("nvidia,")]
    chips = [name for name in nvidia if name in CHIPS]
    # A board is CARRIER+MODULE; a module that stands alone comes after it, if at all.
    parts = [part for name in nvidia for part in _MODULE.findall(name)[-1:]]
    return Board(
        model=model,
        module=parts[0] if parts and chips else None,
        chip=chips[0] if chips else None,
        super=any(name.endswith("-super") for name in nvidia),
    )


def board(root: Path = ROOT) -> Board | None:
    """Returns the board that the device tree describes; None where there is no device tree (PCs)."""
    text = read(root, f"{TREE}/compatible")
    return None if text is None else parse_compatible(text, read(root, f"{TREE}/model") or "")


def l4t(root: Path = ROOT) -> str | None:
    """Returns the version of L4T; None where there is none (no Jetson, or a container without the file)."""
    text = read(root, RELEASE)
    return None if text is None else parse_release(text)


def _significant(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
