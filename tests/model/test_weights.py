"""Weights on disk: read back exactly, and refused where they are of another network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro_line import Line
from quantize.tiny_student import generator, make_artifact, recipe
from torch import nn

from flowpose.artifact import open_artifact
from flowpose.errors import ArtifactError
from flowpose.model.weights import GENERATOR, autoencoder_spec, load_generator, part_of, read_weights


def test_a_generator_comes_back_exactly(tmp_path: Path) -> None:
    found, made = load_generator(make_artifact(tmp_path, "student")), generator(recipe(), student=True)
    assert (found.times, found.solver, found.training) == ((0.0, 1.0), "euler", False)
    theirs = made.state_dict()
    assert set(theirs) == set(found.state_dict()) and any(name.startswith("detail.") for name in theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in found.state_dict().items())


def test_a_teacher_and_a_student_run_on_their_own_grids(tmp_path: Path) -> None:
    teacher, student = (load_generator(make_artifact(tmp_path, kind)) for kind in ("model", "student"))
    assert (len(teacher.times), teacher.solver) == (9, "heun")
    assert (len(student.times), student.solver) == (2, "euler")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "student")
    with pytest.raises(ArtifactError, match=r"does not fit this version's network.*Fix: rm -r "):
        read_weights(nn.Linear(2, 2), artifact, GENERATOR)


def test_parts_of_the_recipe_are_found_in_an_artifacts_history(line: Line) -> None:
    quantized = open_artifact(line.path("quantize"))
    assert part_of(quantized, "quantize")["method"] == "int8"
    assert part_of(quantized, "image") == {"height": 48, "width": 32}
    assert autoencoder_spec(quantized).latents == 4
    assert part_of(quantized, "train")["targets"] == line.recipe().train.targets
