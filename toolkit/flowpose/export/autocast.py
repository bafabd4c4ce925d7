"""FP16 graphs, by nvidia-modelopt's AutoCast: what would overflow or be rounded away stays in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flowpose.errors import MissingDependency
from flowpose.export.files import opset_of
from flowpose.quantize.quantizers import quiet

# Sampling places are fractions of a picture's side in -1..1: in fp16 near 1 they stand on a grid of a 2000th, a tenth
# of a pixel of 176. The picture that is sampled is not worth two casts.
FP32_OPS = ("GridSample",)


def with_fp16(model: onnx.ModelProto, example: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """The computation in fp16 wherever real inputs show that it fits; inputs and outputs keep their types.

    The same model and example give the same bytes in every process.

    Args:
        model: in fp32, with plain fp32 weights.
        example: input name -> a real input, by which values that are too large for fp16 are found.

    Raises:
        MissingDependency: AutoCast or a package that it needs is not installed.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        path, inputs = Path(folder) / "fp32.onnx", Path(folder) / "inputs.npz"
        onnx.save(model, path)
        np.savez(inputs, **dict(example))  # type: ignore[arg-type]
        try:
            from modelopt.onnx.autocast import convert_to_mixed_precision
        except ModuleNotFoundError as error:
            what = f"needs the package {error.name}"
            raise MissingDependency("export fp16", what, fix="pip install flowpose[quantize]") from error
        made = convert_to_mixed_precision(
            str(path), low_precision_type="fp16", op_types_to_exclude=list(FP32_OPS), keep_io_types=True,
            calibration_data=str(inputs), opset=opset_of(model),
        )  # fmt: skip
    return in_order(made)


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, whose nodes, constants and types stand in an order that the graph itself gives.

    AutoCast 0.47 walks sets of names, so the order of its casts changes with the hash seed; names and all else do not.
    Nodes come as the outputs need them, depth first; what no output needs comes last. The rest stands by name.
    """
    graph = model.graph
    for field, values in (
        (graph.node, _as_needed(graph)),
        (graph.initializer, sorted(graph.initializer, key=lambda each: each.name)),
        (graph.value_info, sorted(graph.value_info, key=lambda each: each.name)),
    ):
        del field[:]
        field.extend(values)
    return model


def _as_needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    placed: dict[int, onnx.NodeProto] = {}
    wanted = [output.name for output in graph.output]
    open_names = [*sorted(makers, reverse=True), *reversed(wanted)]  # a stack: the first output is on top
    while open_names:
        index = makers.get(open_names[-1])
        if index is None or index in placed:
            open_names.pop()
            continue
        node = graph.node[index]
        missing = [name for name in node.input if name in makers and makers[name] not in placed]
        if missing:
            open_names.extend(reversed(missing))
        else:
            placed[index] = node
    return list(placed.values())
