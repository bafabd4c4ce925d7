"""The examination behind `flowpose doctor`: the machine, its backends and what to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flowpose.compile.building import Options, Say, build_file
from flowpose.device.advice import Advice, advise
from flowpose.device.facts import Device, device
from flowpose.device.files import ROOT
from flowpose.device.kernels import GRAPH, KernelCheck, check_all
from flowpose.device.packages import Python, python
from flowpose.device.tegrastats import one_line, stats
from flowpose.errors import BackendError
from flowpose.runtime.backend import BACKENDS
from flowpose.runtime.machine import versions

LOGGED = "flowpose compile people-128, which keeps the builder's log"


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


def examine(
    root: Path = ROOT,
    *,
    build: bool = False,
    say: Say = lambda text: None,
    line: Callable[[], str | None] = one_line,
) -> Report:
    """Returns what is found on this machine.

    Args:
        root: as for `device`; versions and backends are always those of this process.
        build: whether a small graph is built, and run, for backends that open no ONNX files: ten seconds and more each.
        say: is told what is built, a line each.
        line: gives a line of a Jetson's tegrastats, None where there is none.

    Raises:
        DeviceError: a file of the machine, or an answer of its driver or of tegrastats, is not in its format.
    """
    machine, here = device(root), python(root)
    if machine.kind == "jetson":
        machine = replace(machine, stats=stats(line))
    kernels = check_all((lambda name, folder: built(name, folder, say)) if build else None)
    return Report(machine, here, versions(), kernels, tuple(advise(machine, here)))


def built(name: str, folder: Path, say: Say) -> Path:
    """Returns the file, in a folder that will not stay, that a backend opens of the small graph.

    Raises:
        BackendError, MissingDependency: it cannot be built.
    """
    out = folder / f"{GRAPH.stem}{BACKENDS[name].suffix}"
    try:
        build_file(name, GRAPH, out, "fp32", Options(threads=1, cache=folder, logs=folder), say)
    except BackendError as error:
        fix = LOGGED if str(folder) in (error.fix or "") else error.fix
        raise BackendError(
            error.where, error.what, got=error.got, expected=error.expected, fix=fix
        ) from error
    return out
