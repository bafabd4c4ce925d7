"""FP8 Q/DQ graphs: INT8 ones with other codes over the same ranges.

The legacy exporter writes modelopt's FP8 quantizers as operators of TensorRT alone, which nothing else loads; ONNX has
had FP8 in QuantizeLinear and DequantizeLinear since opset 19, and onnxruntime and TensorRT (SM 8.9 and later) take it.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from flowpose.errors import ParityError
from flowpose.export.files import opset_of
from flowpose.export.qdq import DQ, Q, with_weight_codes
from flowpose.spec.quantization import FP8_OPSET

LARGEST = 448.0  # of E4M3
INT8_LARGEST = 127.0


def with_float8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same Q/DQ graph with E4M3 codes in place of INT8 ones; the largest code keeps its value.

    Raises:
        ParityError: the graph's opset has no FP8, or a zero point is not 0.
    """
    opset = opset_of(model)
    if opset < FP8_OPSET:
        raise ParityError("export.opset", "has no FP8", got=opset, expected=f">= {FP8_OPSET}", fix="raise it")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    # New constants: equal ones were merged, so a scale may also be a norm's weight.
    for node in [n for n in model.graph.node if n.op_type in (Q, DQ)]:
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        if zero.any():
            raise ParityError(node.name, "FP8 has no zero point", got=zero.max(), expected=0)
        wider = (scale * np.float32(INT8_LARGEST / LARGEST)).astype(np.float32)
        for place, values in ((1, wider), (2, _codes(zero.astype(np.float32)))):
            name = f"{node.input[place]}.e4m3"
            if name not in constants:
                constants[name] = numpy_helper.from_array(values, name)
                model.graph.initializer.append(constants[name])
            node.input[place] = name
    del model.graph.value_info[:]  # codes have another type now
    return with_weight_codes(model, _codes)


def _codes(values: NDArray[np.float32]) -> NDArray[np.generic]:
    """The nearest E4M3 numbers; what is larger than the largest becomes the largest, as ONNX saturates."""
    return np.clip(values, -LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn)
