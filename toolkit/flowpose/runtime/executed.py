"""What a backend makes of a graph: how many layers it runs in 8 bits, and what it adds only to get there.

A graph with INT8 scales in it is a wish. Whether a layer is computed in 8 bits is the backend's decision, and each
place where it is not costs a conversion there and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OPENVINO_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
OPENVINO_CONVERSIONS = frozenset({"Reorder", "Convert", "FakeQuantize"})
ORT_INT8 = frozenset(
    {
        *("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"),
        *("DynamicQuantizeMatMul", "QGemm", "QAttention"),
    }
)
ORT_FLOAT = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
)
ORT_CONVERSIONS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput"}
)


@dataclass(frozen=True)
class Executed:
    """Steps of one run of a graph.

    Attributes:
        int8_layers, float_layers: convolutions and products of matrices in 8 bits, and in more.
        conversions: steps that only change a type or a layout.
    """

    int8_layers: int
    float_layers: int
    conversions: int


def of_openvino(compiled: Any) -> Executed:
    """Returns what OpenVINO says that a model, `openvino.CompiledModel`, became.

    The primitive's name is read, such as `brgconv_avx512_I8`: `runtimePrecision` says i8 of a layer whose weights alone
    are kept in bytes, which is computed in float (OpenVINO 2026.4).
    """
    kinds, primitives = [], []
    for step in compiled.get_runtime_model().get_ops():
        about = step.get_rt_info()
        kinds.append(about["layerType"].astype(str))
        primitives.append(about["primitiveType"].astype(str).lower())
    layers = [name for kind, name in zip(kinds, primitives, strict=True) if kind in OPENVINO_LAYERS]
    short = sum(name.endswith(("_i8", "_u8")) for name in layers)
    return Executed(short, len(layers) - short, sum(kind in OPENVINO_CONVERSIONS for kind in kinds))


def of_profile(events: Iterable[Mapping[str, Any]]) -> Executed:
    """Returns what onnxruntime ran, from the events of a profile of one run."""
    ran = [each for each in events if each.get("cat") == "Node" and each["name"].endswith("_kernel_time")]
    names = [each["args"].get("op_name") for each in ran]
    counts = [sum(name in kind for name in names) for kind in (ORT_INT8, ORT_FLOAT, ORT_CONVERSIONS)]
    return Executed(*counts)
