"""The methods: how the layers of a generator get their ranges from what they are fed. One row a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flowpose.quantize.quantizers import (
    WEIGHT,
    QuantizedPrecision,
    modelopt,
    one_thread,
    quantizers,
    quiet,
    settings,
)
from flowpose.spec.quantization import Calibrated, Fp8, Int8, Int8SmoothQuant

Feed = Callable[[nn.Module], None]
"""Runs a calibration set through a generator."""

CODES = 127
EVERY = 8  # of 2048 bins of a histogram: the range is looked for in steps of so many


@dataclass(frozen=True)
class Method:
    """What a method's layers compute in, and what puts calibrated quantizers into a generator."""

    precision: QuantizedPrecision
    fix: Callable[[nn.Module, Sequence[str], Any, Feed], None]


def calibrate(generator: nn.Module, names: Sequence[str], spec: Calibrated, feed: Feed) -> None:
    """Puts quantizers into the named layers of the generator and fixes their ranges; one set gives the same bytes."""
    with quiet(), one_thread():
        METHODS[type(spec)].fix(generator, names, spec, feed)


def _int8(generator: nn.Module, names: Sequence[str], spec: Int8, feed: Feed) -> None:
    if spec.algorithm == "max":
        modelopt().quantize(generator, {"quant_cfg": settings(names), "algorithm": "max"}, feed)
    else:
        _by_histograms(generator, names, spec, feed)


def _by_histograms(generator: nn.Module, names: Sequence[str], spec: Int8, feed: Feed) -> None:
    """Inputs by their histograms. `max` of modelopt's config would ask a histogram for its maximum, so in steps."""
    rules = settings(names, inputs="histogram")
    modelopt().quantize(generator, {"quant_cfg": rules, "algorithm": None})
    found = quantizers(generator)
    for quantizer in found.values():
        quantizer.disable_quant()
        quantizer.enable_calib()
    feed(generator)
    for name, quantizer in found.items():
        if not name.endswith(WEIGHT):
            _set_range(quantizer, spec)
        else:
            quantizer.load_calib_amax()
        quantizer.enable_quant()
        quantizer.disable_calib()


def _set_range(quantizer: Any, spec: Int8) -> None:
    """Of an input, from its histogram. modelopt 0.47's `mse` gives its quantizer the number of bits as a bias."""
    if spec.algorithm == "mse":
        calibrator = quantizer._calibrator
        counts, edges = (
            np.asarray(each, np.float64) for each in (calibrator._calib_hist, calibrator._calib_bin_edges)
        )
        quantizer.amax = torch.tensor(least_square_range(counts, edges), dtype=torch.float32)
    else:
        quantizer.load_calib_amax(spec.algorithm, percentile=spec.percentile, stride=EVERY)


def least_square_range(counts: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    """The range whose INT8 codes have the least squared error to the magnitudes of a histogram.

    Args:
        counts: f64[n].
        edges: f64[n + 1], from 0; every EVERY-th is tried.
    """
    centers = (edges[1:] + edges[:-1]) / 2
    tried = edges[len(edges) - 1 :: -EVERY]
    tried = tried[tried > 0]
    errors = []
    for largest in tried:
        step = largest / CODES
        errors.append(float(counts @ (np.clip(np.rint(centers / step), 0, CODES) * step - centers) ** 2))
    return float(tried[int(np.argmin(errors))])


def _smoothquant(generator: nn.Module, names: Sequence[str], spec: Int8SmoothQuant, feed: Feed) -> None:
    modelopt().quantize(generator, {"quant_cfg": settings(names), "algorithm": "smoothquant"}, feed)


def _fp8(generator: nn.Module, names: Sequence[str], spec: Fp8, feed: Feed) -> None:
    modelopt().quantize(generator, {"quant_cfg": settings(names, "fp8"), "algorithm": "max"}, feed)


METHODS: Mapping[type[Calibrated], Method] = MappingProxyType(
    {
        Int8: Method("int8", _int8),
        Int8SmoothQuant: Method("int8", _smoothquant),
        Fp8: Method("fp8", _fp8),
    }
)
"""Record -> method. `Auto` is `Int8` with the algorithm that its search finds (flowpose.quantize.sensitivity)."""
