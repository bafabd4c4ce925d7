"""All methods on both kinds of student, and the three stages that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from distill.micro_setting import batch_of, distillation, latents_of, setting, student_of
from micro_line import Line
from quantize.tiny_student import generator, make_artifact, recipe

from flowpose.artifact import open_artifact
from flowpose.distill import METHODS, distill, finish, regressor_spec, train_regressor
from flowpose.distill.compared import Compared, truth_losses
from flowpose.distill.student import Learner, made_by, set_up
from flowpose.errors import ArtifactError
from flowpose.job import Job
from flowpose.model.edge import EdgeNetwork
from flowpose.model.weights import DISTILLATIONS, load_generator
from flowpose.optimize import Draw
from flowpose.spec.recipe import DistillSpec, RegressorSpec
from flowpose.train.features import FeatureNetwork

STUDENTS = {
    "same": {"kind": "same"},
    "pruned": {"kind": "pruned", "blocks": [1], "decoder": [4, 8, 16, 32]},
    "edge": {"kind": "edge", "width": 32},
}


def test_every_method_of_the_spec_has_its_row() -> None:
    union = get_args(get_args(DistillSpec)[0])
    assert set(METHODS) == set(DISTILLATIONS.values()) == set(union)
    for name, record in DISTILLATIONS.items():
        assert get_args(record.model_fields["method"].annotation) == (name,)


@pytest.mark.parametrize(("student", "crop"), [("same", 0), ("pruned", 0), ("edge", 16)])
@pytest.mark.parametrize("method", DISTILLATIONS)
def test_every_method_trains_every_student(method: str, student: str, crop: int, tmp_path: Path) -> None:
    spec = distillation(method, student=STUDENTS[student], steps=2, middle=0.5, crop=crop)
    made = setting(tmp_path, spec)
    row, learner = METHODS[type(spec)](made), Learner(student_of(made), spec.second)
    draw = Draw.at(0, 0)
    batch = row.draw(draw.rng, 4).looking(draw.rng, spec.crop)
    found = made_by(learner, batch)
    own = row.losses(learner, batch, found, draw)
    real = truth_losses(Compared(found.pictures, found.truth(batch), made.features), spec)["real"]
    assert own and all(torch.isfinite(value) and value.requires_grad for value in own.values())
    (real + torch.stack(list(own.values())).sum()).backward()
    head = learner.flow.head.weight.grad
    assert head is not None and torch.isfinite(head).all() and head.abs().max() > 0
    assert all(p.grad is None for p in made.teacher.parameters())


def test_the_baseline_is_the_truth_alone(tmp_path: Path) -> None:
    optim = {"iterations": 5, "batch": 2}
    spec = regressor_spec(RegressorSpec.parse({"optim": optim, "crop": 16}, "recipe.regressor"))
    assert spec.crop == 16 and spec.optim.iterations == 5 and spec.solved == 0
    made = setting(tmp_path, spec)
    truth = batch_of(made).truth
    found = truth_losses(Compared(truth + 0.5, truth, made.features), spec)
    assert float(found["real"]) == pytest.approx(0.5, rel=1e-4), "L1, and neither edges nor features"


@pytest.mark.parametrize(
    ("stage", "work", "expected"),
    [
        ("distill", distill, "needs a model to start from"),
        ("finish", finish, "needs a student to start from"),
        ("regressor", train_regressor, "needs a model to start from"),
    ],
)
def test_without_its_parent_no_stage_begins(tmp_path: Path, stage: Any, work: Any, expected: str) -> None:
    with pytest.raises(ArtifactError, match=expected):
        work(Job(recipe=recipe(), stage=stage, key="0" * 64, root=tmp_path))


def test_a_recipe_without_a_finish_has_none(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path, "student")
    job = Job(recipe=recipe(), stage="finish", key="0" * 64, root=tmp_path, parent=parent)
    with pytest.raises(ArtifactError, match=r"needs recipe\.finish"):
        finish(job)


def test_a_recipe_without_a_regressor_has_none(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path, "model")
    job = Job(recipe=recipe(), stage="regressor", key="0" * 64, root=tmp_path, parent=parent)
    with pytest.raises(ArtifactError, match=r"needs recipe\.regressor.*Fix: add regressor"):
        train_regressor(job)


@pytest.mark.parametrize(("weight", "trained"), [(0.5, True), (0.0, False)])
def test_features_are_trained_for_those_who_compare_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float, trained: bool
) -> None:
    made, teacher = setting(tmp_path, distillation("trajectory")), make_artifact(tmp_path, "model")
    monkeypatch.setattr("flowpose.distill.student.encode_all", lambda *_: made.latents)
    whole = recipe("features={optim: {iterations: 1, batch: 4, warmup: 1}}", "data.identities=6")
    job = Job(recipe=whole, stage="distill", key="0" * 64, root=tmp_path / "out", parent=teacher)
    found = set_up(job, whole.distill, teacher, weight)
    maps = found.features(torch.zeros(1, 3, 48, 32))
    assert isinstance(found.features, FeatureNetwork) is trained
    assert len(maps) == (5 if trained else 4) and not any(each.requires_grad for each in maps)


def test_a_student_of_another_kind_and_two_steps_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole stage, two iterations of it; what measures pictures has tests of its own."""
    asked: list[str] = []
    latents = latents_of(generator(recipe()))
    monkeypatch.setattr("flowpose.distill.student.encode_all", lambda *_: latents)
    monkeypatch.setattr(
        "flowpose.distill.measure", lambda _, rows: asked.extend(name for name, _ in rows) or ()
    )
    changes = (
        "distill={method: bootstrap, student: {kind: edge, width: 32}, steps: 2, middle: 0.3, "
        "optim: {iterations: 2, batch: 4, warmup: 1}}"
    )
    job = Job(
        recipe=recipe(changes), stage="distill", key="0" * 64, root=tmp_path / "out",
        parent=make_artifact(tmp_path, "model"),
    )  # fmt: skip
    made = distill(job)
    assert asked == ["student-1", "student-2"] and made.manifest.times == (0.0, 0.3, 1.0)
    found = load_generator(made)
    assert isinstance(found.flow, EdgeNetwork) and found.flow.span is not None
    assert not found.noise.any() and found.flow.head.weight.abs().max() > 0
    assert load_generator(make_artifact(tmp_path / "plain", "student")).noise.any()


def test_the_student_makes_one_step_and_keeps_the_teachers_encoder(line: Line) -> None:
    teacher, student = (load_generator(open_artifact(line.path(stage))) for stage in ("train", "distill"))
    assert student.times == (0.0, 1.0) and student.solver == "euler"
    before, after = teacher.state_dict(), student.state_dict()
    assert {name.split(".")[0] for name in set(after) - set(before)} == {"detail"}
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    frozen = ("autoencoder.encoder.", "flow.source.embed.", "flow.source.blocks.", "flow.source.joints.")
    assert not [name for name in changed if name.startswith(frozen)]
    assert any(name.startswith("autoencoder.decoder.") for name in changed)
    assert any(name.startswith("flow.blocks.") for name in changed)
    assert student.detail is not None
    assert all(part[-1].weight.any() for part in (student.detail.offsets, student.detail.choice)), (
        "zero if new"
    )
