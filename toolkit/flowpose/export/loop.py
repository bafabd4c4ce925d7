"""Many steps as an ONNX Loop: the body stands in the file once, whatever the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor

from flowpose.export.files import slimmed, traced
from flowpose.export.modules import Last, Pose, Step, loop_tables
from flowpose.model.generator import Generator

IR_VERSION = 10  # the newest that all supported backends read


def many_steps(generator: Generator, example: Mapping[str, Tensor], opset: int) -> onnx.ModelProto:
    """The frame graph of a grid of two intervals or more: pose tokens, a Loop of K - 1 steps, the last step.

    Args:
        generator: on its grid, with its solver.
        example: `context` and `keypoints`.
        opset: ONNX opset.
    """
    context, keypoints = example["context"], example["keypoints"]
    tables, dt = loop_tables(generator)
    pose = Pose(generator)
    tokens, noise = pose(context, keypoints).detach(), generator.noise
    step = {"x": noise, "tables": tables[0], "dt": dt[0], "context": context, "pose": tokens}
    last = {"x_last": noise, "context": context, "pose": tokens}
    before = _part(traced(pose, {"context": context, "keypoints": keypoints}, ["pose"], opset), "pose/")
    body = _part(traced(Step(generator), step, ["x_next"], opset), "step/")
    after = _part(traced(Last(generator), last, ["frame"], opset), "last/")
    constants = {
        "steps": np.array(len(dt)), "going": np.array(True), "noise": noise.numpy(),
        "all_tables": tables.numpy(), "all_dt": dt.numpy(),
    }  # fmt: skip
    loop = helper.make_node(
        "Loop", ["steps", "going", "noise"], ["x_last"], name="steps", body=_body(body, noise.shape)
    )
    inputs = list(before.input)  # context and keypoints; the other parts read the context from the graph
    graph = helper.make_graph(
        [*before.node, loop, *after.node], "frame", inputs, list(after.output),
        [*_tensors(constants), *before.initializer, *body.initializer, *after.initializer],
    )  # fmt: skip
    _share(graph)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _share(graph: onnx.GraphProto) -> None:
    """Keeps one of equal weights: the loop's body and the last step hold the same network."""
    kept: dict[tuple[int, tuple[int, ...], bytes], onnx.TensorProto] = {}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        content = numpy_helper.to_array(tensor).tobytes()
        first = kept.setdefault((tensor.data_type, tuple(tensor.dims), content), tensor)
        names[tensor.name] = first.name
    _rename(graph, names)
    unique = list(kept.values())
    del graph.initializer[:]
    graph.initializer.extend(unique)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Replaces input names in a graph and in the graphs inside it."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _tensors(constants: Mapping[str, NDArray[np.generic]]) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        for name, value in constants.items()
    ]


def _part(model: onnx.ModelProto, prefix: str) -> onnx.GraphProto:
    """A model's graph with its inner names prefixed, so that parts can stand in one; inputs and outputs keep theirs."""
    graph = slimmed(model).graph
    outer = {prefix + value.name: value.name for value in (*graph.input, *graph.output)}
    prefixed = compose.add_prefix_graph(graph, prefix)
    for node in prefixed.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        node.output[:] = [outer.get(name, name) for name in node.output]
    for value in (*prefixed.input, *prefixed.output):
        value.name = outer[value.name]
    return prefixed


def _body(step: onnx.GraphProto, shape: Sequence[int]) -> onnx.GraphProto:
    """(number, going, x) -> (going, x_next). Weights, context, pose and tables are read from the graph around it."""
    state = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "x_next")}
    going = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "go_on")]
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    nodes = [
        helper.make_node("Identity", ["go"], ["go_on"], name="go_on"),
        helper.make_node("Gather", ["all_tables", "number"], ["tables"], name="tables", axis=0),
        helper.make_node("Gather", ["all_dt", "number"], ["dt"], name="dt", axis=0),
        *step.node,
    ]
    return helper.make_graph(nodes, "step", [number, going[0], state["x"]], [going[1], state["x_next"]])
