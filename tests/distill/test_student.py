"""What all distillations share: the new student, one and two evaluations, conditions and their truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from distill.micro_setting import (
    NO_ARTIFACT,
    SHAPE,
    batch_of,
    distillation,
    pictures,
    setting,
    student_of,
)
from quantize.tiny_student import make_artifact
from torch import Tensor

from flowpose.distill import student as students
from flowpose.distill.compared import Compared, carried_loss, truth_losses
from flowpose.distill.student import (
    Carried,
    Conditions,
    Learner,
    Made,
    Window,
    decode,
    draw_conditions,
    made_by,
    middle_of,
    parent_of,
    pictures_of,
)
from flowpose.errors import ArtifactError
from flowpose.evaluate import MIDDLE
from flowpose.job import Job
from flowpose.model.edge import EdgeNetwork
from flowpose.model.losses import feature, gradient
from flowpose.model.pictures import to_tensor
from flowpose.optimize import Draw
from flowpose.spec.manifest import Measurement
from flowpose.spec.recipe import PoseAugmentSpec, PrunedStudent
from flowpose.train.teacher import Latents

METHODS = ("trajectory", "bootstrap", "flowmap")
UNSPOILT = PoseAugmentSpec(parts=0, limbs=0, half_body=0, jitter=0)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_a_new_student_makes_the_teachers_one_euler_step_from_nothing(method: str, tmp_path: Path) -> None:
    made = setting(tmp_path, distillation(method))
    student, batch = student_of(made), batch_of(made)
    assert (student.flow.span is not None) == (method != "trajectory")
    assert student.times == (0.0, 1.0) and not student.noise.any()
    teacher = made.teacher.on_grid((0.0, 1.0), "euler")
    ends = teacher.latents(teacher.context(batch.source), batch.keypoints)
    latents, shown, *_ = Learner(student, 0.25)(batch)
    assert ends.abs().max() > 0.1
    torch.testing.assert_close(latents, ends, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shown, teacher.autoencoder.decode(ends), atol=1e-4, rtol=1e-4)


def test_the_fixed_noise_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory", noise="fixed"))
    student = student_of(made)
    assert made.teacher.noise.std() > 0.8 and torch.equal(student.noise, made.teacher.noise)
    assert student.noise is not made.teacher.noise


def test_an_edge_student_starts_anew_with_the_teachers_decoder(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("flowmap", student={"kind": "edge", "width": 32}))
    student = student_of(made)
    assert isinstance(student.flow, EdgeNetwork) and student.flow.span is not None
    theirs = made.teacher.autoencoder.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in student.autoencoder.state_dict().items())


def test_a_student_that_starts_from_another_is_that_one_with_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = student_of(setting(tmp_path, distillation("trajectory", steps=2, middle=0.4, detail=True)))
    with torch.no_grad():
        for weight in before.parameters():
            weight.add_(0.01)
    monkeypatch.setattr(students, "started", lambda *_: SimpleNamespace(path="finish-of-another"))
    monkeypatch.setattr(students, "load_generator", lambda _: before)
    same = distillation("trajectory", start="another", steps=2, detail=True)
    found = student_of(setting(tmp_path, same))
    assert found.times == (0.0, 0.4, 1.0)
    theirs = before.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in found.state_dict().items())
    narrow = same.model_copy(update={"student": PrunedStudent(kind="pruned", decoder=(4, 4, 8, 8))})
    with pytest.raises(
        ArtifactError, match=r"finish-of-another: is a student of another shape, got autoen.* more"
    ):
        student_of(setting(tmp_path, narrow))


def two_steps(root: Path) -> tuple[Learner, Any]:
    made = setting(root, distillation("bootstrap", steps=2, middle=0.4))
    student = student_of(made)
    assert student.times == (0.0, 0.4, 1.0)
    torch.nn.init.normal_(student.flow.span.project.weight, std=0.05)  # so that r has a say
    return Learner(student, 0.5), batch_of(made)


def test_the_second_evaluation_goes_on_from_the_middle(tmp_path: Path) -> None:
    learner, batch = two_steps(tmp_path)
    student = learner.student[0]
    with torch.no_grad():
        made = made_by(learner, batch)
        context = student.context(batch.source)
        one = student.on_grid((0.0, 1.0), "euler").latents(context, batch.keypoints)
        two = student.latents(context[2:], batch.keypoints[2:])
    assert made.second == 2 and made.latents.shape == (6, *SHAPE) and made.pictures.shape == (6, 3, 48, 32)
    torch.testing.assert_close(made.latents, torch.cat([one, two]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one[2:], two, atol=1e-3)


def test_only_the_second_evaluation_has_the_gradient_of_its_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, batch = two_steps(tmp_path)
    flow, found = learner.flow, []
    velocity = flow.velocity

    def watched(*given: Tensor) -> Tensor:
        found.append(velocity(*given))
        if found[-1].requires_grad:
            found[-1].retain_grad()
        return found[-1]

    monkeypatch.setattr(flow, "velocity", watched)
    latents = learner(batch).latents
    latents[len(batch.source) :].square().sum().backward()
    whole, first, second = found
    assert not first.requires_grad, "the step to the middle is held fixed"
    assert second.grad is not None and second.grad.abs().max() > 0
    assert whole.grad is None or not whole.grad.any(), "the one-step latents have losses of their own"
    assert flow.head.weight.grad is not None and flow.head.weight.grad.abs().max() > 0


def test_a_one_step_student_has_no_second_evaluation(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory", second=1.0))
    with torch.no_grad():
        found = made_by(Learner(student_of(made), 1.0), batch_of(made))
    assert found.second == 0 and len(found.pictures) == 4


def numbered_conditions(count: int) -> Conditions:
    truth = torch.arange(float(count)).reshape(-1, 1, 1, 1).expand(-1, 3, 48, 32)
    return Conditions(torch.zeros(count, *SHAPE), -truth, torch.zeros(count, 133, 3), truth)


def test_truth_is_repeated_for_second_evaluations() -> None:
    batch = numbered_conditions(5)
    made = Made(torch.zeros(7), torch.zeros(7), None, 2)
    assert made.like(torch.arange(5)).tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert made.truth(batch)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert torch.equal(Made(torch.zeros(5), torch.zeros(5)).truth(batch), batch.truth)
    looked = Made(torch.zeros(7), torch.zeros(7), None, 2, Window(1, 2, 2)).truth(batch)
    assert looked.shape == (7, 3, 16, 16) and looked[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 4]


def test_the_first_conditions_are_a_smaller_batch() -> None:
    whole = replace(numbered_conditions(5), ends=torch.zeros(3, *SHAPE), window=Window(0, 1, 2))
    few = whole.first(2)
    assert [len(part) for part in (few.source, few.shown, few.keypoints, few.truth, few.ends)] == [2] * 5
    assert len(numbered_conditions(5).first(2).ends) == 0
    assert torch.equal(few.shown, whole.shown[:2]) and few.window == whole.window


def test_windows_lie_anywhere_in_the_picture() -> None:
    batch, rng = numbered_conditions(1), np.random.default_rng(0)
    assert batch.looking(rng, 0) is batch and batch.window is None
    windows = [batch.looking(rng, 16).window for _ in range(200)]
    assert {(w.top, w.left) for w in windows if w} == {(y, x) for y in range(5) for x in range(3)}
    assert {w.size for w in windows if w} == {2}
    largest = batch.looking(rng, 640).window
    assert largest is not None and largest.size == 4, "the shorter side"
    assert batch.looking(rng, 16).on(torch.device("cpu")).window is not None


def test_a_window_is_that_part_of_the_picture() -> None:
    rows, columns = torch.arange(48.0)[:, None], torch.arange(32.0)[None]
    found = Window(1, 2, 2).of((100 * rows + columns).expand(1, 3, 48, 32))
    assert found.shape == (1, 3, 16, 16)
    assert float(found[0, 0, 0, 0]) == 816 and float(found[0, 0, -1, -1]) == 2331


@torch.no_grad()
@pytest.mark.parametrize("window", [Window(0, 0, 2), Window(2, 1, 2), Window(4, 2, 2), Window(1, 0, 4)])
def test_a_windows_linear_part_is_decoded_exactly(window: Window, tmp_path: Path) -> None:
    """Convolutions see the window's edge; the block path, one cell wide, must not be off by a cell."""
    autoencoder = setting(tmp_path, distillation("trajectory")).reference
    torch.nn.init.zeros_(autoencoder.decoder.layers[-1].weight)
    z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    whole = decode(autoencoder, z, None)
    torch.testing.assert_close(decode(autoencoder, z, window), window.of(whole), atol=1e-5, rtol=1e-5)


