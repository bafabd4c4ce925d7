"""A tiny artifact of kind graph, made with onnx.helper: two graphs of the right form that compute something
simple.

The context is a source of 24x16 pixels in 0..1, put into f32[1,2,Ns,C]; the frame is the context's picture in
0..255, each channel darkened by its own joint's place. The graphs are exact in both backends up to rounding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flowpose.artifact import Artifact, creating, open_artifact, stage_key

HEIGHT, WIDTH, JOINTS = 24, 16, 133
TOKENS, CHANNELS = HEIGHT, WIDTH * 3  # a token is a row of pixels
CONTEXT = (1, 2, TOKENS, CHANNELS)
INTS = {"dtype": "i64"}


def constant(name: str, values: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list, outputs: list, constants: list) -> None:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def save_source(path: Path) -> None:
    """context[0,0] = source / 255, context[0,1] = its square; a row of pixels a token."""
    node = helper.make_node
    nodes = [
        node("Cast", ["source"], ["pixels"], to=TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["unit"]),
        node("Reshape", ["unit", "shape"], ["key"]),
        node("Mul", ["key", "key"], ["value"]),
        node("Concat", ["key", "value"], ["context"], axis=1),
    ]
    given = helper.make_tensor_value_info("source", TensorProto.UINT8, (HEIGHT, WIDTH, 3))
    made = helper.make_tensor_value_info("context", TensorProto.FLOAT, CONTEXT)
    constants = [
        constant("scale", 1 / 255, np.float32),
        constant("shape", (1, 1, TOKENS, CHANNELS), np.int64),
    ]
    save(path, nodes, [given], [made], constants)


def save_frame(path: Path, levels: float = 255.0) -> None:
    """frame = round(levels * key * gain) with a gain of 0.5..1 from the first three joints' y."""
    node = helper.make_node
    nodes = [
        node("Slice", ["context", "zero", "one", "axis"], ["key"]),
        node("Reshape", ["key", "picture_shape"], ["picture"]),
        node("Slice", ["keypoints", "start", "stop", "axes"], ["ys"]),
        node("Reshape", ["ys", "gain_shape"], ["places"]),
        node("Mul", ["places", "half"], ["parts"]),
        node("Sub", ["full", "parts"], ["gain"]),
        node("Mul", ["picture", "gain"], ["dark"]),
        node("Mul", ["dark", "levels"], ["bright"]),
        node("Clip", ["bright", "low", "high"], ["clipped"]),
        node("Round", ["clipped"], ["rounded"]),
        node("Cast", ["rounded"], ["frame"], to=TensorProto.UINT8),
    ]
    context = helper.make_tensor_value_info("context", TensorProto.FLOAT, CONTEXT)
    keypoints = helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, (JOINTS, 3))
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, (HEIGHT, WIDTH, 3))
    whole = {"zero": [0], "one": [1], "axis": [1], "start": [0, 1], "stop": [3, 2], "axes": [0, 1]}
    shapes = {"picture_shape": (HEIGHT, WIDTH, 3), "gain_shape": (1, 1, 3)}
    numbers = {"half": 0.5 / HEIGHT, "full": 1.0, "levels": levels, "low": 0.0, "high": 255.0}
    constants = [constant(name, value, np.int64) for name, value in (whole | shapes).items()]
    constants += [constant(name, value, np.float32) for name, value in numbers.items()]
    save(path, nodes, [context, keypoints], [frame], constants)


def encode(source: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the source graph computes, in NumPy."""
    key = (source.astype(np.float32) * np.float32(1 / 255)).reshape(TOKENS, CHANNELS)
    return np.stack([key, key * key])[None]


def draw(
    context: NDArray[np.float32], keypoints: NDArray[np.float32], levels: float = 255.0
) -> NDArray[np.uint8]:
    """What the frame graph computes, in NumPy."""
    gain = 1 - keypoints[:3, 1] * np.float32(0.5 / HEIGHT)
    bright = context[0, 0].reshape(HEIGHT, WIDTH, 3) * gain * np.float32(levels)
    return np.round(np.clip(bright, 0, 255)).astype(np.uint8)


def standing(y: float = 3.0) -> NDArray[np.float32]:
    """A person in the model's own format, 24x16 pixels: f32[133,3], seventeen joints in view."""
    rows = np.zeros((JOINTS, 3), np.float32)
    rows[:17, 0] = np.tile([5.0, 11.0], 9)[:17]
    rows[:17, 1] = np.linspace(y, y + 18, 17)
    rows[:17, 2] = 1
    return rows


def pictures(n: int = 4) -> NDArray[np.uint8]:
    """Coloured noise, brighter in red than in blue, so that swapped colours show."""
    noise = np.random.default_rng(0).integers(0, 120, (n, HEIGHT, WIDTH, 3))
    return (noise + np.array([120, 60, 0])).astype(np.uint8)


def tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape}


