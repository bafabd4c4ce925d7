"""The tiny graphs with a teacher beside them: an any-step graph whose pictures are darker by its times' mean."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from tiny_graphs import CONTEXT, make_artifact

from flowpose.artifact import Artifact, creating, open_artifact

FRAME = "references/teacher.frame.onnx"


def save_any_step(frame: Path, path: Path) -> None:
    """The frame graph made darker by the mean of its times."""
    model = onnx.load(frame)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("times", TensorProto.FLOAT, ["times"]))
    mean = helper.make_node("ReduceMean", ["times"], ["mean"], keepdims=0)
    scaled = helper.make_node("Mul", ["bright", "mean"], ["darker"])
    (clip,) = [node for node in graph.node if node.op_type == "Clip"]
    clip.input[0] = "darker"
    at = list(graph.node).index(clip)
    graph.node.insert(at, scaled)
    graph.node.insert(at, mean)
    onnx.save(model, path)


def make_with_teacher(
    folder: Path, grids: Mapping[str, tuple[float, ...]], changes: dict[str, object] | None = None
) -> Artifact:
    """`tiny_graphs.make_artifact` with a teacher on these grids, in `folder`/whole."""
    plain = make_artifact(folder / "plain", changes=changes)
    fields = plain.manifest.model_dump(exclude={"files", "self_sha256"})
    teacher = {"name": "teacher", "source": "source.onnx", "frame": FRAME, "context": CONTEXT, "grids": grids}
    with creating(folder / "whole", **{**fields, "references": [teacher]}) as draft:
        for name in plain.manifest.files:
            shutil.copyfile(plain.file(name), draft / name)
        save_any_step(plain.file("frame.fp32.onnx"), draft / FRAME)
    return open_artifact(folder / "whole")
