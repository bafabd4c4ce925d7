"""Generators from artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError
from flowpose.flow import end_dense
from flowpose.model.generator import (
    Generator,
    build_autoencoder,
    build_detail,
    build_flow,
    build_student,
    new_detail,
    student_autoencoder,
)
from flowpose.spec.base import records
from flowpose.spec.recipe import (
    AutoencoderSpec,
    Distillation,
    DistillSpec,
    ImageSpec,
    PretrainedAutoencoderSpec,
    TeacherFinish,
    TransformerSpec,
)

GENERATOR = "generator.safetensors"
TEACHER_GRID, TEACHER_SOLVER = end_dense(8), "heun"
STUDENT_GRID, STUDENT_SOLVER = (0.0, 1.0), "euler"
DISTILLATIONS: Mapping[str, type[Distillation]] = records(DistillSpec, "method")


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes all weights and persistent buffers, as safetensors."""
    save_file({name: value.detach().contiguous() for name, value in module.state_dict().items()}, path)


def read_weights(module: nn.Module, artifact: Artifact, file: str) -> None:
    """Loads a module's weights from an artifact.

    Raises:
        ArtifactError: the file is no safetensors, or holds the weights of another network (an older flowpose).
    """
    path = artifact.file(file)
    try:
        module.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        what = f"does not fit this version's network ({str(error).splitlines()[0]})"
        raise ArtifactError(path, what, fix=f"rm -r {artifact.path} and run the recipe again") from error


def part_of(artifact: Artifact, name: str) -> dict[str, Any]:
    """A part of the recipe from an artifact's own configuration or its nearest ancestor's."""
    stages = [artifact.manifest.stage, *(ancestor.stage for ancestor in reversed(artifact.manifest.history))]
    return next(stage[name] for stage in stages if name in stage)


def autoencoder_spec(artifact: Artifact) -> AutoencoderSpec | PretrainedAutoencoderSpec:
    """What an artifact's autoencoder is."""
    part = part_of(artifact, "autoencoder")
    kind = PretrainedAutoencoderSpec if "pretrained" in part else AutoencoderSpec
    return kind.parse(part, str(artifact.path))


def student_spec(artifact: Artifact) -> Distillation:
    """What a student was distilled by; the L1 baseline is a student of no method."""
    where = str(artifact.path)
    if artifact.manifest.stage["name"] == "regressor":
        part = part_of(artifact, "regressor")
        kept = ("student", "detail", "sharpen", "optim")
        return Distillation.parse({name: part[name] for name in kept if name in part}, where)
    part = part_of(artifact, "distill")
    return DISTILLATIONS[part["method"]].parse(part, where)


def take_fitting(module: nn.Module, other: nn.Module) -> list[str]:
    """Sets the weights of `module` that `other` has by the same name and shape; the names of those that stay."""
    own, there = module.state_dict(), other.state_dict()
    fits = {key: key in there and there[key].shape == own[key].shape for key in own}
    module.load_state_dict({key: there[key] if fits[key] else own[key] for key in own})
    return [key for key in own if not fits[key]]


def load_generator(artifact: Artifact) -> Generator:
    """The generator of a model, student or quantized artifact, in eval mode, on its own grid."""
    where = str(artifact.path)
    autoencoder = build_autoencoder(autoencoder_spec(artifact))
    image = ImageSpec.parse(part_of(artifact, "image"), where)
    model = TransformerSpec.parse(part_of(artifact, "model"), where)
    if artifact.manifest.kind == "model":
        flow = build_flow(model, image, autoencoder)
        detail = None
        if artifact.manifest.stage["name"] == "teacher_finish":
            own = TeacherFinish.parse(part_of(artifact, "teacher_finish"), where)
            detail = new_detail(flow, autoencoder, own.sharpen)
        generator = Generator(autoencoder, flow, TEACHER_GRID, TEACHER_SOLVER, detail)
    else:
        spec = student_spec(artifact)
        autoencoder = student_autoencoder(spec, autoencoder)
        network = build_student(spec, model, image, autoencoder)
        generator = Generator(
            autoencoder, network, STUDENT_GRID, STUDENT_SOLVER, build_detail(spec, network, autoencoder)
        )
    read_weights(generator, artifact, GENERATOR)
    return generator.eval()
