"""The frame graph in every precision: what is traced, what is done to it, and how near torch it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx
from torch import Tensor

from flowpose.errors import ArtifactError
from flowpose.export.autocast import with_fp16
from flowpose.export.files import exported, halved
from flowpose.export.float8 import with_float8
from flowpose.export.modules import OneStep
from flowpose.export.qdq import with_convolutions, with_int8_weights
from flowpose.export.storage import stored_int8
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.quantize.quantizers import load_quantized, precision_of
from flowpose.spec.base import Precision
from flowpose.spec.recipe import ExportSpec

Example = Mapping[str, Tensor]
"""Input name -> a real input."""


@dataclass(frozen=True, eq=False)
class Form:
    """A frame graph to be.

    Attributes:
        own: the generator whose pictures the graph must give.
        traced: the one that becomes the graph; another one only for FP8, which is traced with INT8 codes.
    """

    own: Generator
    traced: Generator


def forms(job: Job, fp32: Generator) -> dict[Precision, Form]:
    """The forms that the recipe wants and the line has, in the recipe's order.

    Args:
        job: its parent is a student or a quantized artifact.
        fp32: the student with weights as fp32 graphs hold them.

    Raises:
        ArtifactError: none is left.
    """
    made: dict[Precision, Form] = {"fp32": Form(fp32, fp32), "fp16": Form(fp32, fp32)}
    if job.parent is not None and job.parent.manifest.kind == "quantized":
        own = load_quantized(job.parent)
        precision = precision_of(job.parent)
        made[precision] = Form(own, own if precision == "int8" else load_quantized(job.parent, codes="int8"))
    found = {name: made[name] for name in job.recipe.export.precisions if name in made}
    if not found:
        wanted = ", ".join(job.recipe.export.precisions)
        raise ArtifactError(
            job.path, "nothing to export", got=f"a line with {', '.join(made)}", expected=wanted,
            fix="flowpose quantize, or add fp32 to export.precisions",
        )  # fmt: skip
    return found


def frame_model(
    precision: Precision, traced: Generator, example: Example, spec: ExportSpec
) -> onnx.ModelProto:
    """The frame graph: one step with z* folded in."""
    return FINISHES[precision](exported(OneStep(traced), example, ["frame"], spec.opset), example, spec)


def _fp32(model: onnx.ModelProto, example: Example, spec: ExportSpec) -> onnx.ModelProto:
    return halved(stored_int8(model) if spec.weights == "int8" else model)


def _fp16(model: onnx.ModelProto, example: Example, spec: ExportSpec) -> onnx.ModelProto:
    return with_fp16(model, {name: value.numpy() for name, value in example.items()})


def _int8(model: onnx.ModelProto, example: Example, spec: ExportSpec) -> onnx.ModelProto:
    return with_convolutions(with_int8_weights(model))


def _fp8(model: onnx.ModelProto, example: Example, spec: ExportSpec) -> onnx.ModelProto:
    return halved(with_float8(model))


FINISHES: Mapping[Precision, Callable[[onnx.ModelProto, Example, ExportSpec], onnx.ModelProto]] = (
    MappingProxyType({"fp32": _fp32, "fp16": _fp16, "int8": _int8, "fp8": _fp8})
)
"""Precision -> what is done to the traced graph."""
