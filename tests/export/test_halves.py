"""FP16 graphs for GPUs, beside those of a graph that has none."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from micro_line import Line
from onnx import TensorProto, helper, numpy_helper

from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.errors import ArtifactError, MissingDependency
from flowpose.export import halves
from flowpose.export.autocast import in_order, with_fp16
from flowpose.export.halves import GPU, widened, with_halves
from flowpose.export.tensorrt_rules import findings
from flowpose.runtime import load
from flowpose.runtime.goldens import read_goldens
from flowpose.runtime.loading import onnx_graph
from flowpose.runtime.onnxruntime import OnnxRuntime
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


@pytest.fixture(scope="module")
def int8_alone(graph: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The graph artifact as people-256 is shipped: without an fp32 frame, and no golden frames of one."""
    manifest, path = graph.manifest, tmp_path_factory.mktemp("int8") / "export-int8"
    kept = [each for each in manifest.graphs if each.name == "source" or each.precision == "int8"]
    left = {"files", "self_sha256", "references", "graphs", "key"}
    with creating(path, **manifest.model_dump(exclude=left), graphs=kept, key="8" * 64) as draft:
        for file in {each.file for each in kept} | {manifest.golden.inputs}:
            (draft / file).write_bytes(graph.file(file).read_bytes())
        with np.load(graph.file(manifest.golden.outputs)) as held:
            np.savez(draft / manifest.golden.outputs, context=held["context"], int8=held["int8"])
    return open_artifact(path)


def test_int8_alone_gets_graphs_for_gpus_and_no_fp16_frame(int8_alone: Artifact, tmp_path: Path) -> None:
    made = with_halves(int8_alone, tmp_path)
    added = made.manifest.graphs[len(int8_alone.manifest.graphs) :]
    assert {(each.name, each.precision, each.backend) for each in added} == {
        *(("source", "fp16", name) for name in GPU), *(("frame", "int8", name) for name in GPU),
    }  # fmt: skip
    for name in GPU:
        assert onnx_graph(made, "frame", "int8", name).file == "frame.int8.gpu.onnx"
        assert onnx_graph(made, "source", "int8", name).file == "source.fp16.onnx"
    assert load(made.path, backend="onnxruntime", threads=1).verify().n == 2
    goldens, opened = read_goldens(made, "int8"), OnnxRuntime().open(made.file("source.fp16.onnx"), 1)
    for picture, context in zip(goldens.source, goldens.context, strict=True):
        off = opened.run({"source": picture})["context"] - context
        assert np.linalg.norm(off) < 0.01 * np.linalg.norm(context)
    with pytest.raises(ArtifactError, match=r"fp16 cannot be added, got graph with fp16, fp32, int8"):
        with_halves(made, tmp_path)


