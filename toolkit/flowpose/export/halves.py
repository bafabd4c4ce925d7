"""FP16 graphs for GPUs, made of a graph artifact that has none.

Shipped graphs are small files for CPUs: weights are kept as bytes and widened by a Cast, and what INT8 leaves in
floating point is fp32. A GPU computes that rest in fp16 twice as fast or more, and TensorRT's networks are strongly
typed: precision must be in the graph. Its parser also lists no Cast of int8, so stored weights are made wide here.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flowpose.artifact import Artifact, Draft, ancestors, creating, open_artifact, place, stage_key
from flowpose.errors import ArtifactError, MissingDependency
from flowpose.export.autocast import with_fp16
from flowpose.export.costs import costs_text
from flowpose.export.files import save
from flowpose.export.goldens import check_float, check_quantized, frame_parity
from flowpose.runtime.backend import open_backend
from flowpose.runtime.goldens import TOLERANCES, read_goldens
from flowpose.runtime.loading import precisions
from flowpose.runtime.machine import versions
from flowpose.spec.base import Precision
from flowpose.spec.costs import COSTS
from flowpose.spec.manifest import GraphSpec, Measurement

STAGE = "halves"
MODELOPT = "nvidia-modelopt"
GPU = ("tensorrt", "torch-tensorrt", "onnxruntime-tensorrt")
"""Backends that are given the INT8 graph whose rest is fp16; the others keep the one whose rest is fp32."""

Inputs = dict[str, NDArray[Any]]


def with_halves(graph: Artifact, root: str | Path) -> Artifact:
    """Returns the graph artifact with fp16 graphs beside its own; the one that is there already if it was made.

    Added are the source in fp16, the frame in fp16 where there is one in fp32, and for GPU backends the INT8 frame with
    its floating-point rest in fp16. Frames are run on the golden inputs and must give the golden frames; those of fp16
    are those of fp32. Without an fp32 frame the fp16 source is for the GPU backends alone. References are left behind.

    Args:
        graph: a graph artifact with an fp32 or INT8 frame.
        root: the new one is made at `<root>/<name>/halves-<key>`.

    Raises:
        ArtifactError: no graph artifact, no fp32 and no INT8 frame, or it has fp16 already.
        MissingDependency: AutoCast is not installed.
        ParityError: a graph does not give the golden frames.
    """
    if not graph.manifest.takes_halves():
        have = {spec.precision for spec in graph.manifest.graphs}
        got = f"{graph.manifest.kind} with {', '.join(sorted(have)) or 'no graphs'}"
        raise ArtifactError(
            graph.path, "fp16 cannot be added", got=got,
            expected="a graph with an fp32 or int8 frame and no fp16",
        )  # fmt: skip
    key = stage_key(graph.manifest.key, STAGE, {"versions": _tools()})
    path = place(root, graph.manifest.name, STAGE, key)
    if path.exists():
        return open_artifact(path)
    with creating(path, **_fields(graph, key)) as draft:
        for file in graph.manifest.run_files():
            shutil.copyfile(graph.file(file), draft / file)
        added, measured = _written(graph, draft, key)
        graphs = (*graph.manifest.graphs, *added)
        _add_golden(graph, draft)
        (draft / COSTS).write_bytes(costs_text(draft.path, graphs))
        draft.add(graphs=graphs, measurements=(*graph.manifest.measurements, *measured))
    return open_artifact(path)


def _tools() -> dict[str, str]:
    """Versions of what decides the bytes of the graphs."""
    try:
        return {"onnx": onnx.__version__, MODELOPT: metadata.version(MODELOPT)}
    except metadata.PackageNotFoundError as error:
        what = f"needs the package {MODELOPT}"
        raise MissingDependency("export fp16", what, fix="pip install flowpose[quantize]") from error


def _fields(graph: Artifact, key: str) -> dict[str, Any]:
    manifest = graph.manifest
    same = ("name", "image", "pose", "times", "golden", "card", "gates")
    return {
        **{name: getattr(manifest, name) for name in same},
        "kind": "graph",
        "key": key,
        "parent": manifest.key,
        "stage": {**manifest.stage, "name": STAGE},
        "graphs": manifest.graphs,
        "built_with": {**versions(), **_tools()},
        "history": ancestors(graph),
    }


def _written(graph: Artifact, draft: Draft, key: str) -> tuple[list[GraphSpec], list[Measurement]]:
    """Writes the new graphs; their specs, and how far each is from the goldens."""
    frames = precisions(graph.manifest)
    goldens = read_goldens(graph, "fp32" if "fp32" in frames else "int8")
    pictures: list[Inputs] = [{"source": picture} for picture in goldens.source]
    poses: list[Inputs] = [
        {"context": context, "keypoints": keypoints}
        for context, keypoints in zip(goldens.context, goldens.keypoints, strict=True)
    ]
    specs, measured = [], []
    for spec in graph.manifest.graphs:
        if spec.backend is not None or spec.precision not in ("fp32", "int8"):
            continue
        precision: Precision = "fp16" if spec.precision == "fp32" else spec.precision
        file = f"{spec.name}.{precision}{'.gpu' if precision == 'int8' else ''}.onnx"
        inputs = pictures if spec.name == "source" else poses
        save(with_fp16(widened(onnx.load(graph.file(spec.file))), inputs[0]), draft / file, key)
        made = spec.model_copy(update={"precision": precision, "file": file})
        specs += [made] if precision == "fp16" and "fp32" in frames else []
        if precision == "int8" or spec.name == "source":  # the source in fp16 serves their INT8 frames, too
            specs += [made.model_copy(update={"backend": each}) for each in GPU]
        if spec.name == "frame":
            measured.append(_checked(graph, draft / file, precision, spec.precision, poses))
    return specs, measured


def _checked(
    graph: Artifact, file: Path, precision: Precision, golden: Precision, poses: list[Inputs]
) -> Measurement:
    opened = open_backend("onnxruntime").open(file, 1)
    parity = frame_parity(
        np.stack([opened.run(each)["frame"] for each in poses]), read_goldens(graph, golden).frame
    )
    if precision == "int8":
        check_quantized(file, precision, parity)
    else:
        check_float(file, precision, parity, TOLERANCES[precision].mean)
    return Measurement(
        metric=f"{file.stem}_parity_mean", value=parity.mean, unit="levels", n=len(poses), set="golden",
        against=f"{golden} golden", stage=STAGE,
    )  # fmt: skip


def _add_golden(graph: Artifact, draft: Draft) -> None:
    """Golden frames of fp16 are those of fp32, where there are any."""
    golden = graph.manifest.golden
    assert golden is not None  # read_goldens found it
    if "fp32" not in precisions(graph.manifest):
        return
    with np.load(graph.file(golden.outputs)) as made:
        np.savez_compressed(draft / golden.outputs, **{**made, "fp16": made["fp32"]})


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with stored weights made wide: constants that are only cast and scaled become what that gives."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, NDArray[Any]] = {}
    kept = []
    for node in graph.node:
        values = [constants.get(name) for name in node.input]
        if node.op_type in ("Cast", "Mul") and all(value is not None for value in values):
            constants[node.output[0]] = found[node.output[0]] = _computed(node, values)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input} | {output.name for output in graph.output}
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    stored += [numpy_helper.from_array(found[name], name) for name in found if name in used]
    for field, values in ((graph.node, kept), (graph.initializer, stored)):
        del field[:]
        field.extend(values)
    return model


def _computed(node: onnx.NodeProto, values: list[Any]) -> NDArray[Any]:
    if node.op_type == "Mul":
        return np.asarray(values[0] * values[1])
    to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    return np.asarray(values[0].astype(helper.tensor_dtype_to_np_dtype(to)))
