"""Tiny networks with the inputs and outputs of the real ones, that find something in the picture they are given.

The pose network has SimCC outputs as RTMPose, RTMW and DWPose have them: joint 0 is where the picture is reddest, joint
1 where it is greenest, joint 2 where it is bluest; all others are not there. The detectors box everything that is blue:
one gives boxes with scores as the exports with suppression in them, the other YOLOX's raw rows of 80 classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SURE = 0.4  # of a normalised colour: 255 becomes about 0.9


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, NDArray]) -> Path:
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _value(name: str, shape: tuple[object, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def pose_network(
    path: Path, joints: int = 133, height: int = 256, width: int = 192, peak: float = SURE
) -> Path:
    """input f32[n,3,height,width] -> simcc_x f32[n,joints,2 width], simcc_y f32[n,joints,2 height]."""
    node = helper.make_node
    nodes, outputs = [], []
    for axis, side, across in (("x", width, 2), ("y", height, 3)):
        nodes += [
            node("ReduceMax", ["input"], [f"best_{axis}"], axes=[across], keepdims=0),
            node("Mul", [f"best_{axis}", "peak"], [f"scaled_{axis}"]),
            node("Resize", [f"scaled_{axis}", "", "twice"], [f"bins_{axis}"], mode="nearest",
                 coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
            node("Concat", [f"bins_{axis}", f"none_{axis}"], [f"simcc_{axis}"], axis=1),
        ]  # fmt: skip
        outputs.append(_value(f"simcc_{axis}", (1, joints, 2 * side)))
    constants = {
        "peak": np.float32(peak),
        "twice": np.array([1, 1, 2], np.float32),
        "none_x": np.full((1, joints - 3, 2 * width), -1, np.float32),
        "none_y": np.full((1, joints - 3, 2 * height), -1, np.float32),
    }
    return _save(path, nodes, [_value("input", (1, 3, height, width))], outputs, constants)


def box_network(path: Path, size: int = 128, score: float = 0.9) -> Path:
    """input f32[1,3,size,size], blue green red -> dets f32[1,1,5], labels: the box of what is blue."""
    node = helper.make_node
    nodes = [
        node("Slice", ["input", "first", "second", "channel"], ["blue"]),
        node("Greater", ["blue", "level"], ["is_blue"]),
        node("Cast", ["is_blue"], ["found"], to=TensorProto.FLOAT),
    ]
    for axis, across in (("x", 2), ("y", 3)):
        nodes += [
            node("ReduceMax", ["found"], [f"any_{axis}"], axes=[1, across], keepdims=0),
            node("ArgMax", [f"any_{axis}"], [f"low_{axis}"], axis=1, keepdims=1),
            node("ArgMax", [f"any_{axis}"], [f"last_{axis}"], axis=1, keepdims=1, select_last_index=1),
            node("Add", [f"last_{axis}", "one"], [f"high_{axis}"]),
        ]
    nodes += [
        node("Concat", ["low_x", "low_y", "high_x", "high_y"], ["corners"], axis=1),
        node("Cast", ["corners"], ["box"], to=TensorProto.FLOAT),
        node("Concat", ["box", "score"], ["row"], axis=1),
        node("Unsqueeze", ["row", "middle"], ["dets"]),
        node("Mul", ["score", "zero"], ["labels"]),
    ]
    constants = {
        "first": np.array([0]), "second": np.array([1]), "channel": np.array([1]), "one": np.array([[1]]),
        "middle": np.array([1]), "level": np.float32(150), "score": np.array([[score]], np.float32),
        "zero": np.float32(0),
    }  # fmt: skip
    outputs = [_value("dets", (1, 1, 5)), _value("labels", (1, 1))]
    return _save(path, nodes, [_value("input", (1, 3, size, size))], outputs, constants)


def raw_network(
    path: Path, found: list[tuple[int, tuple[float, float, float, float], float]], size: int = 128
) -> Path:
    """input f32[1,3,size,size] -> f32[1,rows,85], YOLOX's raw rows: class, (x, y, width, height) and score of each."""
    rows = sum((size // stride) ** 2 for stride in (8, 16, 32))
    table = np.zeros((1, rows, 85), np.float32)
    for kind, (x, y, width, height), score in found:
        column, row = int(x // 8), int(y // 8)  # the finest grid: cells of 8 pixels
        at = row * (size // 8) + column
        table[0, at, :4] = x / 8 - column, y / 8 - row, np.log(width / 8), np.log(height / 8)
        table[0, at, 4], table[0, at, 5 + kind] = 1, score
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["all"], keepdims=0),
        helper.make_node("Mul", ["all", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["output"]),
    ]
    constants = {"zero": np.float32(0), "table": table}
    return _save(
        path, nodes, [_value("input", (1, 3, size, size))], [_value("output", (1, rows, 85))], constants
    )
