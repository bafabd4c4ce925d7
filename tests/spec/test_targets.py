"""The shipped targets: every number has a source, and the formula gives the published peaks."""

from __future__ import annotations

import re

import pytest

from flowpose.errors import SpecError
from flowpose.spec.base import Precision
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_target
from flowpose.spec.target import Target

NAMES = sorted(shipped("targets"))
TARGETS = {name: load_target(name) for name in NAMES}
BOARDS = [name for name in NAMES if TARGETS[name].gpu is not None]
WITHOUT_DEFAULT = {"jetson-thor"}  # the clock of the mode that it starts in was not found


def peak(name: str, precision: Precision, label: str | None = None) -> float:
    """Tera-operations a second in a mode, or in the default one."""
    gpu = TARGETS[name].gpu
    assert gpu is not None
    mode = gpu.default if label is None else next(each for each in gpu.modes if each.label == label)
    assert mode is not None
    found = gpu.peak(mode, precision)
    assert found is not None
    return found / 1e12


@pytest.mark.parametrize(
    ("name", "mode", "precision", "expected"),
    [
        ("jetson-orin-nano-4gb", "super MAXN_SUPER", "fp16", 8.4),
        ("jetson-orin-nano-8gb", None, "fp16", 10.2),
        ("jetson-orin-nano-8gb", "super 25W", "fp16", 15.0),
        ("jetson-orin-nano-8gb", "super MAXN_SUPER", "fp16", 16.7),
        ("jetson-orin-nano-8gb", "super MAXN_SUPER", "int8", 33.4),
        ("jetson-orin-nx-8gb", "MAXN", "fp16", 12.5),
        ("jetson-orin-nx-16gb", "15W", "fp16", 5.0),
        ("jetson-orin-nx-16gb", "25W", "fp16", 6.7),
        ("jetson-orin-nx-16gb", "MAXN", "int8", 30.1),
        ("jetson-agx-orin-32gb", "MAXN", "int8", 53.3),
        ("jetson-agx-orin-64gb", "MAXN", "fp16", 42.6),
        ("jetson-agx-orin-64gb", "MAXN", "int8", 85.3),
        ("jetson-agx-orin-64gb", None, "fp16", 10.0),
        ("jetson-thor", "MAXN", "fp8", 515),
        ("rtx-3060", None, "fp16", 25.5),
        ("rtx-4060", None, "int8", 120.9),
        ("rtx-4070", None, "fp8", 116.6),
        ("rtx-4090", None, "fp16", 165),
        ("rtx-4090", None, "int8", 661),
        ("rtx-5090", None, "fp8", 419),
        ("h100", None, "fp16", 989),
        ("h100-pcie", None, "fp16", 756),
        ("h200", None, "int8", 1979),
    ],
)
def test_the_formula_gives_the_published_peaks(
    name: str, mode: str | None, precision: Precision, expected: float
) -> None:
    assert peak(name, precision, mode) == pytest.approx(expected, rel=0.01)


def test_a_mode_is_not_its_label() -> None:
    """An AGX Orin starts at 24 % of MAXN; an Orin NX in 25W has a lower clock than in 15W."""
    assert peak("jetson-agx-orin-64gb", "fp16") / peak("jetson-agx-orin-64gb", "fp16", "MAXN") < 0.25
    modes = {mode.label: mode for mode in TARGETS["jetson-orin-nx-16gb"].gpu.modes}
    assert modes["25W"].mhz < modes["15W"].mhz and modes["25W"].sms == 2 * modes["15W"].sms


@pytest.mark.parametrize("name", BOARDS)
def test_every_number_of_a_board_has_a_source(name: str) -> None:
    target, gpu = TARGETS[name], TARGETS[name].gpu
    assert {"gpu.found_by", "gpu.ops", "gpu.modes", "budget"} <= set(target.sources)
    assert ("gpu.memory_mb" in target.sources) == (gpu.memory_mb is not None)
    assert ("releases" in target.sources) == bool(target.releases)
    assert "Nobody has run flowpose" in target.note and target.budget.latency_ms_p95 == 33.3
    assert all(len(text) > 10 for text in target.sources.values())


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_compute_in_all_of_its_precisions(name: str) -> None:
    target, gpu = TARGETS[name], TARGETS[name].gpu
    assert set(target.precisions) == set(gpu.ops)
    assert ("fp8" in gpu.ops) == (float(gpu.sm) >= 8.9)
    assert (target.arch == "aarch64") == gpu.unified == name.startswith("jetson")
    assert (gpu.default is None) == (name in WITHOUT_DEFAULT)
    assert gpu.best in gpu.modes and all(mode.bandwidth <= gpu.best.bandwidth for mode in gpu.modes)


def test_no_two_targets_are_found_by_the_same_name() -> None:
    names = [name for each in BOARDS for name in TARGETS[each].gpu.found_by]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"p\d{4}-\d{4}|NVIDIA .+", name) for name in names)


def test_what_was_not_found_is_left_out() -> None:
    thor = TARGETS["jetson-thor"]
    assert "int8" not in thor.precisions and "int8" not in thor.gpu.ops
    assert TARGETS["cpu-arm64"].cpu is None


def test_the_cpu_target_has_peaks_of_one_thread_and_their_source() -> None:
    cpu = TARGETS["cpu"].cpu
    assert cpu is not None and set(cpu.peaks) == {"fp32", "int8"} and "cpu" in TARGETS["cpu"].sources
    assert 2 < cpu.peaks["int8"] / cpu.peaks["fp32"] < 8


def board(**changes: object) -> dict[str, object]:
    mode = {"name": "boost", "sms": 8, "mhz": 1000, "bandwidth": 100, "default": True}
    gpu = {"sm": "8.9", "found_by": ["A GPU"], "ops": {"fp16": 1024}, "modes": [mode], **changes}
    about = {"format": 1, "name": "board", "backends": ["tensorrt"], "precisions": ["fp16"]}
    return {**about, "gpu": gpu, "sources": {"gpu": "a data sheet"}}


MODE = {"name": "a", "sms": 1, "mhz": 1, "bandwidth": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (board(modes=[MODE, MODE]), "modes need names of their own and at most one default"),
        (board(modes=[{**MODE, "default": True}, {**MODE, "conf": "super", "default": True}]), "at most one default"),
        (board(modes=[]), "too few values (0)"),
        ({**board(), "sources": {}}, "numbers without sources"),
        (
            {**board(), "cpu": {"peaks": {"fp32": 1e9}, "bandwidth": 1}},
            "gpu and cpu both given, expected the one that graphs run on",
        ),
    ],
)  # fmt: skip
def test_each_mistake_of_a_board_is_told(data: dict[str, object], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        Target.parse(data, "target")
    assert expected in str(caught.value)
