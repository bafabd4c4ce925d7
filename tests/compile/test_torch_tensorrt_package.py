"""What builds for torch-tensorrt where neither it nor a GPU is there: its settings, and failures of torch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flowpose.compile.building import Options
from flowpose.errors import BackendError

RUNTIME, PACKAGE = "flowpose.runtime.torch_tensorrt", "flowpose.compile.torch_tensorrt_package"
GPU = {"gpu": "NVIDIA H200", "sm": "9.0", "sms": "132", "cuda": "12.8", "driver": "570.124.06"}


def refuse(*given: Any, **options: Any) -> None:
    raise RuntimeError("no converter for aten::odd")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that builds, on stand-ins for both libraries and a GPU."""
    trt = ModuleType("torch_tensorrt")
    trt.__version__, trt.dynamo = "2.14.0", SimpleNamespace(compile=refuse)  # type: ignore[attr-defined]
    for name, module in (("tensorrt", ModuleType("tensorrt")), ("torch_tensorrt", trt)):
        monkeypatch.setitem(sys.modules, name, module)
    for name in (RUNTIME, PACKAGE):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import flowpose.compile.torch_tensorrt_package as found
    import flowpose.runtime.torch_tensorrt as runtime

    monkeypatch.setattr(runtime, "gpu_identity", lambda: dict(GPU))
    yield found
    for name in (RUNTIME, PACKAGE):
        sys.modules.pop(name, None)


def stand_in(to: Any) -> Any:
    """A module that has no inputs, and that goes to the GPU as told."""
    return lambda *given, **options: SimpleNamespace(inputs=(), outputs=(), to=to)


def test_the_timing_cache_is_of_this_machine(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowpose.compile.building.machine_identity", lambda: {"power_mode": "2"})
    seen: dict[str, Any] = {}
    monkeypatch.setattr(package, "build_program", lambda graph, out, **options: seen.update(options))
    package.build(tmp_path / "g", tmp_path / "o", "fp32", Options(threads=1, cache=tmp_path, logs=tmp_path))
    assert Path(seen["settings"]["timing_cache_path"]) == tmp_path / (
        f"timing-power_mode2-torch{torch.__version__}-torch_tensorrt2.14.0-gpuNVIDIA_H200-sm9.0-sms132-cuda12.8"
        "-driver570.124.06.cache"
    )


def test_a_graph_that_torch_cannot_make_is_typed(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "torch_module", refuse)
    with pytest.raises(BackendError, match=r"Torch-TensorRT cannot build the graph \(no converter"):
        package.build_program(tmp_path / "frame.onnx", tmp_path / "frame.ep")


def test_a_gpu_without_room_is_typed(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to(device: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(package, "torch_module", stand_in(to))
    with pytest.raises(BackendError, match="CUDA out of memory"):
        package.build_program(tmp_path / "frame.onnx", tmp_path / "frame.ep")


def test_what_the_compiler_refuses_is_typed(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to(device: str) -> Any:
        return stand_in(to)()

    monkeypatch.setattr(package, "torch_module", stand_in(to))
    monkeypatch.setattr(package, "exported", lambda module, device: None)
    with pytest.raises(BackendError, match="no converter for aten::odd"):
        package.build_program(tmp_path / "frame.onnx", tmp_path / "frame.ep")
