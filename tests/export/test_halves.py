"""FP16 graphs for GPUs, beside those of a graph that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from micro_line import Line
from onnx import TensorProto, helper, numpy_helper

from flowpose.artifact import Artifact, open_artifact
from flowpose.errors import ArtifactError
from flowpose.export.halves import GPU, widened, with_halves
from flowpose.export.tensorrt_rules import findings
from flowpose.runtime import load
from flowpose.runtime.loading import onnx_graph
from flowpose.spec.costs import COSTS, Costs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("halves")


@pytest.fixture(scope="module")
def graph(line: Line) -> Artifact:
    (path,) = line.root.glob("*/export-*")
    return open_artifact(path)


@pytest.fixture(scope="module")
def made(root: Path, graph: Artifact) -> Artifact:
    return with_halves(graph, root)


def test_fp16_stands_beside_what_was_there(graph: Artifact, made: Artifact, root: Path) -> None:
    assert {(g.name, g.precision, g.backend) for g in made.manifest.graphs} >= {
        *((g.name, g.precision, g.backend) for g in graph.manifest.graphs),
        ("source", "fp16", None), ("frame", "fp16", None),
    }  # fmt: skip
    assert not made.manifest.references and made.manifest.history[-1].key == graph.manifest.key
    assert with_halves(graph, root).path == made.path
    counted = Costs.model_validate_json(made.file(COSTS).read_bytes())
    assert counted.of("frame.fp16.onnx", "costs").width == 2


def test_both_precisions_run_and_give_their_goldens(made: Artifact) -> None:
    for precision in ("fp32", "fp16"):
        assert load(made.path, backend="onnxruntime", precision=precision, threads=1).verify().n == 2


def test_graphs_for_gpus_compute_in_halves_and_please_tensorrt(made: Artifact) -> None:
    for part in ("source", "frame"):
        model = onnx.load(made.file(onnx_graph(made, part, "fp16", "tensorrt").file))
        shaped = onnx.shape_inference.infer_shapes(model)
        kinds = [value.type.tensor_type.elem_type for value in shaped.graph.value_info]
        assert kinds.count(TensorProto.FLOAT16) > kinds.count(TensorProto.FLOAT)
        assert not findings(model, "10.3")


def test_int8_for_gpus_keeps_its_rest_in_halves(made: Artifact) -> None:
    for name in GPU:
        assert onnx_graph(made, "frame", "int8", name).file == "frame.int8.gpu.onnx"
        assert onnx_graph(made, "source", "int8", name).file == "source.fp16.onnx"
    assert onnx_graph(made, "frame", "int8", "openvino").file == "frame.int8.onnx"
    assert onnx_graph(made, "source", "int8", "openvino").file == "source.onnx"


def test_what_has_fp16_is_refused(made: Artifact, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"fp16 cannot be added, got graph with fp16.*expected a graph with fp32"
    ):
        with_halves(open_artifact(made.path), tmp_path)


def test_stored_weights_are_made_wide_and_nothing_else_changes() -> None:
    codes, scale = np.array([[3, -7]], np.int8), np.array([[0.5, 0.25]], np.float32)
    nodes = [
        helper.make_node("Cast", ["w.codes"], ["w.wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["w.wide", "w.scale"], ["w"]),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [value("x", TensorProto.FLOAT, (1, 2))], [value("y", TensorProto.FLOAT, (1, 2))],
            [numpy_helper.from_array(codes, "w.codes"), numpy_helper.from_array(scale, "w.scale")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    wide = widened(model)
    assert [node.op_type for node in wide.graph.node] == ["Mul"]
    (held,) = wide.graph.initializer
    assert held.name == "w" and np.array_equal(numpy_helper.to_array(held), codes * scale)
