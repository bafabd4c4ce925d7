"""From a PyTorch module to an ONNX model, and from a model to a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from flowpose.errors import ArtifactError
from flowpose.model.from_graphs import TURNED
from flowpose.quantize.quantizers import quiet

FORMAT = "1"
HALF_FROM = 1024  # elements; smaller tensors stay fp32
LARGEST = 2**31 - 1  # bytes in one protobuf message


@torch.no_grad()
def traced(
    module: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str], opset: int
) -> onnx.ModelProto:
    """The ONNX model of a module at fixed shapes.

    Traced by torch.onnx's TorchScript exporter: the newer one cannot export modelopt's quantizers without a
    GPU (torch 2.13, modelopt 0.47), and one exporter for both precisions keeps the two graphs comparable.

    Args:
        module: in eval mode.
        example: input name -> example, in the order of its arguments.
        outputs: names.
        opset: ONNX opset.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module.eval(), tuple(example.values()), str(path), dynamo=False, opset_version=opset,
            input_names=list(example), output_names=list(outputs),
        )  # fmt: skip
        return onnx.load(path)


def exported(
    module: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str], opset: int
) -> onnx.ModelProto:
    """`traced`, made small, and with its weights under their own names."""
    return named(slimmed(traced(module, example, outputs, opset)), module)


def named(model: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """The same model whose constants that are weights of the module go by the weights' names.

    The exporter calls the weights of linear layers `onnx::MatMul_123`. With names, a layer of a graph can be told, and
    training can start from a graph (model/from_graphs.py). Equal weights cannot be told apart and keep their names.
    """
    known: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, weight in module.state_dict().items():
        values = weight.detach().float().cpu().numpy()
        for title, array in _forms(name, values):
            known.setdefault((array.shape, array.tobytes()), []).append(title)
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims):
            values = numpy_helper.to_array(tensor)
            titles = known.get((values.shape, values.tobytes()), [])
            if len(titles) == 1 and titles[0] not in taken:
                renamed[tensor.name] = titles[0]
                tensor.name = titles[0]
                taken.add(titles[0])
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return model


def _forms(name: str, values: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name, array) of the shapes in which the exporter writes a weight: also turned, and along the channels."""
    yield name, values
    if values.ndim == 2:
        yield name + TURNED, values.T
    if values.ndim == 1:
        yield name, values[:, None, None]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return int(next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")))


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with constants folded and useless nodes removed (onnxslim)."""
    with quiet():
        slim: onnx.ModelProto = onnxslim.slim(model)
    return slim


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with large fp32 constants kept in fp16 and widened by a Cast, where that is exact.

    Arithmetic stays fp32: onnxruntime and OpenVINO fold the Casts when they load the graph, so a run costs the
    same and the file is half as large.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or not _is_half(numpy_helper.to_array(tensor)):
            continue
        name = f"{tensor.name}.half"
        narrow = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)
        graph.node.insert(
            0, helper.make_node("Cast", [name], [tensor.name], name=f"{name}.widen", to=TensorProto.FLOAT)
        )
        graph.initializer.remove(tensor)
        graph.initializer.append(narrow)
    return model


def _is_half(values: NDArray[np.float32]) -> bool:
    if values.size < HALF_FROM:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def save(model: onnx.ModelProto, path: Path, key: str) -> None:
    """Checks a model and writes it, with the artifact's key in its metadata.

    Raises:
        ArtifactError: it is larger than the 2 GiB that one ONNX file can hold.
    """
    del model.metadata_props[:]
    helper.set_model_props(model, {"flowpose.format": FORMAT, "flowpose.key": key})
    if model.ByteSize() > LARGEST:
        raise ArtifactError(
            path, "too large for one ONNX file", got=f"{model.ByteSize()} bytes", expected=f"<= {LARGEST}"
        )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