def test_network_and_decoder_are_trained_and_nothing_else(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory"))
    student, batch = student_of(made), batch_of(made)
    learner = Learner(student, 0.25)
    trained = {name.split(".")[0] for name, _ in learner.named_parameters()}
    assert trained == {"flow", "decoder"}
    found = made_by(learner, batch)
    truth_losses(Compared(found.pictures, batch.truth, made.features), made.spec)["real"].backward()
    assert all(p.grad is None for p in student.autoencoder.encoder.parameters())
    frozen = (*made.teacher.parameters(), *made.reference.parameters())
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    for part in (learner.flow.head, learner.decoder.block):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0


@pytest.mark.parametrize("student", [{"kind": "same"}, {"kind": "edge", "width": 32}])
def test_detail_is_trained_and_the_sources_joints_are_not(tmp_path: Path, student: dict[str, Any]) -> None:
    made = setting(tmp_path, distillation("trajectory", detail=True, student=student))
    own, batch = student_of(made), batch_of(made)
    learner = Learner(own, 0.25)
    pictures = made_by(learner, batch).pictures
    truth_losses(Compared(pictures, batch.truth, made.features), made.spec)["real"].backward()
    choice, offsets = learner.detail.choice[-1].weight.grad, learner.detail.offsets[-1].weight.grad
    assert choice.abs().max() > 0 and offsets.abs().max() > 0
    assert all(p.grad is None for p in own.flow.source.joints.parameters())
    opened = {p.requires_grad for p in own.flow.source.blocks.parameters()}
    assert opened == {student["kind"] == "edge"}, "only the edge student has a branch of its own"


def test_what_is_carried_is_in_the_order_of_what_is_made(tmp_path: Path) -> None:
    """The student's pictures, whole and through a window, are those that the whole generator makes."""
    made = setting(tmp_path, distillation("bootstrap", steps=2, middle=0.4, detail=True))
    student, batch = student_of(made), batch_of(made)
    torch.nn.init.normal_(student.flow.span.project.weight, std=0.05)
    with torch.no_grad():
        found = made_by(Learner(student, 0.5), batch)
        context = student.context(batch.source, batch.shown)
        one = student.on_grid((0.0, 1.0), "euler").pictures(context, batch.keypoints)
        two = student.pictures(context[2:], batch.keypoints[2:])
        assert found.detail is not None
        assert found.detail.pixels.shape == found.pictures.shape == (6, 3, 48, 32)
        torch.testing.assert_close(found.pictures, torch.cat([one, two]), atol=1e-4, rtol=1e-4)
        for half in (found.drawn, found.detail.chosen):
            torch.testing.assert_close(half, found.pictures)
        assert (found.detail.pixels[2:4] - batch.shown[2:4]).abs().max() > 0
        window = Window(1, 1, 2)
        part = made_by(Learner(student, 0.5), replace(batch, window=window))
    assert part.detail is not None
    for whole, seen in zip(found.detail, part.detail, strict=True):
        assert seen.shape == window.of(whole).shape
    assert torch.equal(part.detail.pixels, window.of(found.detail.pixels))


def test_only_what_was_carried_costs() -> None:
    truth = torch.zeros(2, 3, 8, 8)
    plain, off = Made(truth, truth), Made(truth, truth, Carried(truth, truth + 0.5, truth, truth))
    assert carried_loss(plain, truth, 0.2) == {}
    assert float(carried_loss(off, truth, 0.2)["carried"]) == pytest.approx(0.2, rel=1e-3), (
        "pixels and local means"
    )
    stripes = torch.tensor([0.5, -0.5]).repeat(4).expand(2, 3, 8, 8)
    off = Made(truth, truth, Carried(truth, stripes, truth, truth))
    assert 0.1 < float(carried_loss(off, truth, 0.2)["carried"]) < 0.15, "stripes have hardly a mean"


def test_mean_velocities_between_any_times_are_the_networks_own(tmp_path: Path) -> None:
    learner, batch = two_steps(tmp_path)
    x, t = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.3)
    with torch.no_grad():
        near, far = (learner(batch, (x, t, t + span))[0] for span in (0.0, 0.6))
        single = learner(batch.first(1), (x[:1], t[:1], t[:1]))[0]
    assert near.shape == x.shape and not torch.allclose(near, far, atol=1e-3)
    torch.testing.assert_close(single, near[:1], atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def numbered() -> Latents:
    """Latents that say which picture they are of: plain n + 1, mirrored -(n + 1)."""
    numbers = torch.arange(1.0, len(pictures()) + 1).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)
    return Latents(pictures(), numbers.half(), -numbers.half())


