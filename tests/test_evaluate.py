"""Evaluation: the truth is best, the copied source stands beside it, and every stage sees the same pairs."""

from __future__ import annotations

import numpy as np
import pytest
from micro_line import Line
from quantize.tiny_student import generator
from quantize.tiny_student import recipe as student_recipe

from flowpose import evaluate
from flowpose.data import read
from flowpose.evaluate import baselines, copy_source, drawer, measure, scores, teacher_rows, validation
from flowpose.job import Job

BETTER = {"psnr": 1, "ssim": 1, "own_lpips": -1, "pose": 1, "pose_error": -1, "identity": 1}


@pytest.fixture(scope="module")
def job(line: Line) -> Job:
    return Job(recipe=line.recipe(), stage="train", key="0" * 64, root=line.root)


def test_pairs_are_the_same_for_every_stage_and_run(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first = validation(job.recipe, job.data)
    evaluate._validation.cache_clear()
    again = validation(job.recipe, job.data)
    assert (first.sources == again.sources).all() and (first.keypoints == again.keypoints).all()
    monkeypatch.setattr(evaluate.data, "read", None)
    assert validation(job.recipe, job.data) is again, "drawn once a process"
    assert len(again) == 4 and again.split == "val"


def test_pairs_are_two_pictures_of_one_person(job: Job) -> None:
    pairs = validation(job.recipe, job.data)
    pictures = read(job.recipe.data, job.recipe.image, "val")
    who = {
        picture.tobytes(): number
        for picture, number in zip(pictures.images, pictures.identities, strict=True)
    }
    for source, truth in zip(pairs.sources, pairs.truths, strict=True):
        assert who[source.tobytes()] == who[truth.tobytes()] and (source != truth).any()


def test_the_truth_scores_best(job: Job) -> None:
    pairs = validation(job.recipe, job.data)
    rng = np.random.default_rng(0)
    contenders = {
        "copy": copy_source,
        "noise": lambda sources, keypoints: rng.integers(0, 256, sources.shape).astype(np.uint8),
        "dark": lambda sources, keypoints: pairs.truths // 2,
    }
    best = scores(lambda sources, keypoints: pairs.truths, pairs)
    assert best.psnr == 100 and best.ssim == pytest.approx(1) and best.own_lpips == pytest.approx(0, abs=1e-6)
    assert best.sharpness == pytest.approx(1) and best.identity == pytest.approx(1)
    for name, draw in contenders.items():
        found = scores(draw, pairs)
        for metric, sign in BETTER.items():
            assert sign * (getattr(best, metric) - getattr(found, metric)) >= -1e-6, f"{name} {metric}"


def test_baselines_are_measured_by_name(job: Job) -> None:
    rows = {(row.stage, row.metric): row for row in baselines(job)}
    assert {label for label, _ in rows} == {"truth", "copy-source"}
    assert rows["truth", "psnr"].value > rows["copy-source", "psnr"].value > 5
    row = rows["copy-source", "psnr"]
    assert (row.unit, row.n, row.set, row.against) == ("dB", 4, "figures/val", "truth")
    assert {metric for _, metric in rows} == {*BETTER, "sharpness", "laplacian"}


def test_teachers_are_measured_at_every_number_of_steps(line: Line) -> None:
    job = Job(
        recipe=line.recipe("evaluate.teacher_steps=[1, 2]"), stage="train", key="0" * 64, root=line.root
    )
    made = generator(student_recipe())
    rows = teacher_rows(job, made)
    assert list(dict.fromkeys(row.stage for row in rows)) == ["teacher-1", "teacher-2"]
    one = measure(job, [("same", drawer(made.on_grid((0.0, 1.0), "euler")))])
    assert [row.value for row in rows[: len(one)]] == [row.value for row in one]


def test_pictures_are_drawn_in_batches(line: Line) -> None:
    made, pairs = generator(student_recipe()), validation(line.recipe(), ())
    many = np.concatenate([pairs.sources] * 5), np.concatenate([pairs.keypoints] * 5)
    found = drawer(made)(*many)
    assert found.shape == (20, 48, 32, 3) and found.dtype == np.uint8
    alone = drawer(made)(pairs.sources[:1], pairs.keypoints[:1])
    assert np.abs(found[16].astype(int) - alone[0]).max() <= 1
