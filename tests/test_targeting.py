"""`--target auto`: which shipped target a machine is."""

from __future__ import annotations

import pytest

from flowpose.device.facts import Device
from flowpose.device.nvml import Absent
from flowpose.errors import TargetMismatch
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_target
from flowpose.targeting import PROCESSORS, find_target, target_of

JETSON = {"kind": "jetson", "name": "NVIDIA Jetson Orin Nano Developer Kit", "sm": "8.7"}
KNOWN = [
    (Device(**JETSON, module="p3767-0005"), "aarch64", "jetson-orin-nano-8gb"),
    (Device(**JETSON, module="p3767-0004"), "aarch64", "jetson-orin-nano-4gb"),
    (Device(**JETSON, module="p3767-0000"), "aarch64", "jetson-orin-nx-16gb"),
    (Device(**JETSON, module="p3701-0005"), "aarch64", "jetson-agx-orin-64gb"),
    (Device(kind="nvidia", name="NVIDIA GeForce RTX 4090", sm="8.9"), "x86_64", "rtx-4090"),
    (Device(kind="nvidia", name="NVIDIA H200", sm="9.0"), "x86_64", "h200"),
    (Device(kind="cpu", name="AMD EPYC"), "x86_64", "cpu"),
    (Device(kind="cpu", name="Raspberry Pi 5"), "aarch64", "cpu-arm64"),
]


@pytest.mark.parametrize(("device", "arch", "name"), KNOWN, ids=[name for _, _, name in KNOWN])
def test_a_machine_is_known_by_its_module_or_its_gpu(device: Device, arch: str, name: str) -> None:
    assert target_of(device, arch).name == name


def test_every_gpu_and_module_stands_in_one_target_alone() -> None:
    targets = [load_target(name) for name in shipped("targets")]
    found = [name for target in targets if target.gpu for name in target.gpu.found_by]
    assert len(found) == len(set(found)) > 12


@pytest.mark.parametrize(
    ("device", "arch", "text"),
    [
        (
            Device(kind="nvidia", name="NVIDIA GeForce RTX 4080", sm="8.9"),
            "x86_64",
            r"RTX 4080.*copied from rtx-40.0",
        ),
        (
            Device(kind="nvidia", name="NVIDIA X1", sm="99.0"),
            "x86_64",
            r"found_by: \[NVIDIA X1\]`; or --target cpu$",
        ),
        (Device(**JETSON, module=None), "aarch64", "Jetson Orin Nano Developer Kit"),
        (Device(kind="cpu", name="a chip"), "riscv64", "riscv64.*arch: any"),
    ],
)
def test_an_unknown_machine_is_refused_with_the_file_to_write(device: Device, arch: str, text: str) -> None:
    with pytest.raises(TargetMismatch, match=text):
        target_of(device, arch)


def test_a_driver_without_the_package_that_asks_it_is_told() -> None:
    """Or a GPU machine would be taken for its processor."""
    seen = Device(kind="cpu", name="AMD EPYC", driver="570.1", no_gpu=Absent("package", "not installed"))
    with pytest.raises(TargetMismatch, match=r"cannot tell which NVIDIA GPU.*nvidia-ml-py.*--target NAME"):
        target_of(seen, "x86_64")


def test_processors_name_targets_of_their_own() -> None:
    for arch, name in PROCESSORS.items():
        assert load_target(name).arch == arch


def test_a_name_is_taken_as_it_is() -> None:
    assert find_target("rtx-4090").name == "rtx-4090"