def test_conditions_and_their_truth_are_mirrored_together(numbered: Latents, tmp_path: Path) -> None:
    train = setting(tmp_path, distillation("trajectory")).job.recipe.train
    train = train.model_copy(update={"poses": UNSPOILT})
    batch = draw_conditions(numbered, train, np.random.default_rng(0), 12)
    sources = batch.source[:, 0, 0, 0]
    turned = (sources < 0).numpy()
    assert turned.any() and not turned.all()
    made = numbered.pictures
    numbers = sources.abs().int().numpy() - 1
    assert torch.equal(batch.shown, pictures_of(numbered, numbers, turned)), "the sources' own pictures"
    people = made.identities[numbers]
    for person, mirrored, keypoints, truth in zip(people, turned, batch.keypoints, batch.truth, strict=True):
        own = np.flatnonzero(made.identities == person)
        poses = numbered.poses(own, np.full(len(own), mirrored))
        aim = own[[np.allclose(pose, keypoints.numpy()) for pose in poses]]
        assert len(aim) == 1, "the pose is of one picture of the source's person"
        assert torch.equal(truth[None], pictures_of(numbered, aim, np.array([mirrored])))


def test_truth_is_the_picture_or_its_mirror_image(numbered: Latents) -> None:
    images = to_tensor(pictures().images[[4, 4]])
    found = pictures_of(numbered, np.array([4, 4]), np.array([False, True]))
    assert torch.equal(found[0], images[0]) and torch.equal(found[1], images[1].flip(-1))


