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
        made: onnx.ModelProto = convert_to_mixed_precision(
            str(path), low_precision_type="fp16", op_types_to_exclude=list(FP32_OPS), keep_io_types=True,
            calibration_data=str(inputs), opset=opset_of(model),
        )  # fmt: skip
    return made
