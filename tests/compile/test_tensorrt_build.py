"""Engines built by a fake TensorRT: what the builder is told, what it is refused for, and what is left on the disk."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import onnx
import pytest
from fake_tensorrt import installed
from fake_tensorrt import tensorrt as trt
from fake_tensorrt.machine import Machine
from onnx import TensorProto, helper
from tiny_graphs import save_frame

from flowpose.errors import BackendError, DeviceError

MB = 1024  # kB, the unit of /proc/meminfo


@pytest.fixture
def machine() -> Iterator[Machine]:
    with installed() as found:
        yield found


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    save_frame(tmp_path / "frame.onnx")
    return tmp_path / "frame.onnx"


def build(graph: Path, say: Any = lambda text: None, **plan: Any) -> Any:
    from flowpose.compile.tensorrt_build import Plan, build_engine

    return build_engine(graph, graph.with_suffix(".engine"), Plan(**plan), say)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_engine_is_built_as_planned(machine: Machine, graph: Path) -> None:
    said: list[str] = []
    built = build(graph, said.append, workspace_mb=300, optimization_level=4)
    assert built.engine == graph.with_suffix(".engine") and built.workspace_mb == 300
    assert built.engine.stat().st_size == round(built.size_mb * 2**20) and built.seconds >= 0
    (config,) = machine.configs
    assert config.pools == {trt.MemoryPoolType.WORKSPACE: 300 << 20}
    assert config.builder_optimization_level == 4 and config.flags == set()
    assert config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED
    assert said == ["frame.onnx for Orin, 8 multiprocessors: workspace 300 MB"]
    assert left(graph.parent) == {"frame.onnx", "frame.engine"}


def test_tf32_and_names_alone_if_asked(machine: Machine, graph: Path) -> None:
    build(graph, tf32=True, details=False)
    (config,) = machine.configs
    assert config.flags == {trt.BuilderFlag.TF32}
    assert config.profiling_verbosity is trt.ProfilingVerbosity.LAYER_NAMES_ONLY


@pytest.mark.parametrize(("names", "flags"), [({"STRONGLY_TYPED": 0}, 1), ({"OTHER": 0}, 0)])
def test_a_network_is_strongly_typed_in_11_too(
    machine: Machine, graph: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, int], flags: int
) -> None:
    """The flag's number is 0 in 11.4; a release that knows no other networks may drop it."""
    kind = type("Flag", (trt.Numbered,), {}) if not names else Enum("Flag", names, type=trt.Numbered)
    monkeypatch.setattr(trt, "NetworkDefinitionCreationFlag", kind)
    given: list[int] = []
    create = trt.Builder.create_network
    monkeypatch.setattr(
        trt.Builder, "create_network", lambda self, flags=0: given.append(flags) or create(self, flags)
    )
    build(graph)
    assert given == [flags]


def test_the_log_is_kept_with_times(machine: Machine, graph: Path) -> None:
    log = graph.parent / "logs" / "build.log"
    build(graph, log=log)
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} (INFO|VERBOSE) +building$", line) for line in lines
    )


def test_a_failed_build_names_the_reason_and_the_log(machine: Machine, graph: Path) -> None:
    machine.faults["build"] = "Could not find any implementation for node conv"
    log = graph.parent / "build.log"
    with pytest.raises(BackendError, match=r"builds no engine \(Could not find any implementation") as error:
        build(graph, log=log)
    assert error.value.fix == f"read {log}" and "ERROR          Could not find" in log.read_text()
    assert left(graph.parent) == {"frame.onnx", "build.log"}
    with pytest.raises(BackendError) as error:
        build(graph)
    assert error.value.fix == "build with Plan(log=FILE) and read it"


def test_what_the_parser_refuses_is_listed(machine: Machine, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Blur", ["given"], ["mid"], name="/blur", domain="mine"),
        helper.make_node("Glow", ["mid"], ["made"], domain="mine"),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3,)) for name in ("given", "made")]
    model = helper.make_model(helper.make_graph(nodes, "odd", tensors[:1], tensors[1:]))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(BackendError) as error:
        build(tmp_path / "odd.onnx")
    assert "/blur (Blur): No importer registered for op\n  node 1 (Glow): No importer" in str(error.value)
    with pytest.raises(BackendError, match="does not take the graph\n  Could not open file"):
        build(tmp_path / "none.onnx")


@pytest.mark.parametrize("fault", ["library", "cudaMemGetInfo"])
def test_no_gpu_is_told_before_anything_is_made(machine: Machine, graph: Path, fault: str) -> None:
    machine.faults[fault] = "cudaErrorNoDevice"
    with pytest.raises(BackendError, match="cudaErrorNoDevice"):
        build(graph)
    assert left(graph.parent) == {"frame.onnx"}


