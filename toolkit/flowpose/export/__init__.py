"""ONNX export: graphs that compute what the PyTorch models compute, goldens to prove it, models to compare with."""

from flowpose.export.exporting import export

__all__ = ["export"]
