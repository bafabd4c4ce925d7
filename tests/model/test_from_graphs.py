"""Weights read back from exported graphs: all of them, whatever they were stored as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export.lined_up import SPEC
from quantize.tiny_student import generator
from tiny_graphs import make_artifact

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError
from flowpose.export.anystep import any_step
from flowpose.export.files import exported, halved, save
from flowpose.export.modules import Source, rounded
from flowpose.export.storage import stored_int8
from flowpose.model.from_graphs import graph_weights, reference_weights, take_weights
from flowpose.model.generator import Generator


@torch.no_grad()
def told_apart() -> Generator:
    """A generator in which no two weights are equal: new ones have many zeros."""
    made = generator(SPEC)
    draw = torch.Generator().manual_seed(3)
    for name, weight in made.state_dict().items():
        if name != "noise":
            weight.add_(0.05 * torch.randn(weight.shape, generator=draw))
    made.autoencoder.scale.abs_().add_(0.5)
    return rounded(made)


@torch.no_grad()
def test_a_teacher_comes_back_from_its_graphs(tmp_path: Path) -> None:
    """All that is lost is what a byte a weight loses."""
    teacher = told_apart()
    height, width = SPEC.image.height, SPEC.image.width
    source = torch.zeros(height, width, 3, dtype=torch.uint8)
    context = Source(teacher)(source)
    given = {"context": context, "keypoints": torch.rand(133, 3) * height}
    models = {
        "source": exported(Source(teacher), {"source": source}, ["context"], 17),
        "frame": any_step(teacher, given, 17),
    }
    found: dict[str, torch.Tensor] = {}
    for name, model in models.items():
        save(halved(stored_int8(model)), tmp_path / f"{name}.onnx", "a" * 64)
        found |= graph_weights(tmp_path / f"{name}.onnx")
    again = generator(SPEC)
    # In no graph: z* has another name there, the null token is for training, the match's sharpness is folded too deep.
    assert set(take_weights(again, found)) == {"noise", "flow.source.null", "flow.log_sharpness"}
    for name, own in teacher.state_dict().items():
        if name in found:
            lost = float((own - again.state_dict()[name]).abs().max())
            assert lost <= 0.006 * float(own.abs().max()) + 1e-3, name


def test_graphs_of_old_and_unknown_references_are_errors(lined: Artifact, tmp_path: Path) -> None:
    assert "flow.blocks.0.mlp.up.weight" in reference_weights(lined, "teacher")
    with pytest.raises(ArtifactError, match=r"no such reference, got l1, expected"):
        reference_weights(lined, "l1")
    alone = make_artifact(tmp_path / "alone", ("fp32",))
    with pytest.raises(ArtifactError, match="no such reference"):
        reference_weights(alone, "teacher")


def test_weights_of_another_size_are_left_alone() -> None:
    made = torch.nn.Linear(3, 2)
    before = made.bias.detach().clone()
    assert take_weights(made, {"weight": torch.ones(6), "bias": torch.ones(5)}) == ["bias"]
    assert np.array_equal(made.weight.detach().numpy(), np.ones((2, 3))) and torch.equal(made.bias, before)
