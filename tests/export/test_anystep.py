"""The any-step graph: one file for every grid, the same pictures as torch; and weights of a byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from quantize.tiny_student import generator, recipe

from flowpose.export.anystep import any_step
from flowpose.export.files import save
from flowpose.export.modules import Source, rounded
from flowpose.export.storage import coded, stored_int8
from flowpose.flow import end_dense
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures
from flowpose.runtime import open_backend

GRIDS = {"one": (0.0, 1.0), "two": (0.0, 0.3, 1.0), "five": end_dense(5)}
KEY = "a" * 64


@pytest.fixture(scope="module")
def tiny() -> Generator:
    made = generator(recipe())
    made.flow.add_span()  # an any-step network, which is told where a step ends
    torch.nn.init.normal_(made.flow.span.project.weight, std=0.05)
    return rounded(made)


@pytest.fixture(scope="module")
def given(tiny: Generator) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (48, 32, 3), np.uint8))
    keypoints = np.ones((133, 3), np.float32)
    keypoints[:, :2] = rng.random((133, 2), np.float32) * [32, 48]
    with torch.no_grad():
        return {"context": Source(tiny)(picture), "keypoints": torch.from_numpy(keypoints)}


@pytest.fixture(scope="module")
def model(tiny: Generator, given: dict[str, torch.Tensor]) -> onnx.ModelProto:
    return any_step(tiny, given, 17)


def frame(path: Path, given: dict[str, torch.Tensor], grid: tuple[float, ...], backend: str) -> np.ndarray:
    inputs = {name: value.numpy() for name, value in given.items()}
    graph = open_backend(backend).open(path, 1)
    return graph.run({**inputs, "times": np.array(grid, np.float32)})["frame"]


def expected(tiny: Generator, given: dict[str, torch.Tensor], grid: tuple[float, ...]) -> np.ndarray:
    with torch.no_grad():
        on_grid = tiny.on_grid(grid, "euler")
        latents = on_grid.latents(given["context"][None], given["keypoints"][None])
        return to_pictures(tiny.autoencoder.decode(latents))[0]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_one_file_serves_every_grid(
    tiny: Generator, given: dict[str, torch.Tensor], model: onnx.ModelProto, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    save(model, tmp_path / "frame.onnx", KEY)
    made = {name: frame(tmp_path / "frame.onnx", given, grid, backend) for name, grid in GRIDS.items()}
    for name, grid in GRIDS.items():
        off = np.abs(made[name].astype(int) - expected(tiny, given, grid))
        assert off.mean() < 0.05, name
    assert np.abs(made["one"].astype(int) - made["two"]).mean() > 0.5, "the grid matters"


def test_the_step_stands_in_the_file_once(model: onnx.ModelProto, tiny: Generator) -> None:
    (loop,) = [node for node in model.graph.node if node.op_type == "Loop"]
    assert {"Sin", "Cos"} <= {node.op_type for node in loop.attribute[0].g.node}, "time is computed in it"
    assert not loop.attribute[0].g.initializer
    held = sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)
    assert held < 1.1 * sum(p.numel() for p in tiny.parameters())


@pytest.mark.parametrize("name", list(GRIDS))
def test_one_grid_needs_no_time_network(
    tiny: Generator, given: dict[str, torch.Tensor], model: onnx.ModelProto, tmp_path: Path, name: str
) -> None:
    fixed = any_step(tiny, given, 17, GRIDS[name])
    assert not {"Sin", "Cos"} & {node.op_type for node in fixed.graph.node}
    held, whole = (sum(numpy_helper.to_array(t).size for t in m.graph.initializer) for m in (fixed, model))
    flow = tiny.flow
    assert whole - held > 0.9 * sum(
        p.numel() for part in (flow.time, flow.span) for p in part.parameters()
    ) - (flow.modulation(torch.zeros(1), torch.ones(1)).numel() * len(GRIDS[name]))
    save(fixed, tmp_path / "frame.onnx", KEY)
    off = np.abs(
        frame(tmp_path / "frame.onnx", given, GRIDS[name], "onnxruntime").astype(int)
        - expected(tiny, given, GRIDS[name])
    )
    assert off.mean() < 0.05


def test_a_byte_a_weight_changes_little(
    given: dict[str, torch.Tensor], model: onnx.ModelProto, tmp_path: Path
) -> None:
    save(model, tmp_path / "exact.onnx", KEY)
    small = onnx.ModelProto()
    small.CopyFrom(model)
    save(stored_int8(small), tmp_path / "small.onnx", KEY)
    for name, grid in GRIDS.items():
        exact, stored = (
            frame(tmp_path / f"{f}.onnx", given, grid, "onnxruntime") for f in ("exact", "small")
        )
        error = float(np.mean((exact.astype(float) - stored) ** 2))
        assert 0 < error < 255**2 / 10**4.5, f"{name}: over 45 dB, and not the same file"
    assert (tmp_path / "small.onnx").stat().st_size < 0.45 * (tmp_path / "exact.onnx").stat().st_size


@pytest.mark.parametrize("axis", [0, 1])
def test_codes_are_nearest_and_a_channel_has_its_own_scale(axis: int) -> None:
    weight = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    weight = weight * (10.0 ** np.arange(weight.shape[axis])).reshape((-1, 1) if axis == 0 else (1, -1))
    weight = weight.astype(np.float32)
    codes, scale = coded(weight, axis)
    assert codes.dtype == np.int8 and np.abs(codes).max(axis=1 - axis).tolist() == [127] * weight.shape[axis]
    assert (np.abs(codes * scale - weight) <= 0.5001 * scale).all()
    zero, one = coded(np.zeros((4, 4), np.float32), 0)
    assert not zero.any() and np.isfinite(one).all()


def test_only_weights_of_layers_are_stored() -> None:
    """A constant that something else reads too, or that is added, is left as it is."""
    node, tensors = helper.make_node, {}
    for name in ("weight", "both", "added"):
        tensors[name] = np.random.default_rng(2).normal(size=(32, 32)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "weight"], ["a"]), node("MatMul", ["a", "both"], ["b"]),
        node("Add", ["b", "both"], ["c"]), node("Add", ["c", "added"], ["y"]),
    ]  # fmt: skip
    values = [helper.make_tensor_value_info(name, 1, [32, 32]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    made = stored_int8(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    onnx.checker.check_model(made, full_check=True)
    assert {t.name for t in made.graph.initializer} == {"weight.codes", "weight.scale", "both", "added"}