def graph_specs(precisions: tuple[str, ...]) -> list[dict[str, object]]:
    source, context = tensor("source", "u8", (HEIGHT, WIDTH, 3)), tensor("context", "f32", CONTEXT)
    keypoints, frame = tensor("keypoints", "f32", (JOINTS, 3)), tensor("frame", "u8", (HEIGHT, WIDTH, 3))
    specs: list[dict[str, object]] = [
        {
            "name": "source",
            "precision": "fp32",
            "file": "source.onnx",
            "inputs": [source],
            "outputs": [context],
        }
    ]
    for precision in precisions:
        file = f"frame.{precision}.onnx"
        inputs = [context, keypoints]
        specs.append(
            {"name": "frame", "precision": precision, "file": file, "inputs": inputs, "outputs": [frame]}
        )
    return specs


def make_artifact(
    path: Path,
    precisions: tuple[str, ...] = ("fp32", "int8"),
    *,
    name: str = "tiny",
    changes: dict[str, object] | None = None,
) -> Artifact:
    """Writes and opens the artifact; the `int8` graph is 1 % brighter so that tests can tell it from fp32."""
    fields: dict[str, object] = {
        "kind": "graph", "name": name, "key": stage_key(None, "export", {"tiny": name}), "stage": {},
        "image": {"height": HEIGHT, "width": WIDTH},
        "pose": {"format": "coco-wholebody-133", "joints": JOINTS},
        "times": (0.0, 1.0), "graphs": graph_specs(precisions),
        "golden": {"inputs": "golden/inputs.npz", "outputs": "golden/outputs.npz"},
        **(changes or {}),
    }  # fmt: skip
    sources, poses = pictures(), np.stack([standing(y) for y in (1.0, 2.0, 4.0, 5.5)])
    contexts = np.stack([encode(source) for source in sources])
    brightness = {"fp32": 255.0, "fp16": 255.0, "int8": 257.5}
    frames = {
        p: np.stack([draw(c, k, brightness[p]) for c, k in zip(contexts, poses, strict=True)])
        for p in precisions
    }
    with creating(path, **fields) as draft:
        save_source(draft / "source.onnx")
        for precision in precisions:
            save_frame(draft / f"frame.{precision}.onnx", brightness[precision])
        np.savez(draft / "golden/inputs.npz", source=sources, keypoints=poses)
        np.savez(draft / "golden/outputs.npz", context=contexts, **frames)
    return open_artifact(path)


class NumpyGraph:
    """A graph of the fake backend: the source or the frame in NumPy, with a planted fault."""

    def __init__(self, kind: str, fault: str) -> None:
        self.kind, self.fault, self.runs = kind, fault, 0
        self.buffer = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self.last = self.buffer

    def run(self, inputs: dict[str, NDArray]) -> dict[str, NDArray]:
        self.runs += 1
        if self.kind == "source":
            return {"context": self._context(encode(inputs["source"]))}
        levels = 257.5 if self.kind.endswith("int8") else 255.0
        return {"frame": self._frame(draw(inputs["context"], inputs["keypoints"], levels))}

    def executed(self, inputs: dict[str, NDArray]) -> None:
        return None  # NumPy does not tell

    def _context(self, context: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.fault == "nan":
            context[0, 1, 3, 4] = np.nan
        if self.fault == "context zeros":
            context[:] = 0
        if self.fault == "context off":
            context *= 1.3
        return context

    def _frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.fault == "zeros":
            return np.zeros_like(frame)
        if self.fault == "swapped":
            return np.ascontiguousarray(frame[..., ::-1])
        if self.fault == "brighter":
            return np.minimum(frame.astype(np.int16) + 6, 255).astype(np.uint8)
        if self.fault == "shared":
            self.buffer[:] = frame
            return self.buffer
        if self.fault == "stale":
            self.last, frame = frame, self.last if self.runs > 1 else frame
        if self.fault == "float":
            return frame.astype(np.float32)
        return frame


class NumpyBackend:
    """A backend that opens graphs by their file's name."""

    version = "1.0"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.opened: list[NumpyGraph] = []

    def identity(self) -> dict[str, str]:
        return {}

    def open(self, path: Path, threads: int) -> NumpyGraph:
        graph = NumpyGraph(path.stem, self.fault)
        self.opened.append(graph)
        return graph
