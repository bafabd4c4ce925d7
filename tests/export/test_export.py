from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from quantize.tiny_student import calibration, generator, make_artifact, quantize_job, recipe

import flowpose
from flowpose.artifact import Artifact, place, stage_key
from flowpose.errors import ArtifactError, ParityError
from flowpose.export import export
from flowpose.export.goldens import Parity, check_contexts, check_float, check_quantized
from flowpose.export.modules import rounded
from flowpose.job import Job
from flowpose.model.transformer import SIZES
from flowpose.quantize import quantize
from flowpose.runtime.goldens import read_goldens


def export_job(root: Path, parent: Artifact | None, *overrides: str) -> Job:
    key = stage_key("b" * 64, "export", {"overrides": list(overrides)})
    return Job(recipe=recipe(*overrides), stage="export", key=key, root=root, parent=parent)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("line")


@pytest.fixture(scope="module")
def quantized(root: Path) -> Artifact:
    student = make_artifact(root, "student")
    shutil.copytree(student.path, place(root, "tiny", "distill", student.manifest.key))  # where export looks
    return quantize(quantize_job(root, student), calibration())


@pytest.fixture(scope="module")
def graph(root: Path, quantized: Artifact) -> Artifact:
    return export(export_job(root, quantized))


@pytest.fixture(scope="module")
def frames(graph: Artifact) -> dict[str, onnx.ModelProto]:
    return {p: onnx.load(graph.file(f"frame.{p}.onnx")) for p in ("fp32", "int8")}


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_replays_in_every_backend(graph: Artifact, backend: str, precision: str):
    pytest.importorskip(backend)
    flowpose.load(graph.path, backend=backend, precision=precision).verify()


def test_manifest_describes_the_graphs(graph: Artifact):
    described = {(g.name, g.precision, g.backend): g for g in graph.manifest.graphs}
    assert list(described) == [
        ("source", "fp32", None), ("frame", "fp32", None), ("frame", "int8", None),
        ("frame", "int8", "onnxruntime"),
    ]  # fmt: skip
    for spec in described.values():
        made = onnx.load(graph.file(spec.file)).graph
        for ours, theirs in ((spec.inputs, made.input), (spec.outputs, made.output)):
            shapes = [tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in theirs]
            assert [(t.name, t.shape) for t in ours] == [
                (v.name, s) for v, s in zip(theirs, shapes, strict=True)
            ]
    assert graph.manifest.times == (0.0, 1.0)


def test_files_carry_key_and_format(graph: Artifact):
    for spec in graph.manifest.graphs:
        props = {p.key: p.value for p in onnx.load(graph.file(spec.file)).metadata_props}
        assert props == {"flowpose.format": "1", "flowpose.key": graph.manifest.parent}


def test_measures_parity_and_size(graph: Artifact):
    found = {m.metric: m.value for m in graph.manifest.measurements}
    assert found["fp32_parity_mean"] < 0.01
    assert found["int8_parity_median"] <= 1
    assert found["size_frame.fp32"] == graph.file("frame.fp32.onnx").stat().st_size / 1e6
    assert found["size_frame.int8"] < found["size_frame.fp32"]


def test_goldens_are_the_rounded_students_pictures(graph: Artifact):
    with np.load(graph.file("golden/outputs.npz")) as made:
        assert made["fp32"].shape == made["int8"].shape == (2, 48, 32, 3)
        assert made["fp32"].std() > 5
        assert np.abs(made["fp32"].astype(int) - made["int8"].astype(int)).mean() < 8


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_time_and_noise_are_folded(frames: dict[str, onnx.ModelProto], precision: str):
    model = frames[precision]
    assert not {"Sin", "Cos", "Loop"} & {node.op_type for node in model.graph.node}
    parts = ("flow.time", "source.embed", "source.blocks", "source.joints", ".encoder.")
    assert not [name for name in values(model) if any(part in name for part in parts)]
    assert not any(
        array.ndim == 4 and array.shape[1] == 8 and "embed" in name for name, array in values(model).items()
    )
    whole = generator(recipe(), student=True)
    time_network = sum(p.numel() for p in whole.flow.time.parameters())
    everything = sum(p.numel() for p in whole.parameters())
    assert sum(array.size for array in values(model).values()) < everything - time_network


def test_fp32_weights_are_kept_in_two_bytes(frames: dict[str, onnx.ModelProto]):
    sizes = {TensorProto.FLOAT16: 0, TensorProto.FLOAT: 0}
    for tensor in frames["fp32"].graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert sizes[TensorProto.FLOAT16] > 0.9 * sum(sizes.values())


def in_float(node: onnx.NodeProto) -> bool:
    """Whether a convolution is one of those that are never quantized."""
    return "detail.offsets" in node.input[1]  # its weight


def test_int8_weights_are_symmetric_constants_per_channel(frames: dict[str, onnx.ModelProto]):
    model = frames["int8"]
    constants = values(model)
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and not in_float(n)]
    assert len(weights) == len(convolutions)
    for node in weights:
        codes, scale, zero = (constants[name] for name in node.input)
        assert codes.dtype == np.int8
        assert scale.shape == zero.shape == (codes.shape[0],)
        assert np.abs(codes.astype(int)).max() <= 64
        assert not zero.any()
        assert next(a.i for a in node.attribute if a.name == "axis") == 0


def test_every_int8_layer_takes_quantized_inputs(frames: dict[str, onnx.ModelProto]):
    model = frames["int8"]
    producer = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv" and not in_float(node):
            assert [producer[name] for name in node.input[:2]] == ["DequantizeLinear"] * 2, node.name
    turned = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose"}
    coded = [
        [producer.get(turned.get(name, name)) == "DequantizeLinear" for name in node.input]
        for node in model.graph.node
        if node.op_type == "MatMul"
    ]
    assert all(one == other for one, other in coded), "a product has both operands in codes, or none"
    assert sum(one for one, _ in coded) == recipe_depth() + 1, "q k^T of every block, and of the match"


