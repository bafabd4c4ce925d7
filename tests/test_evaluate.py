"""Evaluation of the host's generators: baselines, the teacher at every number of evaluations, and its best middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quantize.tiny_student import generator, make_artifact, recipe
from torch import Tensor, nn

from flowpose import evaluate
from flowpose.artifact import open_artifact
from flowpose.evaluate import (
    baselines,
    best_middle,
    drawer,
    measure,
    middle_row,
    scores,
    teacher_grid,
    teacher_middle,
    teacher_rows,
    validation,
)
from flowpose.flow import end_dense
from flowpose.job import Job
from flowpose.model.generator import Generator

SPEC = recipe("evaluate.pairs=3", "evaluate.teacher_steps=[1, 2]")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(recipe=SPEC, stage="train", key="0" * 64, root=tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def teacher() -> Generator:
    return generator(SPEC)


def test_baselines_are_measured_by_name(job: Job) -> None:
    rows = {(row.stage, row.metric): row for row in baselines(job)}
    assert {label for label, _ in rows} == {"truth", "copy-source"}
    assert rows["truth", "psnr"].value > rows["copy-source", "psnr"].value > 5
    row = rows["copy-source", "psnr"]
    assert (row.unit, row.n, row.set, row.against) == ("dB", 3, "figures/val", "truth")
    assert ("copy-source", "jitter") in rows and ("truth", "jitter") not in rows


def test_teachers_are_measured_at_every_number_of_steps(job: Job, teacher: Generator) -> None:
    rows = teacher_rows(job, teacher, middle=0.3)
    assert list(dict.fromkeys(row.stage for row in rows)) == ["teacher-1", "teacher-2"]
    grids = {"teacher-1": (0.0, 1.0), "teacher-2": (0.0, 0.3, 1.0)}
    for name, grid in grids.items():
        (alone,) = [
            m for m in measure(job, [("x", drawer(teacher.on_grid(grid, "euler")))]) if m.metric == "ssim"
        ]
        assert alone.value in [m.value for m in rows if (m.stage, m.metric) == (name, "ssim")]


def test_grids() -> None:
    assert teacher_grid(1, 0.3) == (0.0, 1.0)
    assert teacher_grid(2, 0.3) == (0.0, 0.3, 1.0)
    assert teacher_grid(16, 0.3) == end_dense(16)


def test_the_best_middle_is_that_of_least_distance(job: Job, teacher: Generator) -> None:
    candidates = (0.2, 0.8)
    pairs = validation(job.recipe, job.data)
    found = {
        middle: scores(drawer(teacher.on_grid((0.0, middle, 1.0), "euler")), pairs).own_lpips
        for middle in candidates
    }
    assert best_middle(job, teacher, candidates) == min(found, key=found.__getitem__)


def test_the_middle_that_students_train_on_is_not_chosen_on_test(
    job: Job, teacher: Generator, tmp_path: Path
) -> None:
    spec = recipe("evaluate.pairs=3", "evaluate.teacher_steps=[1]", "evaluate.split=test")
    on_test = replace(job, recipe=spec)
    assert best_middle(on_test, teacher) == best_middle(job, teacher)
    assert middle_row(on_test, 0.4) == middle_row(job, 0.4) and middle_row(job, 0.4).set == "figures/val"
    assert {row.set for row in baselines(on_test)} == {"figures/test"}


def test_pairs_of_another_seed_are_another_set(job: Job) -> None:
    other = replace(job, recipe=recipe("evaluate.pairs=3", "evaluate.seed=5"))
    assert {row.set for row in baselines(other)} == {"figures/val, seed 5"}


def test_a_teacher_keeps_its_middle(job: Job, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "model", SPEC)
    assert teacher_middle(artifact) == 0.5, "nobody looked for it"
    manifest = artifact.manifest.model_copy(update={"measurements": (middle_row(job, 0.7),)})
    assert teacher_middle(type(artifact)(artifact.path, manifest)) == 0.7
    assert open_artifact(artifact.path).manifest.measurements == ()


class Travelled(nn.Module):
    """A generator that keeps where it was sent, and draws its sources."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def to(self, device: torch.device) -> Travelled:  # type: ignore[override]
        self.sent.append(str(device))
        return self

    def cpu(self) -> Travelled:
        return self.to(torch.device("cpu"))

    def forward(self, sources: Tensor, keypoints: Tensor) -> Tensor:
        assert sources.device == keypoints.device
        self.sent.append("drawn")
        return sources


def test_a_generator_draws_where_it_is_told_and_comes_back() -> None:
    pairs, made = validation(SPEC, ()), Travelled()
    drawn = drawer(made, torch.device("cpu", 0))(pairs.sources, pairs.keypoints)  # type: ignore[arg-type]
    assert made.sent == ["cpu:0", "drawn", "cpu"] and (drawn == pairs.sources).all()


def test_stages_judge_where_they_train(job: Job, teacher: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, here = [], torch.device("cpu", 0)
    told = evaluate.drawer
    monkeypatch.setattr(evaluate, "own_device", lambda: here)
    monkeypatch.setattr(evaluate, "drawer", lambda made, device: asked.append(device) or told(made))
    best_middle(job, teacher, (0.2, 0.8))
    teacher_rows(job, teacher, 0.5)
    assert asked == 4 * [here]


def test_pictures_are_drawn_in_batches(teacher: Generator) -> None:
    pairs = validation(SPEC, ())
    many = np.concatenate([pairs.sources] * 6), np.concatenate([pairs.keypoints] * 6)
    found = drawer(teacher)(*many)
    assert found.shape == (18, 48, 32, 3) and found.dtype == np.uint8
    alone = drawer(teacher)(pairs.sources[:1], pairs.keypoints[:1])
    assert np.abs(found[15].astype(int) - alone[0]).max() <= 1
