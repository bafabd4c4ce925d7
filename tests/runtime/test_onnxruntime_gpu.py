"""What the onnxruntime backends for GPUs ask of their providers; no GPU is needed to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

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