def test_an_old_tensorrt_is_refused(machine: Machine, graph: Path) -> None:
    sys.modules["tensorrt"].__version__ = "10.2.0"
    with pytest.raises(BackendError, match=r"too old, got 10\.2\.0"):
        build(graph)


def test_a_timing_cache_spares_the_second_build(machine: Machine, graph: Path) -> None:
    cache, said = graph.parent / "caches" / "timing.cache", list[str]()
    build(graph, said.append, timing_cache=cache)
    first = len(machine.timed)
    build(graph, said.append, timing_cache=cache)
    assert first == 11 and len(machine.timed) == first and len(said) == 2
    assert left(cache.parent) == {cache.name}


NVIDIA = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n"


@pytest.mark.parametrize(
    ("status", "driver", "name"),
    [
        (None, None, "timing-tensorrt10.3.0-gpuOrin-sm8.7-sms8-cuda12.6.cache"),
        (
            "pmode:0002 fmode:quiet",
            None,
            "timing-power_mode2-tensorrt10.3.0-gpuOrin-sm8.7-sms8-cuda12.6.cache",
        ),
        (
            "pmode:0000",
            NVIDIA,
            "timing-power_mode0-tensorrt10.3.0-gpuOrin-sm8.7-sms8-cuda12.6-driver540.4.0.cache",
        ),
    ],
)
def test_a_timing_cache_is_named_after_all_that_it_depends_on(
    machine: Machine, tmp_path: Path, status: str | None, driver: str | None, name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from flowpose.compile.building import timing_cache_name
    from flowpose.runtime.tensorrt import TensorRt

    for constant, text in {"POWER_MODE": status, "DRIVER": driver}.items():
        monkeypatch.setattr(f"flowpose.runtime.machine.{constant}", tmp_path / constant)
        if text is not None:
            (tmp_path / constant).write_text(text)
    assert timing_cache_name(TensorRt()) == name
    machine.name = "NVIDIA RTX 4000 SFF/Ada"
    assert "-gpuNVIDIA_RTX_4000_SFF_Ada-" in timing_cache_name(TensorRt())


@pytest.mark.usefixtures("machine")
def test_what_compile_calls_keeps_cache_and_log_in_its_folders(graph: Path) -> None:
    from flowpose.compile.building import Options
    from flowpose.compile.tensorrt_build import build

    folder = graph.parent
    options = Options(threads=1, cache=folder / "cache", logs=folder / "logs", workspace_mb=300)
    build(graph, folder / "frame.engine", "fp32", options, lambda text: None)
    assert left(folder / "logs") == {"frame.engine.log"}
    from flowpose.compile.building import timing_cache_name
    from flowpose.runtime.tensorrt import TensorRt

    assert left(folder / "cache") == {timing_cache_name(TensorRt())}


@pytest.mark.parametrize("damage", ["other", "corrupt"])
def test_a_timing_cache_that_does_not_fit_is_told_and_replaced(
    machine: Machine, graph: Path, damage: str
) -> None:
    cache, said = graph.parent / "timing.cache", list[str]()
    build(graph, timing_cache=cache)
    machine.timed.clear()
    if damage == "other":
        machine.sms = 4  # the same board in another power mode
    else:
        cache.write_bytes(b"\0\1\2")
    build(graph, said.append, timing_cache=cache)
    assert len(machine.timed) == 11
    (notice,) = said[1:]
    assert "is of another device or TensorRT and is replaced" in notice and "the timing cache is" in notice
    machine.timed.clear()
    build(graph, said.append, timing_cache=cache)
    assert not machine.timed and len(said) == 3


def test_a_cache_that_is_not_taken_is_an_error(machine: Machine, graph: Path) -> None:
    machine.faults["cache"] = "refused"
    with pytest.raises(BackendError, match="takes no timing cache"):
        build(graph, timing_cache=graph.parent / "timing.cache")


def test_an_engine_that_cannot_be_written_leaves_nothing(machine: Machine, graph: Path) -> None:
    graph.with_suffix(".engine").mkdir()
    with pytest.raises(BackendError, match="cannot be written"):
        build(graph)
    assert left(graph.parent) == {"frame.onnx", "frame.engine"}


@pytest.fixture
def impatient(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of progress without waiting ten seconds."""
    import flowpose.compile.tensorrt_build as building
    import flowpose.compile.tensorrt_progress as progress

    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(building, "EVERY", 0.01)


@pytest.mark.usefixtures("impatient")
def test_progress_is_lines_where_there_is_no_terminal(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(graph)
    lines = capsys.readouterr().err.splitlines()
    assert "building frame.engine  Building Engine 0/1, Computing profile costs 3/11  0 s" in lines


@pytest.mark.usefixtures("machine")
def test_lines_come_every_ten_seconds_only(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(graph)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("machine")
def test_progress_is_bars_on_a_terminal(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    build(graph)
    assert "building frame.engine" in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_ends_the_build_at_its_next_step(
    machine: Machine, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the main thread hears it: while it waits."""
    import threading

    import flowpose.compile.tensorrt_build as building

    waiting, cancelled = threading.Event(), threading.Event()
    cancel = building.Monitor.cancel
    monkeypatch.setattr(building.Monitor, "cancel", lambda self: (cancel(self), cancelled.set()))

    def interrupted(futures: Any, timeout: float) -> Any:
        waiting.wait(5)
        raise KeyboardInterrupt

    steps: list[int] = []

    def step() -> None:
        steps.append(1)
        waiting.set()
        assert cancelled.wait(5)

    monkeypatch.setattr(building, "wait", interrupted)
    machine.during_build = step
    with pytest.raises(KeyboardInterrupt):
        build(graph, timing_cache=graph.parent / "timing.cache")
    assert steps == [1] and left(graph.parent) == {"frame.onnx"}


def memory(folder: Path, ram: int, swap: int) -> Path:
    """A /proc/meminfo with so many MB free."""
    path = folder / "meminfo"
    rows = {"MemTotal": 7_600 * MB, "MemFree": 90 * MB, "MemAvailable": ram * MB, "SwapFree": swap * MB}
    path.write_text("".join(f"{name}: {value} kB\n" for name, value in rows.items()) + "HugePages_Total: 0\n")
    return path


@pytest.mark.parametrize(
    ("total", "ram", "swap", "expected"),
    [
        (3_900, 2_600, 0, 256),  # a 4 GB board without its desktop
        (3_900, 2_200, 0, 88),  # less free than it may have
        (3_900, 1_500, 4_000, 256),  # what the builder holds goes to the swap
        (7_600, 5_000, 0, 1_024),
        (64_000, 50_000, 0, 4_096),
    ],
)
def test_the_workspace_fits_the_board(
    machine: Machine, tmp_path: Path, total: int, ram: int, swap: int, expected: int
) -> None:
    from flowpose.compile.tensorrt_memory import free_memory, workspace
    from flowpose.runtime.cuda import gpu

    machine.integrated, machine.total_mb, machine.free_mb = True, total, 90
    assert workspace(None, gpu(), free_memory(memory(tmp_path, ram, swap))) == expected


@pytest.mark.parametrize(
    ("ram", "swap", "asked", "said"),
    [
        (1_200, 0, None, "not enough free memory to build, got 1200 MB and 0 MB of swap, expected 1800 MB"),
        (2_100, 0, None, "workspace of 64 MB, got room for 0 MB"),
        (300, 8_000, None, "workspace of 64 MB, got room for 0 MB"),  # the GPU's part is never swapped
        (2_600, 0, 1_024, "workspace of 1024 MB, got room for 488 MB, expected 1024 MB beside"),
    ],
)
def test_too_little_memory_is_told_before_the_build(
    machine: Machine, tmp_path: Path, ram: int, swap: int, asked: int | None, said: str
) -> None:
    from flowpose.compile.tensorrt_memory import free_memory, workspace
    from flowpose.runtime.cuda import gpu

    machine.integrated, machine.total_mb = True, 7_600
    with pytest.raises(BackendError, match=said) as error:
        workspace(asked, gpu(), free_memory(memory(tmp_path, ram, swap)))
    for advice in ("swap", "desktop", "workspace_mb"):
        assert advice in str(error.value.fix)


def test_a_kernel_that_does_not_tell_the_free_memory_is_an_error(machine: Machine, tmp_path: Path) -> None:
    from flowpose.compile.tensorrt_memory import free_memory

    told = memory(tmp_path, 2_600, 0)
    told.write_text(told.read_text().replace("MemAvailable", "MemUsable"))
    with pytest.raises(DeviceError, match="lacks lines, got MemAvailable"):
        free_memory(told)


def test_a_discrete_gpu_has_memory_of_its_own(machine: Machine, tmp_path: Path) -> None:
    from flowpose.compile.tensorrt_memory import Free, free_memory, workspace
    from flowpose.runtime.cuda import gpu

    machine.total_mb, machine.free_mb = 24_000, 2_000
    assert workspace(None, gpu(), Free(8_000, 0)) == 2_000 - 312
    assert workspace(None, gpu(), free_memory(tmp_path / "none")) == 2_000 - 312
    with pytest.raises(BackendError, match="got room for 1688 MB"):
        workspace(2_000, gpu(), Free(8_000, 0))
