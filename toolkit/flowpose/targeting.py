"""Which target this machine is: `--target auto`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from flowpose.device.facts import Device, device
from flowpose.device.nvml import INSTALL
from flowpose.errors import TargetMismatch
from flowpose.runtime.machine import machine_arch
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_target
from flowpose.spec.target import Target

AUTO = "auto"
PROCESSORS = {"x86_64": "cpu", "aarch64": "cpu-arm64"}
"""Processor -> the shipped target of machines that run graphs on it."""


def find_target(name_or_path: str | Path) -> Target:
    """Returns a target by its name or file; with `auto` the shipped one that this machine is.

    Raises:
        SpecError: no such target, or its file is wrong.
        TargetMismatch: no shipped target is this machine.
        DeviceError: what this machine says of itself cannot be read.
    """
    return target_of(device(), machine_arch()) if str(name_or_path) == AUTO else load_target(name_or_path)


def target_of(found: Device, arch: str) -> Target:
    """Returns the shipped target of a machine with this processor.

    A Jetson is known by its module's part number, another NVIDIA GPU by the driver's name for it.

    Raises:
        TargetMismatch: there is none; says which file to write.
    """
    if found.kind == "cpu":
        if found.driver is not None and found.no_gpu is not None and found.no_gpu.what == "package":
            raise TargetMismatch(
                "target auto", "cannot tell which NVIDIA GPU this is", got=f"driver {found.driver}",
                expected="the package nvidia-ml-py", fix=f"{INSTALL}, or --target NAME (cpu, for one)",
            )  # fmt: skip
        if arch in PROCESSORS:
            return load_target(PROCESSORS[arch])
        _refuse(arch, "a file with `arch: any`")
    own = found.module if found.kind == "jetson" else found.name
    targets = [load_target(name) for name in shipped("targets")]
    for target in targets:
        if target.gpu is not None and own in target.gpu.found_by:
            return target
    near = [target.name for target in targets if target.gpu is not None and target.gpu.sm == found.sm]
    like = f", copied from {' or '.join(near)} which has the same SM {found.sm}" if near else ""
    _refuse(own or found.name, f"a file with `found_by: [{own or found.name}]`{like}")


def _refuse(got: str, file: str) -> NoReturn:
    raise TargetMismatch(
        "target auto", "no shipped target is this machine", got=got, expected="one that `flowpose targets` lists",
        fix=f"give --target FILE.yaml, {file}; or --target cpu",
    )  # fmt: skip
