"""The examination behind `flowpose doctor`: the machine, its backends and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowpose.device.advice import Advice, advise
from flowpose.device.facts import Device, device
from flowpose.device.files import ROOT
from flowpose.device.kernels import KernelCheck, check_all
from flowpose.device.packages import Python, python
from flowpose.runtime.machine import versions


@dataclass(frozen=True)
class Report:
    """What was found: the machine, this Python, versions of what is installed, each backend's check, and advice."""

    device: Device
    python: Python
    versions: dict[str, str]
    kernels: tuple[KernelCheck, ...]
    advice: tuple[Advice, ...]

    @property
    def runs(self) -> bool:
        """Whether a model can be run: at least one backend computes rightly."""
        return any(kernel.ok for kernel in self.kernels)

    def plain(self) -> dict[str, Any]:
        """Returns the report as JSON data."""
        return {"runs": self.runs, **asdict(self)}


def examine(root: Path = ROOT) -> Report:
    """Returns what is found on this machine.

    Args:
        root: as for `device`; versions and backends are always those of this process.

    Raises:
        DeviceError: a file of the machine, or an answer of its driver, is not in its format.
    """
    machine, here = device(root), python(root)
    return Report(machine, here, versions(), check_all(), tuple(advise(machine, here)))
