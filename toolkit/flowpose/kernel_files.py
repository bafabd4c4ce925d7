"""What Linux tells of memory and processors in /proc: one reading for a machine's facts, engines' keys and builds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowpose.errors import DeviceError

MEMINFO = "proc/meminfo"
CPUINFO = "proc/cpuinfo"

_MEMORY = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Cpuinfo:
    """What a /proc/cpuinfo says.

    Attributes:
        name: of the model; empty where the kernel has none (ARM).
        cores: how many are listed.
        instructions: of all cores; None where it lists none.
    """

    name: str
    cores: int
    instructions: frozenset[str] | None


def parse_meminfo(text: str) -> dict[str, int]:
    """Returns line of a /proc/meminfo, as `MemTotal` -> MB."""
    return {name: int(kilobytes) // 1024 for name, kilobytes in _MEMORY.findall(text)}


def memory_lines(text: str, *wanted: str) -> tuple[int, ...]:
    """Returns the MB of lines of a /proc/meminfo; DeviceError where it lacks one."""
    found = parse_meminfo(text)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DeviceError(MEMINFO, "lacks lines", got=", ".join(missing), expected="MemTotal: 7800000 kB")
    return tuple(found[name] for name in wanted)


def parse_cpuinfo(text: str) -> Cpuinfo:
    """Returns what a /proc/cpuinfo says of the processor."""
    rows = [
        (key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())
    ]
    names = [value for key, value in rows if key == "model name"]
    listed = [value.split() for key, value in rows if key in ("flags", "Features")]  # of x86, of ARM
    cores = sum(key == "processor" for key, _ in rows)
    return Cpuinfo(names[0] if names else "", cores, frozenset().union(*listed) if listed else None)
