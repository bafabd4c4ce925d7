"""Quantization: a student becomes an INT8 or FP8 student, with ranges fixed on a calibration set (nvidia-modelopt)."""

from flowpose.quantize.quantizers import SCALES, load_quantized
from flowpose.quantize.quantizing import quantize

__all__ = ["SCALES", "load_quantized", "quantize"]
