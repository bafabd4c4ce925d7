"""Power modes of a Jetson: which there are, which one is set, and how many streaming multiprocessors (SMs) it leaves.

A mode's id differs from board to board (MAXN is 0 on an AGX Orin, MAXN_SUPER is 2 on an Orin Nano), so ids are always
read from the board's own table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from flowpose.device.files import ROOT, number, read
from flowpose.errors import DeviceError
from flowpose.nvidia_files import STATUS, NamedMode, asked_mode, parse_status

CONF = "etc/nvpmodel.conf"
UNCAPPED = (-1, 0)  # how a table says that a clock has no limit: -1 for the GPU, -1 or 0 for the memory
SMS_OF_A_TPC = 2

_SECTION = re.compile(r"<\s*(\w+)\s+(.*?)\s*>")
_FIELD = re.compile(r"(\w+)\s*=\s*(\S+)")


@dataclass(frozen=True)
class PowerMode:
    """A power mode, as the table states it.

    Attributes:
        id, name: of the mode.
        gpu_mhz: highest GPU clock, MHz; None where the mode sets none.
        emc_mhz: highest memory clock, MHz; None where the mode sets none.
        gpu_uncapped: the table says that the GPU clock is limited by the hardware alone.
        tpc_mask: a bit for each pair of SMs that is switched off; None where the table has no such line.
        cores: CPU cores that are on; 0 where the table has no such lines.
    """

    id: int
    name: str
    gpu_mhz: int | None
    emc_mhz: int | None
    gpu_uncapped: bool
    tpc_mask: int | None
    cores: int


@dataclass(frozen=True)
class PowerModes:
    """All modes of a board, and the id of the one it starts with when it is new."""

    modes: tuple[PowerMode, ...]
    default: int


def parse_conf(text: str) -> PowerModes:
    """Returns the modes of an nvpmodel.conf, in its order.

    Raises:
        DeviceError: a section that cannot be read, no mode, no PM_CONFIG section (each table must have one: the file
            is cut short), or a default that is not among the modes.
    """
    modes: list[PowerMode] = []
    default: int | None = None
    for kind, fields, lines in _sections(text):
        if kind == "POWER_MODEL":
            modes.append(_mode(fields, lines))
        elif kind == "PM_CONFIG":
            default = number(f"{CONF}: PM_CONFIG DEFAULT", fields.get("DEFAULT", ""))
    if not modes:
        raise DeviceError(CONF, "has no power mode", expected="sections as < POWER_MODEL ID=0 NAME=MAXN >")
    if default is None:
        raise DeviceError(CONF, "is cut short", expected="a section < PM_CONFIG DEFAULT=... >")
    if default not in {mode.id for mode in modes}:
        ids = ", ".join(str(mode.id) for mode in modes)
        raise DeviceError(CONF, "has a default that is no mode", got=default, expected=f"one of {ids}")
    return PowerModes(tuple(modes), default)


def power_modes(root: Path = ROOT) -> PowerModes | None:
    """Returns the modes of this board; None where it has no table (no Jetson, or a container without it)."""
    text = read(root, CONF)
    return None if text is None else parse_conf(text)


def current_mode(modes: PowerModes | None, root: Path = ROOT) -> NamedMode | None:
    """Returns the mode that is set: from the status file, or where it has none from `nvpmodel -q`; None without both.

    Raises:
        DeviceError: the status names a mode that the table lacks, or one of the two cannot be read.
    """
    status = read(root, STATUS)
    if status is None:
        return asked_mode() if root == ROOT else None
    wanted = parse_status(status)
    if modes is None:
        return NamedMode(wanted, "")
    for mode in modes.modes:
        if mode.id == wanted:
            return NamedMode(mode.id, mode.name)
    ids = ", ".join(str(mode.id) for mode in modes.modes)
    raise DeviceError(STATUS, f"names a mode that {CONF} lacks", got=wanted, expected=f"one of {ids}")


def live_sms(mask: int, tpcs: int) -> int:
    """Returns how many SMs a power-gating mask leaves on: two for each texture processing cluster (TPC) that is on.

    Args:
        mask: a bit for each TPC that is off.
        tpcs: TPCs of the chip, before any is switched off (8 of Orin's, also on modules that sell fewer).

    Raises:
        DeviceError: the mask has bits for TPCs that the chip has not.
    """
    if mask < 0 or mask >> tpcs:
        raise DeviceError("TPC_PG_MASK", "does not fit the chip", got=mask, expected=f"0..{(1 << tpcs) - 1}")
    return SMS_OF_A_TPC * (tpcs - mask.bit_count())


def mode_sms(mode: PowerMode, tpcs: int | None) -> int | None:
    """Returns how many SMs a mode leaves on, of a chip with so many TPCs; None where one of the two is not known."""
    return None if mode.tpc_mask is None or tpcs is None else live_sms(mode.tpc_mask, tpcs)


def mode_mhz(mode: PowerMode, top_mhz: int | None) -> float | None:
    """Returns the highest GPU clock in a mode, MHz; None where the table does not tell.

    Args:
        mode: a mode.
        top_mhz: the hardware's highest clock, MHz, which no mode raises; None: a mode without a limit gets infinity.
    """
    limit = inf if mode.gpu_uncapped else mode.gpu_mhz
    return None if limit is None else float(min(limit, inf if top_mhz is None else top_mhz))


def rates(modes: Sequence[PowerMode], top_mhz: int | None, tpcs: int | None) -> dict[int, float] | None:
    """Returns mode's id -> SMs x MHz; None where the table does not tell of each mode what it allows.

    A table that switches no SMs (it has no masks) is compared by clock alone.
    """
    clocks = {mode.id: mode_mhz(mode, top_mhz) for mode in modes}
    counts = {mode.id: mode_sms(mode, tpcs) for mode in modes}
    if all(mode.tpc_mask is None for mode in modes):
        counts = dict.fromkeys(counts, 1)
    found: dict[int, float] = {}
    for mode in modes:
        clock, count = clocks[mode.id], counts[mode.id]
        if clock is None or count is None:
            return None
        found[mode.id] = clock * count
    return found


def _sections(text: str) -> Iterator[tuple[str, dict[str, str], list[list[str]]]]:
    """Each section of a table: its kind, its fields, and the words of its lines."""
    opened: tuple[str, dict[str, str], list[list[str]]] | None = None
    for row, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].strip()
        if line.startswith("<"):
            found = _SECTION.fullmatch(line)
            if found is None:
                raise DeviceError(
                    f"{CONF}: line {row}", "not a section", got=repr(line[:60]), expected="< ... >"
                )
            if opened is not None:
                yield opened
            opened = found.group(1), dict(_FIELD.findall(found.group(2))), []
        elif line and opened is not None:
            opened[2].append(line.split())
    if opened is not None:
        yield opened


def _mode(fields: dict[str, str], lines: list[list[str]]) -> PowerMode:
    where = f"{CONF}: POWER_MODEL ID={fields.get('ID', '')}"
    if not fields.get("NAME"):
        raise DeviceError(where, "has no name", expected="NAME=...")
    values = {(line[0], line[1]): line[2] for line in lines if len(line) == 3}
    gpu, emc = (_limit(where, values.get((part, "MAX_FREQ"))) for part in ("GPU", "EMC"))
    mask = values.get(("TPC_POWER_GATING", "TPC_PG_MASK"))
    return PowerMode(
        id=number(where, fields.get("ID", "")),
        name=fields["NAME"],
        gpu_mhz=None if gpu in (None, *UNCAPPED) else _mhz(gpu),
        emc_mhz=None if emc in (None, *UNCAPPED) else _mhz(emc),
        gpu_uncapped=gpu in UNCAPPED,
        tpc_mask=None if mask is None else number(f"{where}: TPC_PG_MASK", mask),
        cores=sum(part == "CPU_ONLINE" and value == "1" for (part, _), value in values.items()),
    )


def _limit(where: str, text: str | None) -> int | None:
    return None if text is None else number(f"{where}: MAX_FREQ", text)


def _mhz(hertz: int | None) -> int | None:
    return None if hertz is None else round(hertz / 1e6)
