"""What runs a peer's networks: torch as it is, torch.compile, and libraries that read an exported ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers_networks import Arrays, Network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowpose.runtime.backend import Graph
from flowpose.runtime.onnxruntime import OnnxRuntime
from flowpose.runtime.openvino import OpenVino

OPSET = 18
RESULT = "result"
Opened = Callable[[Arrays], NDArray[Any]]
"""A network that is ready to run; inputs in the order of its `forward`."""


@dataclass(frozen=True)
class Backend:
    """What runs networks.

    Attributes:
        precision: of its arithmetic.
        exported: whether it reads the ONNX file, else it runs the module.
        weights: memory at the most, in units of the fp32 weights: measured with SD 2.1's UNet (3.46 GB), rounded up.
        open: makes a network ready. The file is given to those that read it, and the threads.
    """

    precision: str
    exported: bool
    weights: float
    open: Callable[[Network, Path, int], Opened]


def eager(network: Network, _: Path, threads: int) -> Opened:
    """The module as it is."""
    torch.set_num_threads(threads)
    return by_torch(network.make())


def compiled(network: Network, _: Path, threads: int) -> Opened:
    """The module by torch.compile with its weights frozen: packed for the processor, constants folded."""
    from torch._inductor import config

    torch.set_num_threads(threads)
    config.freezing = True
    return by_torch(torch.compile(network.make(), dynamic=False))


def by_torch(module: Callable[..., torch.Tensor]) -> Opened:
    """A module that takes and gives arrays; memory is shared, not copied.

    Results are C-contiguous: a convolution's may have its channels last, and torch.compile compiles a network that is
    given such an array anew, a minute within the first whole frame.
    """

    def run(inputs: Arrays) -> NDArray[Any]:
        with torch.no_grad():  # inductor freezes under no_grad, not under inference_mode
            found = module(*(torch.from_numpy(each) for each in inputs.values()))
        return np.ascontiguousarray(found.numpy())

    return run


def by_file(graph: Graph) -> Opened:
    """An opened ONNX file."""
    return lambda inputs: graph.run(inputs)[RESULT]


def onnxruntime(_: Network, path: Path, threads: int) -> Opened:
    """As flowpose opens it."""
    return by_file(OnnxRuntime().open(path, threads))


def openvino(_: Network, path: Path, threads: int) -> Opened:
    """As flowpose opens it: in fp32."""
    return by_file(OpenVino().open(path, threads))


def openvino_bf16(_: Network, path: Path, threads: int) -> Opened:
    """OpenVINO's own choice on processors that have it."""
    return by_file(OpenVino("bf16").open(path, threads))


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        "eager": Backend("fp32", False, 1.2, eager),
        "compile": Backend("fp32", False, 2.9, compiled),
        "onnxruntime": Backend("fp32", True, 1.2, onnxruntime),
        "openvino": Backend("fp32", True, 2.1, openvino),
        "openvino-bf16": Backend("bf16", True, 1.8, openvino_bf16),
    }
)
"""Name -> backend. Peers in INT8 are not measured: they would need calibration, and weights that are trained."""


def export(network: Network, path: Path) -> None:
    """Writes the ONNX file, and its weights beside it."""
    module = network.make()
    examples = tuple(torch.from_numpy(np.array(each)) for each in network.inputs.values())
    with torch.no_grad():
        torch.onnx.export(
            module, examples, str(path), dynamo=True, external_data=True, opset_version=OPSET, verbose=False,
            input_names=list(network.inputs), output_names=[RESULT],
        )  # fmt: skip


def counted(network: Network) -> dict[str, float]:
    """Multiply-accumulates of one call and parameters, by torch's counter; nothing is computed and no memory taken."""
    with torch.device("meta"):
        module: nn.Module = network.make()
        examples = [torch.from_numpy(np.array(each)).to("meta") for each in network.inputs.values()]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*examples)
    parameters = sum(each.numel() for each in module.parameters())
    return {"macs": counter.get_total_flops() / 2, "parameters": parameters, "calls": network.calls}
