"""The graphs of a recipe before anybody has trained it: what they cost is known from their shapes."""

from __future__ import annotations

from pathlib import Path

import torch

from flowpose.artifact import Artifact, creating, open_artifact, stage_key
from flowpose.errors import ArtifactError
from flowpose.export.costs import costs_text
from flowpose.export.exporting import FRAME, SOURCE, specs_of
from flowpose.export.files import exported, save
from flowpose.export.modules import OneStep, Source
from flowpose.model.generator import Generator, build_autoencoder, build_detail, build_student
from flowpose.model.weights import STUDENT_GRID, STUDENT_SOLVER
from flowpose.spec.costs import COSTS
from flowpose.spec.recipe import PretrainedAutoencoderSpec, Recipe

JOINTS = 133


@torch.no_grad()
def untrained_graphs(recipe: Recipe, path: Path) -> Artifact:
    """Returns a graph artifact of a recipe's one-step student in fp32, with random weights and no goldens.

    Args:
        recipe: of any size; nothing of it is trained, no data are read.
        path: where it is made.

    Raises:
        ArtifactError: the recipe's autoencoder is a pretrained one, whose shape is in its file.
    """
    if isinstance(recipe.autoencoder, PretrainedAutoencoderSpec):
        what = "its autoencoder is pretrained, so its shape is not known before it is there"
        raise ArtifactError(f"recipe {recipe.name}", what, fix=f"flowpose export {recipe.name}")
    torch.manual_seed(0)
    student = _student(recipe)
    picture = torch.zeros(recipe.image.height, recipe.image.width, 3, dtype=torch.uint8)
    context = Source(student)(picture)
    parts = (
        (SOURCE, Source(student), {"source": picture}, "context"),
        (
            FRAME.format("fp32"),
            OneStep(student),
            {"context": context, "keypoints": torch.zeros(JOINTS, 3)},
            "frame",
        ),
    )
    key = stage_key(None, "untrained", recipe.model_dump(mode="json"))
    specs = specs_of(tuple(context.shape), tuple(picture.shape), ("fp32",))
    fields = {
        "kind": "graph", "name": recipe.name, "key": key, "stage": {"name": "untrained"}, "graphs": specs,
        "image": {"height": recipe.image.height, "width": recipe.image.width},
        "pose": {"format": "coco-wholebody-133", "joints": JOINTS}, "times": STUDENT_GRID,
        "card": {"flaws": "not trained: it draws nothing"},
    }  # fmt: skip
    with creating(path, **fields) as draft:
        for file, module, example, output in parts:
            save(exported(module, example, [output], recipe.export.opset), draft / file, key)
        (draft / COSTS).write_bytes(costs_text(draft.path, specs))
    return open_artifact(path, verify=False)


def _student(recipe: Recipe) -> Generator:
    autoencoder = build_autoencoder(recipe.autoencoder)
    flow = build_student(recipe.distill, recipe.model, recipe.image, autoencoder)
    detail = build_detail(recipe.distill, flow, autoencoder)
    student = Generator(autoencoder, flow, STUDENT_GRID, STUDENT_SOLVER, detail)
    return student.eval().requires_grad_(False)
