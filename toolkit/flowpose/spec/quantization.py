"""How a student is quantized: method, calibration, what stays in floating point, and what it must keep to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from .base import Spec
from .optim import OptimSpec

FP8_OPSET = 19
"""The first opset of ONNX whose QuantizeLinear knows FP8."""

Algorithm = Literal["max", "entropy", "percentile", "mse"]


class Floor(Spec):
    """What a quantized student must keep to beside the unquantized one, on val pairs.

    Where it does not, the layers that cost most alone go back to floating point, one after the other, until it does.

    Attributes:
        psnr: dB to the unquantized student, in the mean.
        low: dB to it, 5th percentile of the pairs.
        pairs: how many val pairs layers are ranked on and the floor is checked on; training never sees them.
    """

    psnr: Annotated[float, Field(gt=0)] = 36.0
    low: Annotated[float, Field(gt=0)] = 30.0
    pairs: PositiveInt = 16


class TuneSpec(Spec):
    """Quantization-aware distillation: the fake-quantized student is trained to draw what the unquantized one draws.

    Ranges stay as calibration fixed them for inputs, and follow the weights for weights.

    Attributes:
        gradient: weight of the edges' difference beside the pixels'.
    """

    gradient: Annotated[float, Field(ge=0)] = 1.0
    optim: OptimSpec


class Calibrated(Spec):
    """What all methods share.

    Attributes:
        calibration: name or file of the set that fixes the ranges.
        keep: glob patterns of module names that stay in floating point.
        floor: layers go back to floating point until this holds; None checks nothing.
        tune: quantization-aware distillation after calibration; None leaves the weights as they are.
    """

    calibration: str
    keep: tuple[str, ...] = ()
    floor: Floor | None = None
    tune: TuneSpec | None = None


class Int8(Calibrated):
    """INT8: weights per output channel, inputs per tensor.

    Attributes:
        algorithm: how an input's range is chosen from what was seen of it: its maximum, or of its histogram the range
            with the least Kullback-Leibler divergence (entropy), the `percentile`, or the least squared error (mse).
        percentile: of magnitudes, for `percentile`.
    """

    method: Literal["int8"] = "int8"
    algorithm: Algorithm = "max"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99


class Int8SmoothQuant(Calibrated):
    """INT8 with magnitudes moved from the inputs of linear layers to their weights (SmoothQuant, arXiv 2211.10438)."""

    method: Literal["int8-smoothquant"]


class Fp8(Calibrated):
    """FP8 (E4M3), weights per output channel and inputs per tensor, for GPUs from Ada on; ranges are maxima."""

    method: Literal["fp8"]


class Auto(Calibrated):
    """The INT8 algorithm with the highest PSNR to the unquantized student on the floor's pairs, then the floor.

    Attributes:
        algorithms: the ones tried.
    """

    method: Literal["auto"]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = (
        "max",
        "entropy",
        "percentile",
        "mse",
    )
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    floor: Floor = Floor()


QuantizeSpec = Annotated[Int8 | Int8SmoothQuant | Fp8 | Auto, Field(discriminator="method")]
