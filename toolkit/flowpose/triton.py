"""A model as a Triton model repository: its source and frame graphs, and an ensemble of both.

    OUT/NAME-source/config.pbtxt   VERSION/model.onnx   source u8[H,W,3] -> context
    OUT/NAME-frame/config.pbtxt    VERSION/model.onnx   context, keypoints f32[J,3] -> frame u8[H,W,3]
    OUT/NAME/config.pbtxt          VERSION/             source, keypoints -> frame

A graph whose weights stand in another file has that file beside it, under its own name: onnxruntime looks there.
Graphs have fixed shapes and no batch axis, so `max_batch_size` is 0 and several people are drawn by several instances.
The source graph's results may be kept by Triton's response cache, which looks requests up by their content: the
ensemble then encodes a picture once, as `Model.infer` does. Pictures and poses are fitted by who asks (`image.fit`,
`Model.keypoints`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, TargetMismatch
from flowpose.runtime.loading import onnx_graph
from flowpose.spec.manifest import GraphSpec, TensorSpec

TritonBackend = Literal["onnxruntime", "tensorrt"]
CONFIG = "config.pbtxt"
RECORD = "flowpose.json"  # beside the model's file: what it is; Triton does not look at it

FILES: Mapping[TritonBackend, str] = MappingProxyType({"onnxruntime": "model.onnx", "tensorrt": "model.plan"})
"""Triton's backend -> the name it expects of a model's file."""

LOCATION = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)
"""Where an ONNX file says that a constant stands in another one: protobuf's key and value, up to the name's length."""

TYPES: Mapping[str, str] = MappingProxyType(
    {"u8": "TYPE_UINT8", "f32": "TYPE_FP32", "f16": "TYPE_FP16", "i8": "TYPE_INT8", "i64": "TYPE_INT64"}
)


class Word(str):
    """A value of an enumeration: in the text format it stands without quotes."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How Triton is to run a model.

    Attributes:
        backend: onnxruntime for a graph or an engine, tensorrt for an engine that was built with it.
        precision: of the frame graph; the engine's own with tensorrt.
        version: the folder that is written; Triton serves the highest.
        instances: of each graph, on each GPU or on the CPU.
        gpu: whether they run on GPUs.
        threads: of one run of onnxruntime on CPUs.
    """

    backend: TritonBackend = "onnxruntime"
    precision: str = "fp32"
    version: int = 1
    instances: int = 1
    gpu: bool = False
    threads: int = 2


def write_repository(artifact: Artifact, out: Path, serving: Serving) -> tuple[Path, ...]:
    """Returns the folders of the three models of a repository in `out`, made or given a further version.

    Each version's folder takes its place in one step, the ensemble's last: a Triton that polls sees whole ones.

    Raises:
        ArtifactError: it has no such graphs, a version is there already, or another configuration.
        TargetMismatch: tensorrt is asked for and the artifact was not built with it, or without a GPU.
    """
    graphs = {name: _graph(artifact, name, serving) for name in ("source", "frame")}
    name = artifact.manifest.name
    models = {
        f"{name}-{part}": _model(f"{name}-{part}", artifact, spec, serving) for part, spec in graphs.items()
    }
    models[name] = _Model(config=rendered(_ensemble(name, graphs)))
    for model, about in models.items():
        _check_place(out / model, about.config, serving.version)
    for model, about in models.items():
        _write(artifact, out / model, about, serving.version)
    return tuple(out / model for model in models)


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A model of the repository.

    Attributes:
        config: the text of config.pbtxt.
        graph: what it runs; None for the ensemble.
        files: (name in the version's folder, file of the artifact), the graph's own first.
    """

    config: str
    graph: GraphSpec | None = None
    files: tuple[tuple[str, str], ...] = ()


def _model(name: str, artifact: Artifact, graph: GraphSpec, serving: Serving) -> _Model:
    beside = _beside(artifact, graph) if serving.backend == "onnxruntime" else ()
    files = ((FILES[serving.backend], graph.file), *((PurePosixPath(file).name, file) for file in beside))
    return _Model(config=rendered(_config(name, graph, serving)), graph=graph, files=files)


def _graph(artifact: Artifact, name: str, serving: Serving) -> GraphSpec:
    """The graph that Triton is given."""
    if artifact.manifest.kind not in ("graph", "engine"):
        raise ArtifactError(
            artifact.path, "holds no graphs", got=artifact.manifest.kind, expected="graph or engine",
            fix=f"flowpose export {artifact.manifest.name}",
        )  # fmt: skip
    if serving.backend == "onnxruntime":
        if serving.precision not in {graph.precision for graph in artifact.manifest.graphs}:
            have = ", ".join(sorted({graph.precision for graph in artifact.manifest.graphs}))
            raise ArtifactError(
                artifact.path, "has no frame graph of that precision", got=serving.precision, expected=have
            )
        # Integer kernels are the CPU's; on a GPU onnxruntime runs the graph that all backends run.
        return onnx_graph(
            artifact, name, serving.precision, "onnxruntime-cuda" if serving.gpu else "onnxruntime"
        )
    built = [each for each in artifact.manifest.graphs if (each.name, each.backend) == (name, "tensorrt")]
    built = [each for each in built if Path(each.file).suffix != ".onnx"]
    if not built or not serving.gpu:
        raise TargetMismatch(
            artifact.path, "Triton's tensorrt runs engines built with TensorRT, on a GPU",
            got=f"{artifact.manifest.backend or 'graphs'}, {'a GPU' if serving.gpu else 'the CPU'}",
            expected="an engine whose backend is tensorrt, and --gpu",
            fix=f"flowpose compile {artifact.path} --target FILE.yaml (with backends: [tensorrt])",
        )  # fmt: skip
    return built[0]


