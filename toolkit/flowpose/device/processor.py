"""The CPU: its name, its cores, how its clock is governed, and whether it multiplies bytes fast."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flowpose import kernel_files
from flowpose.device.files import ROOT, read
from flowpose.errors import DeviceError
from flowpose.kernel_files import CPUINFO

STATUS = "proc/self/status"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instructions that multiply and add four or more pairs of bytes: the first three of x86, the others of ARM."""

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Processor:
    """A CPU.

    Attributes:
        name: of its model; empty where the kernel has none (ARM).
        cores: that are on.
        allowed: that this process may use.
        governor: what sets the clock of core 0, as `powersave`; None where the kernel does not (virtual machines).
        byte_products: those of BYTE_PRODUCTS that it has; None where the kernel lists no instructions.
    """

    name: str
    cores: int
    allowed: int
    governor: str | None
    byte_products: tuple[str, ...] | None


def parse_cpuinfo(text: str) -> tuple[str, int, tuple[str, ...] | None]:
    """Returns a /proc/cpuinfo's name (empty: none), cores, and BYTE_PRODUCTS (None: it lists no instructions).

    Raises:
        DeviceError: it has no processor.
    """
    found = kernel_files.parse_cpuinfo(text)
    if not found.cores:
        raise DeviceError(CPUINFO, "lists no processor", got=repr(text[:40]), expected="processor : 0")
    listed = found.instructions
    return (
        found.name,
        found.cores,
        None if listed is None else tuple(each for each in BYTE_PRODUCTS if each in listed),
    )


def parse_cores(text: str) -> int:
    """Returns how many cores a list as `0-3,6` has; DeviceError if it is none."""
    count = 0
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found.group(1)), int(found.group(2) or found.group(1))) if found else (1, 0)
        if last < first:
            raise DeviceError(STATUS, "not a list of cores", got=repr(text[:40]), expected="0-3,6")
        count += last - first + 1
    return count


def processor(root: Path = ROOT) -> Processor | None:
    """Returns the CPU; None where there is no /proc."""
    text = read(root, CPUINFO)
    if text is None:
        return None
    name, cores, products = parse_cpuinfo(text)
    listed = _ALLOWED.search(read(root, STATUS) or "")
    allowed = parse_cores(listed.group(1)) if listed else cores
    # The list may hold places for cores that are not there.
    return Processor(name, cores, min(allowed, cores), read(root, GOVERNOR), products)