def test_losses_to_the_truth_are_weighted(tmp_path: Path) -> None:
    spec = distillation("trajectory", truth=2.0, gradient=3.0, feature=0.25)
    made = setting(tmp_path, spec)
    truth = batch_of(made).truth
    found = truth_losses(Compared(truth.roll(1, 0), truth, made.features), spec)
    parts = found["pixel"] + found["edges"] + found["feature"]
    torch.testing.assert_close(found["edges"], 3.0 * gradient(truth.roll(1, 0), truth))
    torch.testing.assert_close(
        found["feature"], 0.25 * feature(made.features(truth.roll(1, 0)), made.features(truth))
    )
    torch.testing.assert_close(found["real"], 2.0 * parts)
    assert all(value > 0 for value in found.values())
    least = truth_losses(Compared(truth, truth, made.features), spec)
    assert float(least["edges"]) == 0 and float(least["real"]) == pytest.approx(2e-3, rel=1e-3)


def test_the_middle_is_the_recipes_or_the_teachers_best() -> None:
    row = Measurement(metric="t_mid", value=0.3, n=4, set="people/val", stage="teacher-2")
    other = row.model_copy(update={"metric": "psnr", "value": 20.0})
    teacher: Any = SimpleNamespace(manifest=SimpleNamespace(measurements=(other, row)))
    assert middle_of(distillation("trajectory", middle=0.7), teacher) == 0.7
    assert middle_of(distillation("trajectory"), teacher) == 0.3
    assert middle_of(distillation("trajectory"), NO_ARTIFACT) == MIDDLE


def test_a_parent_of_another_kind_is_refused(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory"))
    teacher = make_artifact(tmp_path, "model")
    job = Job(recipe=made.job.recipe, stage="distill", key="0" * 64, root=tmp_path, parent=teacher)
    assert parent_of(job, "model", "flowpose train") is teacher
    with pytest.raises(ArtifactError, match=r"got model, expected student.*Fix: flowpose distill"):
        parent_of(job, "student", "flowpose distill")


def test_conditions_are_the_same_for_the_same_draw(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory"))
    first, same, other = (
        draw_conditions(made.latents, made.job.recipe.train, Draw.at(0, n).rng, 6) for n in (1, 1, 2)
    )
    assert torch.equal(first.truth, same.truth) and torch.equal(first.keypoints, same.keypoints)
    assert not torch.equal(first.keypoints, other.keypoints)
