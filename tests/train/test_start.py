"""A teacher that starts from the one inside a shipped model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from export.lined_up import SPEC, job_of, lined_up
from quantize.tiny_student import generator

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, SpecError
from flowpose.export import export
from flowpose.job import stage_keys
from flowpose.model.generator import build_flow
from flowpose.train.teacher import start_weights


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    root = tmp_path_factory.mktemp("start")
    return export(job_of(root, lined_up(root)))


def test_the_weights_are_those_of_the_shipped_teacher(graph: Artifact, tmp_path: Path) -> None:
    teacher = generator(SPEC)
    torch.manual_seed(99)
    flow = build_flow(SPEC.model, SPEC.image, teacher.autoencoder)
    before = flow.blocks[0].mlp.up.weight.detach().clone()
    start_weights(job_of(tmp_path, graph), flow, f"models/{graph.path}")
    own, found = teacher.flow.blocks[0].mlp.up.weight, flow.blocks[0].mlp.up.weight
    assert float((own - found).detach().abs().max()) < 0.01 * float(own.detach().abs().max())
    assert not torch.allclose(found, before, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("shipped", [True, False])
def test_a_teacher_of_another_size_is_an_error(
    graph: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: bool
) -> None:
    teacher = generator(SPEC)
    other = SPEC.model.model_copy(update={"size": "tiny"})
    flow = build_flow(other, SPEC.image, teacher.autoencoder)
    monkeypatch.setattr("flowpose.train.teacher.started", lambda *_: None)
    monkeypatch.setattr("flowpose.train.teacher.load_generator", lambda _: teacher)
    name = f"models/{graph.path}" if shipped else "other"
    text = rf"train\.start {name}: no weight of its blocks fits, got 0 of \d+ layers.*Fix: set model\.size"
    with pytest.raises(ArtifactError, match=text):
        start_weights(job_of(tmp_path, graph), flow, name)


def test_the_key_names_the_model_that_was_started_from(graph: Artifact) -> None:
    def key(start: str | None) -> str:
        train = SPEC.train.model_copy(update={"start": start})
        return stage_keys(SPEC.model_copy(update={"train": train}))["train"]

    assert key(None) != key(f"models/{graph.path}") != key("tiny")
    with pytest.raises(SpecError, match="no shipped model of this name"):
        key("models/nobody")
