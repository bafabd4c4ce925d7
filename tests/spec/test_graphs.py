"""Which graph a backend is given: what was made for it, what was built, and where a source stays in fp32 or fp16."""

from __future__ import annotations

import pytest

from flowpose.spec.graphs import graph_for
from flowpose.spec.manifest import GraphSpec, TensorSpec

PORT = (TensorSpec(name="x", dtype="f32", shape=(1,)),)


def graph(name: str, precision: str, backend: str | None, file: str) -> GraphSpec:
    return GraphSpec(name=name, precision=precision, backend=backend, file=file, inputs=PORT, outputs=PORT)


EXPORTED = (
    graph("source", "fp32", None, "source.onnx"),
    graph("frame", "fp32", None, "frame.fp32.onnx"),
    graph("frame", "int8", None, "frame.int8.onnx"),
    graph("frame", "int8", "onnxruntime", "frame.int8.onnxruntime.onnx"),
)
HALVED = (
    *EXPORTED,
    graph("source", "fp16", None, "source.fp16.onnx"),
    graph("source", "fp16", "tensorrt", "source.fp16.onnx"),
    graph("frame", "int8", "tensorrt", "frame.int8.gpu.onnx"),
)
ENGINE = (
    *HALVED,
    graph("source", "fp16", "tensorrt", "source.engine"),
    graph("frame", "int8", "tensorrt", "frame.engine"),
)
CASES = [
    (EXPORTED, "frame", "int8", "openvino", "frame.int8.onnx"),
    (EXPORTED, "frame", "int8", "onnxruntime", "frame.int8.onnxruntime.onnx"),
    (EXPORTED, "source", "int8", "onnxruntime", "source.onnx"),
    (HALVED, "source", "int8", "openvino", "source.onnx"),
    (HALVED, "source", "fp16", "openvino", "source.fp16.onnx"),
    (HALVED, "source", "int8", "tensorrt", "source.fp16.onnx"),
    (HALVED, "source", "fp32", "tensorrt", "source.onnx"),
    (HALVED, "frame", "int8", "tensorrt", "frame.int8.gpu.onnx"),
    (ENGINE, "frame", "int8", "tensorrt", "frame.engine"),
    (ENGINE, "source", "int8", "tensorrt", "source.engine"),
    (ENGINE, "frame", "int8", "openvino", "frame.int8.onnx"),
]


@pytest.mark.parametrize(("graphs", "name", "precision", "backend", "file"), CASES)
def test_the_graph_that_a_backend_is_given(
    graphs, name: str, precision: str, backend: str, file: str
) -> None:
    found = graph_for(graphs, name, precision, backend)
    assert found is not None and found.file == file


def test_a_frame_stays_in_no_other_precision() -> None:
    assert graph_for(EXPORTED, "frame", "fp16", "tensorrt") is None
    assert graph_for(HALVED[-1:], "frame", "int8", "onnxruntime") is None
