"""The any-step frame graph: an Euler step as the body of an ONNX Loop that runs over the grid it is given.

One file serves every number of evaluations: the time network is inside the body, and `times` is an input. A model
that is run on one grid only is spared the time network: a table of that grid's modulation takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from flowpose.export.files import exported
from flowpose.export.modules import Decode, FixedStep, Pose, Step
from flowpose.model.generator import Generator

IR_VERSION = 10  # the newest that all supported backends read


@torch.no_grad()
def any_step(
    generator: Generator, example: Mapping[str, Tensor], opset: int, grid: Sequence[float] | None = None
) -> onnx.ModelProto:
    """The graph (context f32[1 + L + R, 2, Ns, C], keypoints f32[133, 3], times f32[K + 1]) -> frame u8[H, W, 3].

    Args:
        generator: its own grid and solver do not matter.
        example: `context` and `keypoints`.
        opset: ONNX opset.
        grid: the only `times` that the graph will be given; None for any.
    """
    context, keypoints = example["context"], example["keypoints"]
    pose, noise = Pose(generator), generator.noise
    given = {"context": context, "keypoints": keypoints}
    found = dict(zip(("pose", "where"), _tuple(pose(context, keypoints)), strict=False))
    step = {"x": noise, "t": torch.zeros(1), "r": torch.ones(1), "context": context, "pose": found["pose"]}
    module: nn.Module = Step(generator)
    if grid is not None:
        module = FixedStep(generator, grid)
        step = {**{name: step.pop(name) for name in ("x", "t", "r")}, "here": torch.tensor([0]), **step}
    before = _part(exported(pose, given, list(found), opset), "pose/")
    body = _part(exported(module, step, ["x_next"], opset), "step/")
    last = {"x_last": noise, **({"where": found["where"], "context": context} if "where" in found else {})}
    after = _part(exported(Decode(generator), last, ["frame"], opset), "decode/")
    loop = helper.make_node(
        "Loop", ["steps", "going", "noise"], ["x_last"], name="steps", body=_body(body, noise.shape)
    )
    times = helper.make_tensor_value_info("times", TensorProto.FLOAT, ["times"])
    constants = {
        "going": np.array(True), "noise": noise.numpy(), "one": np.array([1], np.int64),
        "scalar": np.array([], np.int64),
    }  # fmt: skip
    graph = helper.make_graph(
        [*before.node, *_count(), loop, *after.node], "frame", [*before.input, times], list(after.output),
        [*_tensors(constants), *before.initializer, *body.initializer, *after.initializer],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _tuple(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _count() -> list[onnx.NodeProto]:
    """`steps`, one less than there are times."""
    node = helper.make_node
    return [
        node("Shape", ["times"], ["count"], name="count"),
        node("Sub", ["count", "one"], ["intervals"], name="intervals"),
        node("Reshape", ["intervals", "scalar"], ["steps"], name="steps_scalar"),
    ]


def _body(step: onnx.GraphProto, shape: Sequence[int]) -> onnx.GraphProto:
    """(number, going, x) -> (going, x_next). Weights, context, pose and times are read from the graph around it."""
    state = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "x_next")}
    going = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "go_on")]
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    node = helper.make_node
    nodes = [
        node("Identity", ["go"], ["go_on"], name="go_on"),
        node("Reshape", ["number", "one"], ["here"], name="here"),
        node("Add", ["here", "one"], ["there"], name="there"),
        node("Gather", ["times", "here"], ["t"], name="t", axis=0),
        node("Gather", ["times", "there"], ["r"], name="r", axis=0),
        *step.node,
    ]
    return helper.make_graph(nodes, "step", [number, going[0], state["x"]], [going[1], state["x_next"]])


def _tensors(constants: Mapping[str, np.ndarray]) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        for name, value in constants.items()
    ]


def _part(model: onnx.ModelProto, prefix: str) -> onnx.GraphProto:
    """A model's graph with its inner names prefixed, so that parts can stand in one; inputs and outputs keep theirs."""
    graph = model.graph
    outer = {prefix + value.name: value.name for value in (*graph.input, *graph.output)}
    prefixed = compose.add_prefix_graph(graph, prefix)
    for node in prefixed.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        node.output[:] = [outer.get(name, name) for name in node.output]
    for value in (*prefixed.input, *prefixed.output):
        value.name = outer[value.name]
    return prefixed