def recipe_depth() -> int:
    return SIZES[recipe().model.size].depth


@pytest.mark.slow
def test_student_alone_gives_fp32(tmp_path: Path):
    made = export(export_job(tmp_path, make_artifact(tmp_path, "student")))
    assert [(g.name, g.precision) for g in made.manifest.graphs] == [("source", "fp32"), ("frame", "fp32")]


def test_a_recipe_may_keep_less(quantized: Artifact, tmp_path: Path):
    made = export(export_job(tmp_path, quantized, "export.precisions=['int8']", "export.references=false"))
    assert [(g.name, g.precision, g.backend) for g in made.manifest.graphs] == [
        ("source", "fp32", None), ("frame", "int8", None), ("frame", "int8", "onnxruntime"),
    ]  # fmt: skip
    with np.load(made.file("golden/outputs.npz")) as golden:
        assert set(golden) == {"context", "int8"}


def test_int8_alone_needs_a_quantized_student(tmp_path: Path):
    student = make_artifact(tmp_path, "student")
    with pytest.raises(ArtifactError, match=r"nothing to export, got a line with fp32, fp16, expected int8"):
        export(export_job(tmp_path, student, "export.precisions=['int8']"))


def test_onnxruntime_runs_int8_in_kernels_of_its_own_with_the_same_weights(graph: Artifact):
    """The second file is small: its large weights lie in the Q/DQ graph."""
    own, general = (graph.file(f"frame.{name}.onnx") for name in ("int8.onnxruntime", "int8"))
    assert own.stat().st_size < general.stat().st_size / 2
    ops = {node.op_type for node in onnx.load(own).graph.node}
    assert {"QLinearConv", "MatMulIntegerToFloat"} <= ops
    frames = {}
    for backend in ("onnxruntime", "openvino"):
        model = flowpose.load(graph.path, backend=backend, precision="int8")
        done = model.executed(*_first(graph))
        assert done is not None and done.int8_layers > 10
        frames[backend] = model.frame_now(*_first(graph)).astype(int)
    assert abs(frames["onnxruntime"] - frames["openvino"]).mean() < 2.5


def _first(graph: Artifact) -> tuple[np.ndarray, np.ndarray]:
    goldens = read_goldens(graph, "int8")
    return goldens.context[0], goldens.keypoints[0]


def test_fp16_computes_in_halves_and_keeps_its_inputs(root: Path, quantized: Artifact):
    made = export(
        export_job(root, quantized, "export.precisions=['fp32', 'fp16']", "export.references=false")
    )
    whole, half = (onnx.load(made.file(f"frame.{p}.onnx")) for p in ("fp32", "fp16"))
    assert [(i.name, i.type) for i in half.graph.input] == [(i.name, i.type) for i in whole.graph.input]
    kinds = [tensor.data_type for tensor in half.graph.initializer]
    assert kinds.count(TensorProto.FLOAT16) > 10 * kinds.count(TensorProto.FLOAT)
    casts = [n for n in half.graph.node if n.op_type == "Cast"]
    assert len(casts) < 30, "no cast at every layer, as stored halves have"
    for backend in ("onnxruntime", "openvino"):
        flowpose.load(made.path, backend=backend, precision="fp16").verify()


def test_fp8_codes_are_a_byte_and_symmetric(root: Path):
    student = make_artifact(root / "eight", "student")
    over = ("quantize={method: fp8, calibration: tiny}", "export.opset=19")
    fp8 = quantize(quantize_job(root / "eight", student, *over), calibration())
    job = export_job(root / "eight", fp8, *over, "export.precisions=[fp8]", "export.references=false")
    model = onnx.load(export(job).file("frame.fp8.onnx"))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    assert layers
    for node in layers:
        assert constants[node.input[0]].data_type == TensorProto.FLOAT8E4M3FN
        assert not numpy_helper.to_array(constants[node.input[2]]).astype(np.float32).any()


@pytest.mark.parametrize(
    ("layer", "weights", "a_byte"),
    [
        ("flow.source.blocks.0.mlp.up", "fp16", True),
        ("autoencoder.encoder.block", "fp16", True),
        ("flow.blocks.0.mlp.up", "fp16", False),
        ("flow.blocks.0.mlp.up", "int8", True),
    ],
)
def test_weights_are_rounded_to_what_files_hold(layer: str, weights: str, a_byte: bool):
    """A byte each where they run once a person; where they run each frame as the recipe says."""
    made = rounded(generator(recipe()), weights).get_submodule(layer).weight.flatten(1)
    steps = made / (made.abs().amax(1, keepdim=True) / 127)
    assert bool(((steps - steps.round()).abs() < 1e-3).all()) == a_byte
    assert torch.equal(made.half().float(), made) != a_byte


def test_needs_a_student(tmp_path: Path):
    with pytest.raises(ArtifactError, match="export needs a student, got model"):
        export(export_job(tmp_path, make_artifact(tmp_path, "model")))


def test_parity_errors():
    with pytest.raises(ParityError, match=r"got mean 0\.7 levels, expected <= 0\.5"):
        check_float(Path("frame"), "fp32", Parity(0, 0.7, 3), 0.5)
    with pytest.raises(ParityError, match="fake quantization"):
        check_quantized(Path("frame"), "int8", Parity(2, 1, 3))
    with pytest.raises(ParityError, match="source graph differs"):
        check_contexts(Path("source"), np.full((1, 3), np.nan), np.ones((1, 3)))
