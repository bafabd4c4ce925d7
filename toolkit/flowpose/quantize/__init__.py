"""Quantization: a student becomes an INT8 student with scales fixed on a calibration set (nvidia-modelopt)."""

from flowpose.quantize.int8 import quantize
from flowpose.quantize.quantizers import SCALES, load_quantized

__all__ = ["SCALES", "load_quantized", "quantize"]
