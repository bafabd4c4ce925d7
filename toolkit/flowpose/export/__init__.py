"""ONNX export: two graphs, source and frame, that compute what the PyTorch model computes, and goldens to prove it."""

from flowpose.export.exporting import export
from flowpose.export.teacher import export_teacher, teacher_job

__all__ = ["export", "export_teacher", "teacher_job"]