def test_what_has_fp16_is_refused(made: Artifact, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"fp16 cannot be added, got graph with fp16.*expected a graph with an fp32 or int8",
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


# Reproducible: the same bytes whatever the hashes of names are in a process

PLACES = 6
SEED = 1 if os.environ.get("PYTHONHASHSEED") != "1" else 2  # another one than this process's
CONVERT = """
import sys
import numpy as np, onnx
from flowpose.export.autocast import with_fp16
made = with_fp16(onnx.load(sys.argv[1]), dict(np.load(sys.argv[2])))
open(sys.argv[3], "wb").write(made.SerializeToString(deterministic=True))
"""
HALVES = """
import sys
from flowpose.artifact import open_artifact
from flowpose.export.halves import with_halves
with_halves(open_artifact(sys.argv[1]), sys.argv[2])
"""


def with_seed(seed: int, code: str, *arguments: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def finished(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


def sampling() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Pictures that are brightened (fp16), sampled (fp32), scaled and joined: casts at every border."""
    rng, node, value = np.random.default_rng(0), helper.make_node, helper.make_tensor_value_info
    nodes, constants, example = [], [], {}
    for i in range(PLACES):
        nodes += [
            node("Add", [f"x{i}", f"b{i}"], [f"a{i}"], name=f"add{i}"),
            node("GridSample", [f"a{i}", "grid"], [f"s{i}"], name=f"sample{i}"),
            node("Mul", [f"s{i}", f"b{i}"], [f"m{i}"], name=f"mul{i}"),
        ]
        constants.append(numpy_helper.from_array(rng.normal(size=(1, 3, 1, 1)).astype(np.float32), f"b{i}"))
        example[f"x{i}"] = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
    example["grid"] = rng.uniform(-1, 1, (1, 4, 4, 2)).astype(np.float32)
    nodes.append(node("Concat", [f"m{i}" for i in range(PLACES)], ["y"], name="join", axis=1))
    inputs = [value(name, TensorProto.FLOAT, array.shape) for name, array in example.items()]
    outputs = [value("y", TensorProto.FLOAT, (1, 3 * PLACES, 4, 4))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), example


def test_fp16_graphs_are_the_same_bytes_under_every_hash_seed(tmp_path: Path) -> None:
    model, example = sampling()
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "example.npz", **example)
    given = (tmp_path / "model.onnx", tmp_path / "example.npz")
    child = with_seed(SEED, CONVERT, *given, tmp_path / "made.onnx")
    here = with_fp16(onnx.load(given[0]), dict(np.load(given[1])))
    finished(child)
    assert (tmp_path / "made.onnx").read_bytes() == here.SerializeToString(deterministic=True)
    halved = onnx.load(tmp_path / "made.onnx")
    onnx.checker.check_model(halved, full_check=True)
    assert [node.op_type for node in halved.graph.node].count("Cast") > PLACES


@pytest.mark.slow
def test_the_artifact_is_the_same_bytes_under_another_hash_seed(
    made: Artifact, graph: Artifact, tmp_path: Path
) -> None:
    finished(with_seed(SEED, HALVES, graph.path, tmp_path))
    (again,) = tmp_path.glob("*/halves-*")
    assert again.name == made.path.name
    assert {name: made.file(name).read_bytes() for name in made.manifest.files} == {
        name: (again / name).read_bytes() for name in open_artifact(again).manifest.files
    }
    assert (again / "manifest.json").read_bytes() == (made.path / "manifest.json").read_bytes()


def test_any_order_of_nodes_becomes_the_same_one() -> None:
    model, _ = sampling()
    model.graph.node.append(helper.make_node("Neg", ["grid"], ["unused"], name="unused"))
    shaped = onnx.shape_inference.infer_shapes(model)
    expected = in_order(onnx.ModelProto.FromString(shaped.SerializeToString()))
    onnx.checker.check_model(expected, full_check=True)
    names = [node.name for node in expected.graph.node]
    assert names == [f"{what}{i}" for i in range(PLACES) for what in ("add", "sample", "mul")] + [
        "join",
        "unused",
    ]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for field in (shaped.graph.node, shaped.graph.initializer, shaped.graph.value_info):
            values = [field[i] for i in rng.permutation(len(field))]
            del field[:]
            field.extend(values)
        assert in_order(shaped).SerializeToString() == expected.SerializeToString()


def test_the_key_and_the_manifest_name_what_made_the_halves(
    made: Artifact, graph: Artifact, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.manifest.built_with["nvidia-modelopt"] == metadata.version("nvidia-modelopt")
    monkeypatch.setattr(halves, "_tools", lambda: {"onnx": onnx.__version__, "nvidia-modelopt": "0.0"})
    monkeypatch.setattr(halves, "creating", lambda path, **_: pytest.fail(str(path)))
    with pytest.raises(pytest.fail.Exception, match="halves-") as other:
        with_halves(graph, root)
    assert made.path.name not in str(other.value)


def test_without_modelopt_it_is_named(
    graph: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(halves.metadata, "version", missing)
    with pytest.raises(
        MissingDependency, match=r"needs the package nvidia-modelopt\. Fix: pip install flowpose"
    ):
        with_halves(graph, tmp_path)
