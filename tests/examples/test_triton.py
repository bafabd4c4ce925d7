"""The Triton model repository: read by Triton's own schema, and carried out as its ensemble says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from micro_line import command
from numpy.typing import NDArray
from tiny_graphs import make_artifact, pictures, standing

from flowpose import load
from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.errors import ArtifactError, TargetMismatch
from flowpose.runtime.goldens import read_goldens
from flowpose.spec.find import shipped
from flowpose.triton import CONFIG, RECORD, Serving, Word, rendered, write_repository

NUMPY = {"TYPE_UINT8": np.uint8, "TYPE_FP32": np.float32}


def model_config() -> Any:
    """Triton's ModelConfig message; its package needs grpc, its schema does not."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is not installed: pip install tritonclient")
    file = Path(package.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schema() -> Any:
    return model_config()


def read(folder: Path, schema: Any) -> Any:
    """A model's configuration, which names the folder it lies in."""
    config = text_format.Parse((folder / CONFIG).read_text("utf-8"), schema.ModelConfig())
    assert config.name == folder.name and config.max_batch_size == 0
    assert config.version_policy.latest.num_versions == 1
    return config


def asked(config: Any, schema: Any, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The inputs that a configuration lists, of the types and sizes that it says."""
    for each in config.input:
        value = given[each.name]
        assert NUMPY[schema.DataType.Name(each.data_type)] == value.dtype and tuple(each.dims) == value.shape
    return {each.name: given[each.name] for each in config.input}


Tensors = dict[str, NDArray[Any]]


def served(repository: Path, name: str, schema: Any, given: Tensors) -> Tensors:
    """What Triton makes of a request: an ensemble step by step, any other model by onnxruntime."""
    config = read(repository / name, schema)
    given = asked(config, schema, given)
    if config.platform != "ensemble":
        assert config.backend == "onnxruntime"
        file = repository / name / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [each.name for each in config.output]
        return dict(zip(names, session.run(names, given), strict=True))
    known = dict(given)
    for step in config.ensemble_scheduling.step:
        assert step.model_version == -1
        inputs = {key: known[value] for key, value in step.input_map.items()}
        made = served(repository, step.model_name, schema, inputs)
        known |= {value: made[key] for key, value in step.output_map.items()}
    return {each.name: known[each.name] for each in config.output}


@pytest.fixture
def graph(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "graph")


def test_the_ensemble_draws_what_the_model_draws(graph: Artifact, tmp_path: Path, schema: Any) -> None:
    out = tmp_path / "repository"
    models = write_repository(graph, out, Serving(precision="int8", instances=3, threads=1))
    name = graph.manifest.name
    assert [each.name for each in models] == [f"{name}-source", f"{name}-frame", name]
    model = load(graph.path, backend="onnxruntime", precision="int8", threads=1)
    source, pose = pictures()[2], standing(4.0)
    keypoints = model.keypoints(pose, model.size)
    made = served(out, name, schema, {"source": source, "keypoints": keypoints})["frame"]
    assert made.std() > 0 and np.array_equal(made, model.infer(source, pose))


@pytest.fixture(scope="module")
def people() -> Artifact:
    """A shipped model, whose INT8 graph for onnxruntime has its weights in another file."""
    if "people-128" not in shipped("models"):
        pytest.skip("the model people-128 is not in this checkout")
    return open_artifact(shipped("models")["people-128"])


def test_weights_in_another_file_come_along(people: Artifact, tmp_path: Path, schema: Any) -> None:
    write_repository(people, tmp_path, Serving(precision="int8", threads=1))
    folder = tmp_path / "people-128-frame" / "1"
    assert {each.name for each in folder.iterdir()} == {"model.onnx", "frame.int8.onnx", RECORD}
    assert [each.name for each in (tmp_path / "people-128-source" / "1").glob("*.onnx")] == ["model.onnx"]
    digest = people.manifest.files["frame.int8.onnx"]
    assert json.loads((folder / RECORD).read_text())["weights"] == {"frame.int8.onnx": digest}
    model, goldens = load(people.path, backend="onnxruntime", threads=1), read_goldens(people, "int8")
    given = {"context": goldens.context[0], "keypoints": goldens.keypoints[0]}
    made = served(tmp_path, "people-128-frame", schema, given)["frame"]
    assert np.array_equal(made, model.frame_now(goldens.context[0], goldens.keypoints[0]))


def test_a_gpu_is_given_the_graph_that_all_backends_run(people: Artifact, tmp_path: Path) -> None:
    write_repository(people, tmp_path, Serving(precision="int8", gpu=True))
    folder = tmp_path / "people-128-frame" / "1"
    assert (folder / "model.onnx").read_bytes() == people.file("frame.int8.onnx").read_bytes()
    assert {each.name for each in folder.iterdir()} == {"model.onnx", RECORD}


def test_weights_that_the_artifact_does_not_hold_are_named(people: Artifact, tmp_path: Path) -> None:
    manifest = people.manifest
    graphs = [each for each in manifest.graphs if each.name == "source" or each.backend == "onnxruntime"]
    fields = manifest.model_dump(exclude={"files", "self_sha256", "references", "graphs"})
    with creating(tmp_path / "torn", **fields, graphs=graphs) as draft:
        for file in {each.file for each in graphs} | {*manifest.golden.model_dump().values()}:
            (draft / file).write_bytes(people.file(file).read_bytes())
    with pytest.raises(ArtifactError, match=r"holds no such file, got frame\.int8\.onnx, expected one of"):
        write_repository(open_artifact(tmp_path / "torn"), tmp_path / "r", Serving(precision="int8"))
    assert not (tmp_path / "r").exists()


def test_graphs_run_as_asked_and_source_results_may_be_kept(
    graph: Artifact, tmp_path: Path, schema: Any
) -> None:
    out, name = tmp_path / "repository", graph.manifest.name
    write_repository(graph, out, Serving(precision="int8", instances=3, threads=4))
    source, frame = (read(out / f"{name}-{part}", schema) for part in ("source", "frame"))
    for config in (source, frame):
        (group,) = config.instance_group
        assert (group.count, group.kind) == (3, schema.ModelInstanceGroup.KIND_CPU)
        assert config.parameters["intra_op_thread_count"].string_value == "4"
    assert source.response_cache.enable and not frame.response_cache.enable
    write_repository(graph, tmp_path / "gpu", Serving(gpu=True))
    config = read(tmp_path / "gpu" / f"{name}-frame", schema)
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU and not config.parameters


def test_a_further_version_stands_beside_the_first(graph: Artifact, tmp_path: Path) -> None:
    out, name = tmp_path / "repository", graph.manifest.name
    write_repository(graph, out, Serving())
    with pytest.raises(ArtifactError, match=r"1: is there already. Fix: --version 2"):
        write_repository(graph, out, Serving())
    write_repository(graph, out, Serving(version=2))
    for part in ("", "-source", "-frame"):
        folder = out / f"{name}{part}"
        assert sorted(each.name for each in folder.iterdir()) == ["1", "2", CONFIG]
        assert json.loads((folder / "2" / "flowpose.json").read_text())["key"] == graph.manifest.key
    with pytest.raises(ArtifactError, match=r"config\.pbtxt: configures another model"):
        write_repository(graph, out, Serving(version=3, instances=2))
    assert not list(out.glob("*/3")), "nothing is written before all places were looked at"


def test_what_triton_cannot_run_is_refused(graph: Artifact, tmp_path: Path) -> None:
    with pytest.raises(TargetMismatch, match=r"tensorrt runs engines .* got graphs, a GPU"):
        write_repository(graph, tmp_path / "r", Serving(backend="tensorrt", gpu=True))
    with pytest.raises(
        ArtifactError, match=r"no frame graph of that precision, got fp8, expected fp32, int8"
    ):
        write_repository(graph, tmp_path / "r", Serving(precision="fp8"))
    assert not (tmp_path / "r").exists()


def test_text_format_says_what_protobuf_reads(schema: Any) -> None:
    tensor = {"name": "x", "data_type": Word("TYPE_FP32"), "dims": [1, -1]}
    message = {"name": 'a "quoted" name', "max_batch_size": 3, "input": [tensor]}
    read = text_format.Parse(rendered(message), schema.ModelConfig())
    assert (read.name, read.max_batch_size, list(read.input[0].dims)) == ('a "quoted" name', 3, [1, -1])


def test_the_command_writes_a_repository(graph: Artifact, tmp_path: Path) -> None:
    done = command(["triton", str(graph.path), "--out", str(tmp_path / "r"), "--precision", "int8", "--json"])
    assert done.returncode == 0, done.stderr
    models = json.loads(done.stdout)["models"]
    assert models == ["tiny-source", "tiny-frame", "tiny"]
    assert {each.name for each in (tmp_path / "r").iterdir()} == set(models)