def _beside(artifact: Artifact, graph: GraphSpec) -> tuple[str, ...]:
    """Files of the artifact that hold constants of an ONNX graph; read without onnx, which servers do not have.

    Raises:
        ArtifactError: the graph names one that the artifact does not hold.
    """
    stored = artifact.file(graph.file).read_bytes()
    names = {stored[at.end() : at.end() + at[1][0]] for at in LOCATION.finditer(stored)}
    files = sorted(str(PurePosixPath(graph.file).parent / name.decode("utf-8", "replace")) for name in names)
    for file in files:
        artifact.file(file)
    return tuple(files)


def _config(name: str, graph: GraphSpec, serving: Serving) -> dict[str, Any]:
    """ModelConfig of one graph."""
    config: dict[str, Any] = {
        "name": name,
        "backend": serving.backend,
        "max_batch_size": 0,
        "input": [_tensor(each) for each in graph.inputs],
        "output": [_tensor(each) for each in graph.outputs],
        "instance_group": [
            {"count": serving.instances, "kind": Word("KIND_GPU" if serving.gpu else "KIND_CPU")}
        ],
        "version_policy": {"latest": {"num_versions": 1}},
    }
    if serving.backend == "onnxruntime" and not serving.gpu:
        threads = {"key": "intra_op_thread_count", "value": {"string_value": str(serving.threads)}}
        config["parameters"] = [threads]
    if graph.name == "source":
        config["response_cache"] = {"enable": True}
    return config


def _ensemble(name: str, graphs: Mapping[str, GraphSpec]) -> dict[str, Any]:
    """ModelConfig of source and frame together: the context goes from one to the other inside the server."""
    source, frame = graphs["source"], graphs["frame"]
    own = {each.name for each in source.outputs}
    steps = [
        {
            "model_name": f"{name}-{part}",
            "model_version": -1,
            "input_map": [{"key": each.name, "value": each.name} for each in graph.inputs],
            "output_map": [{"key": each.name, "value": each.name} for each in graph.outputs],
        }
        for part, graph in graphs.items()
    ]
    given = [*source.inputs, *(each for each in frame.inputs if each.name not in own)]
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": 0,
        "input": [_tensor(each) for each in given],
        "output": [_tensor(each) for each in frame.outputs],
        "version_policy": {"latest": {"num_versions": 1}},
        "ensemble_scheduling": {"step": steps},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": Word(TYPES[spec.dtype]), "dims": list(spec.shape)}


def rendered(message: Mapping[str, Any]) -> str:
    """Returns a message in protobuf's text format: mappings are messages, lists repeated fields."""
    return "".join(f"{line}\n" for name, value in message.items() for line in _lines(name, value))


def _lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{name} {{"
        for key, each in value.items():
            yield from (f"  {line}" for line in _lines(key, each))
        yield "}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _lines(name, each)
    else:
        yield f"{name}: {_scalar(value)}"


def _scalar(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, Word | int) else json.dumps(value)


def _check_place(folder: Path, config: str, version: int) -> None:
    """Raises where a version is there already, or others that are configured in another way."""
    if (folder / str(version)).exists():
        raise ArtifactError(
            folder / str(version), "is there already", fix=f"--version {version + 1}, or another --out"
        )
    there = folder / CONFIG
    if there.exists() and there.read_text("utf-8") != config:
        raise ArtifactError(there, "configures another model", fix="another --out, or delete the folder")


def _write(artifact: Artifact, folder: Path, model: _Model, version: int) -> None:
    """Writes a model's configuration and then, in one step, its version."""
    fresh = folder / f".{version}.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, file in model.files:
        shutil.copyfile(artifact.file(file), fresh / name)
    (fresh / RECORD).write_text(json.dumps(_record(artifact, model), indent=1) + "\n", "utf-8")
    (folder / CONFIG).write_text(model.config, "utf-8")
    os.replace(fresh, folder / str(version))


def _record(artifact: Artifact, model: _Model) -> dict[str, Any]:
    """What a version is: the artifact, its graph, and the digests of both and of the files of its weights."""
    record = {"name": artifact.manifest.name, "key": artifact.manifest.key, "made_by": "flowpose triton"}
    if model.graph is None:
        return record
    (_, own), *beside = model.files
    digests = artifact.manifest.files
    graph = {"graph": own, "precision": model.graph.precision, "sha256": digests[own]}
    weights = {"weights": {name: digests[file] for name, file in beside}} if beside else {}
    return {**record, **graph, **weights}
