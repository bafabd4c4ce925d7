"""What an engine made of a graph, read from the description that TensorRT's inspector gives of it.

The layers' names are TensorRT's own and undocumented: convolutions by its older kernels (`CaskConvolution`, with a
tactic `sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32...`), products of matrices by its newer compiler (`gemm`,
or a fused `kgen` with a tactic that names its product). They are read by pattern; what matches none is neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flowpose.runtime.executed import Executed

Layer = Mapping[str, Any]

PRODUCT = re.compile(r"conv|gemm|matmul|matrixmultiply|fullyconnected", re.IGNORECASE)  # of a layer's type
PRODUCT_TACTIC = re.compile(r"gemm|fprop|dgrad|matmul|mha", re.IGNORECASE)
INT8_TACTIC = re.compile(r"i8i8|s8s8|imma|int8", re.IGNORECASE)
CONVERSIONS = frozenset({"Reformat", "Cast", "Quantize", "Dequantize"})
# Kernels of the newer compiler are named by what is fused in them, four letters each: these only move and round.
MOVES = re.compile(r"^_*myl_(?:(?:Move|Cast|Tran|Resh|Quan|Dequ)+)(?:_|$)")


def of_engine(information: str) -> Executed | None:
    """Returns what the inspector's JSON says, None where the engine was built without the details.

    Args:
        information: of `EngineInspector.get_engine_information`.
    """
    layers = json.loads(information).get("Layers", []) if information.strip() else []
    if not layers or not all(isinstance(layer, dict) for layer in layers):  # without details they are names
        return None
    products = [layer for layer in layers if _is_product(layer)]
    short = sum(_is_int8(layer) for layer in products)
    return Executed(short, len(products) - short, sum(_is_conversion(layer) for layer in layers))


def _text(layer: Layer, key: str) -> str:
    return str(layer.get(key, ""))


def _is_conversion(layer: Layer) -> bool:
    return _text(layer, "LayerType") in CONVERSIONS or MOVES.match(_text(layer, "Name")) is not None


def _is_product(layer: Layer) -> bool:
    if _is_conversion(layer):
        return False
    kind, tactic = _text(layer, "LayerType"), _text(layer, "TacticName")
    return PRODUCT.search(kind) is not None or PRODUCT_TACTIC.search(tactic) is not None


def _is_int8(layer: Layer) -> bool:
    """Whether the kernel multiplies bytes; where its name does not tell, whether both operands are bytes."""
    if INT8_TACTIC.search(_text(layer, "TacticName")):
        return True
    weights = layer.get("Weights") or {}
    first: Layer = next(iter(layer.get("Inputs", ())), {})
    given = str(first.get("Format/Datatype", first.get("Datatype", "")))
    return "int8" in given.lower() and weights.get("Type", "Int8") == "Int8"
