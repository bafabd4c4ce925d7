"""What the onnxruntime backends for GPUs ask of their providers; no GPU is needed to ask."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from flowpose.device.kernels import check
from flowpose.errors import BackendError
from flowpose.runtime import cuda_driver
from flowpose.runtime import onnxruntime as ort


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ort.Options]:
    """The options of the first provider of every graph that is opened, in an onnxruntime with every provider."""
    found: list[ort.Options] = []
    monkeypatch.setenv(ort.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: [ort.TENSORRT, ort.CUDA, ort.CPU])
    monkeypatch.setattr(
        ort, "BoundGraph", lambda path, threads, providers, device: found.append(providers[0][1])
    )
    return found


def test_engines_of_other_graphs_are_kept_apart_whatever_the_files_are_called(
    asked: list[ort.Options], tmp_path: Path
) -> None:
    for model, weights in (("a", b"one"), ("b", b"two DequantizeLinear"), ("c", b"one")):
        (tmp_path / model).mkdir()
        (tmp_path / model / "frame.int8.onnx").write_bytes(weights)
        ort.OnnxRuntimeTensorRt().open(tmp_path / model / "frame.int8.onnx", 1)
    first, other, same = (each["trt_engine_cache_path"] for each in asked)
    assert first != other and first == same and Path(first).is_dir() and Path(other).is_dir()
    assert [each["trt_int8_enable"] for each in asked] == ["0", "1", "0"]
    (shared,) = {each["trt_timing_cache_path"] for each in asked}
    assert Path(shared) == tmp_path / "cache" / "onnxruntime-tensorrt"


class Driver:
    """libcuda of a machine with one GPU; `code` is what cuInit returns."""

    numbers = {16: 132, 75: 9, 76: 0}  # cuda.h: MULTIPROCESSOR_COUNT, COMPUTE_CAPABILITY_MAJOR and MINOR

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDeviceGet(self, gpu: Any, ordinal: int) -> int:
        gpu._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: Any, size: int, gpu: ctypes.c_int) -> int:
        name.value = b"NVIDIA H200"[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, found: Any, attribute: int, gpu: ctypes.c_int) -> int:
        found._obj.value = self.numbers[attribute]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12080
        return 0

    def cuGetErrorName(self, code: int, name: Any) -> int:
        name._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


@pytest.mark.parametrize("backend", [ort.OnnxRuntimeCuda, ort.OnnxRuntimeTensorRt])
def test_they_know_the_gpu_that_they_run_on(
    asked: list[ort.Options], backend: type[ort.OnnxRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setattr(cuda_driver, "driver_identity", lambda: {"driver": "570.1"})
    expected = {"gpu": "NVIDIA H200", "sm": "9.0", "sms": "132", "cuda": "12.8", "driver": "570.1"}
    assert backend().identity() == expected and ort.OnnxRuntime().identity() == {}


def test_a_library_without_its_gpu_is_an_error(
    asked: list[ort.Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda name: Driver(code=100))
    with pytest.raises(BackendError, match="cuInit failed, got CUDA_ERROR_NO_DEVICE"):
        ort.OnnxRuntimeCuda().identity()


def test_doctor_names_a_missing_driver(asked: list[ort.Options], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libflowpose-has-no-such-library.so")
    found = check("onnxruntime-cuda")
    assert (
        found.ok is False and "no driver of NVIDIA (libflowpose" in found.text and "nvidia-smi" in found.text
    )
