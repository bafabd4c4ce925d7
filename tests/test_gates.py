"""Gates on artifacts that are made at once: limits, factors of other measurements, what manifests keep, worst cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from micro_line import micro_recipe

from flowpose import artifact as artifacts
from flowpose import gates, report
from flowpose.artifact import Artifact, ancestors, creating, open_artifact, stage_key, with_gates
from flowpose.comparison import Images, validation
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError, GateFailed, IntegrityError
from flowpose.gates import Case, judged, measured, settled
from flowpose.spec.manifest import ArtifactKind, GateResult
from flowpose.spec.recipe import Recipe

Values = dict[str, float]
BUDGET = GateResult(stage="compile", metric="frame_ms_p95", limit=5, value=4, passed=True)


def made(
    root: Path, kind: ArtifactKind, values: Values, parent: Artifact | None = None, **fields: Any
) -> Artifact:
    """An artifact with measurements `label.metric` -> value, of four val pairs unless a value is a pair with n."""
    rows = [
        {
            "metric": name.partition(".")[2],
            "stage": name.partition(".")[0],
            "value": value,
            "n": 4,
            "set": "f/val",
        }
        for name, value in values.items()
    ]
    path = root / "tiny" / f"{kind}-{len(list(root.glob('*/*')))}"
    stated: dict[str, Any] = {
        "kind": kind, "name": "tiny", "key": stage_key(None, str(path), {}), "stage": {"name": kind},
        "image": {"height": 48, "width": 32}, "pose": {"format": "coco-wholebody-133", "joints": 133},
        "times": (0.0, 1.0), "measurements": rows, "history": ancestors(parent) if parent else (),
    }  # fmt: skip
    with creating(path, **{**stated, **fields}) as draft:
        (draft / "weights").write_text("w")
    return open_artifact(path)


def case(root: Path, artifact: Artifact, *rows: dict[str, Any], **further: Any) -> Case:
    """The gates of `rows`, all of stage distill unless they say another."""
    own = json.dumps([{"stage": "distill", **row} for row in rows])
    recipe = micro_recipe(root, f"gates={own}", "evaluate.pairs=4")
    return Case(recipe=recipe, stage="distill", artifact=artifact, root=root, **further)


@pytest.fixture
def student(tmp_path: Path) -> Artifact:
    teacher = made(tmp_path, "model", {"teacher-1.own_lpips": 0.5, "teacher-16.own_lpips": 0.2})
    return made(tmp_path, "student", {"student-1.own_lpips": 0.21, "student-1.psnr": 20.0}, teacher)


def test_a_gate_holds_at_its_limit_and_not_beyond(tmp_path: Path, student: Artifact) -> None:
    rows = ({"min": 20.0}, {"max": 20.0}, {"min": 20.001}, {"max": 19.999}, {"min": 19.0, "max": 21.0})
    results = judged(case(tmp_path, student, *({"metric": "psnr", **row} for row in rows)))
    assert [each.passed for each in results] == [True, True, False, False, True, True]
    assert [each.limit for each in results] == [20.0, 20.0, 20.001, 19.999, 19.0, 21.0]
    assert {each.by for each in results} == {"recipe"}


def test_gates_of_other_stages_are_not_judged(tmp_path: Path, student: Artifact) -> None:
    assert judged(case(tmp_path, student, {"stage": "train", "metric": "nothing", "min": 1})) == ()


@pytest.mark.parametrize(("factor", "passed"), [(1.10, True), (1.05, True), (1.04, False)])
def test_a_limit_may_be_a_factor_of_an_ancestors_measurement(
    tmp_path: Path, student: Artifact, factor: float, passed: bool
) -> None:
    row = {"metric": "student-1.own_lpips", "max": factor, "of": "teacher-16.own_lpips"}
    (result,) = judged(case(tmp_path, student, row))
    assert (result.passed, result.of) == (passed, "teacher-16.own_lpips")
    assert result.limit == pytest.approx(factor * 0.2) and result.value == 0.21


def test_a_limit_may_be_a_factor_of_what_a_stage_before_measured(tmp_path: Path, student: Artifact) -> None:
    baseline = made(tmp_path, "student", {"l1.own_lpips": 0.2})
    row = {"metric": "student-1.own_lpips", "max": 1.0, "of": "l1.own_lpips"}
    with pytest.raises(GateFailed, match=r"was not measured"):
        judged(case(tmp_path, student, row))
    (result,) = judged(case(tmp_path, student, row, others=(baseline,)))
    assert (result.limit, result.passed) == (0.2, False)


def test_the_artifact_is_asked_first_then_its_nearest_ancestor(tmp_path: Path, student: Artifact) -> None:
    finished = made(tmp_path, "student", {"student-1.own_lpips": 0.19}, student)
    graph = made(tmp_path, "graph", {"export.size": 3.0}, finished)
    for artifact, value in ((student, 0.21), (finished, 0.19), (graph, 0.19)):
        assert measured(case(tmp_path, artifact), "student-1.own_lpips").value == value
    assert measured(case(tmp_path, graph), "psnr").value == 20.0
    assert measured(case(tmp_path, graph), "teacher-16.own_lpips").value == 0.2


def test_of_the_stages_before_the_last_made_is_asked_first(tmp_path: Path, student: Artifact) -> None:
    """A teacher that was finished for the comparison stands in for the one that the student was made from."""
    teacher = made(tmp_path, "model", {"teacher-16.own_lpips": 0.25})
    for others, value in (
        ((), 0.2),
        ((teacher,), 0.25),
        ((teacher, student), 0.25),
        ((student, teacher), 0.25),
    ):
        assert measured(case(tmp_path, student, others=others), "teacher-16.own_lpips").value == value
    later = made(tmp_path, "model", {"teacher-16.own_lpips": 0.3})
    assert measured(case(tmp_path, student, others=(teacher, later)), "teacher-16.own_lpips").value == 0.3
    assert measured(case(tmp_path, student, others=(teacher, later)), "student-1.own_lpips").value == 0.21


def test_what_was_not_measured_is_told_with_what_was(tmp_path: Path, student: Artifact) -> None:
    text = r"was not measured, expected one of student-1\.own_lpips, student-1\.psnr.*mean 'teacher-16\.own_lpips'"
    with pytest.raises(GateFailed, match=text):
        measured(case(tmp_path, student), "teacher-16.own_lpip")
    teacher = made(tmp_path, "model", {"teacher-1.psnr": 10.0, "copy-source.psnr": 9.0})
    with pytest.raises(
        GateFailed, match=r"several things, expected one of copy-source\.psnr, teacher-1\.psnr"
    ):
        measured(case(tmp_path, teacher), "psnr")


def test_factors_are_of_the_same_pairs_and_of_nothing_negative(tmp_path: Path, student: Artifact) -> None:
    row = {"metric": "student-1.own_lpips", "max": 1.1, "of": "other.own_lpips"}
    fewer = {"metric": "own_lpips", "stage": "other", "value": 0.2, "n": 3, "set": "f/val"}
    with pytest.raises(GateFailed, match=r"cannot be compared with other\.own_lpips, got f/val, n = 4"):
        judged(case(tmp_path, student, row, others=(made(tmp_path, "model", {}, measurements=[fewer]),)))
    below = made(tmp_path, "model", {"other.own_lpips": -0.1})
    with pytest.raises(GateFailed, match=r"no factor of other\.own_lpips is a limit, got -0\.1"):
        judged(case(tmp_path, student, row, others=(below,)))


def test_results_are_sealed_into_the_manifest_and_nothing_else_changes(
    tmp_path: Path, student: Artifact
) -> None:
    before = student.manifest
    after = with_gates(student, [BUDGET])
    again = open_artifact(student.path)
    assert again.manifest == after.manifest and again.manifest.gates == (BUDGET,)
    assert before.self_sha256 != again.manifest.self_sha256
    assert again.manifest.model_copy(update={"gates": (), "self_sha256": before.self_sha256}) == before
    assert [path.name for path in student.path.parent.glob(".*")] == []


def test_the_same_results_are_not_written_again(student: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = with_gates(student, [BUDGET])
    monkeypatch.setattr(artifacts.os, "replace", lambda *_: pytest.fail("written again"))
    assert with_gates(student, [BUDGET]) == sealed


def test_a_kill_before_the_last_step_leaves_the_old_manifest(
    student: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            with_gates(student, [BUDGET])
    assert open_artifact(student.path) == student


def test_a_changed_manifest_is_not_sealed_over(student: Artifact) -> None:
    file = student.path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b"20.0", b"30.0"))
    with pytest.raises(IntegrityError):
        with_gates(student, [BUDGET])


def test_a_failed_gate_keeps_artifact_and_result(tmp_path: Path, student: Artifact) -> None:
    row = {"metric": "size", "max": 2.0}
    graph = made(tmp_path, "graph", {"export.size": 3.0}, student)
    text = (
        r"graph-\d+ size: outside the recipe's limit, got 3, expected limit 2\. Fix: --waive size=REASON, or"
    )
    with pytest.raises(GateFailed, match=text):
        settled(case(tmp_path, graph, row))
    (kept,) = open_artifact(graph.path).manifest.gates
    assert (kept.passed, kept.waived, kept.value, kept.limit) == (False, None, 3.0, 2.0)


def test_all_failures_are_named(tmp_path: Path, student: Artifact) -> None:
    graph = made(tmp_path, "graph", {"export.size": 3.0, "export.parity": 0.7}, student)
    with pytest.raises(GateFailed) as caught:
        settled(case(tmp_path, graph, {"metric": "size", "max": 2.0}, {"metric": "parity", "max": 0.5}))
    assert caught.value.got == "3; parity 0.7 (limit 0.5)"
    assert caught.value.fix == "--waive size=REASON --waive parity=REASON, or change the recipe"


def test_gates_are_judged_again_when_recipe_or_waivers_change(tmp_path: Path, student: Artifact) -> None:
    row = {"metric": "psnr", "min": 30.0}
    waived = settled(case(tmp_path, student, row, waive={"psnr": "a toy", "ssim": "not asked"}))
    assert [(each.passed, each.waived) for each in waived.manifest.gates] == [(False, "a toy")]
    lower = settled(case(tmp_path, waived, {**row, "min": 10.0}, waive={"psnr": "a toy"}))
    assert [(each.passed, each.waived, each.limit) for each in lower.manifest.gates] == [(True, None, 10.0)]
    assert settled(case(tmp_path, lower)).manifest.gates == ()
    assert open_artifact(student.path).manifest.gates == ()


def test_a_targets_budget_stays_beside_the_recipes_gates(tmp_path: Path, student: Artifact) -> None:
    engine = with_gates(student, [BUDGET])
    for _ in range(2):
        engine = settled(case(tmp_path, engine, {"metric": "psnr", "min": 1.0}))
        assert [each.metric for each in engine.manifest.gates] == ["frame_ms_p95", "psnr"]
    assert settled(case(tmp_path, engine)).manifest.gates == (BUDGET,)


def shown(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, darker: dict[int, int]) -> list[list[Images]]:
    """Students draw the truth, with levels taken from the pictures of some pairs; returns what sheets then show."""
    told: list[list[Images]] = []
    pictures = validation(recipe, DEFAULT_ROOTS).truths.astype(int)
    for number, levels in darker.items():
        pictures[number] -= levels
    made = np.clip(pictures, 0, 255).astype(np.uint8)
    real = report.sheet

    def sheet(rows: list[list[Images]], labels: tuple[str, ...]) -> Images:
        assert labels == ("source", "pose", "truth", "student-1")
        told.extend(rows)
        return real(rows, labels)

    monkeypatch.setattr(
        gates, "DRAWERS", {"student": lambda artifact, label: lambda sources, keypoints: made}
    )
    monkeypatch.setattr(report, "sheet", sheet)
    return told


def test_the_worst_cases_are_shown_worst_first(
    tmp_path: Path, student: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = case(tmp_path, student, {"metric": "student-1.psnr", "min": 30.0})
    rows = shown(monkeypatch, failing.recipe, {2: 90, 0: 30, 1: 10, 3: 20})
    with pytest.raises(GateFailed) as caught:
        settled(failing)
    picture = tmp_path / "tiny" / "failed" / f"distill-{student.manifest.key[:12]}-student-1.psnr.png"
    assert picture.is_file()
    assert str(caught.value.fix).startswith(f"look at {picture}, then --waive student-1.psnr=REASON")
    pairs = validation(failing.recipe, DEFAULT_ROOTS)
    for (source, _, truth, _), number in zip(rows, (2, 0, 3, 1), strict=True):
        assert (source == pairs.sources[number]).all() and (truth == pairs.truths[number]).all()


def test_the_highest_values_are_the_worst_where_a_maximum_failed(
    tmp_path: Path, student: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = case(tmp_path, student, {"metric": "own_lpips", "max": 0.1})
    rows = shown(monkeypatch, failing.recipe, {1: 120})
    monkeypatch.setattr(gates, "WORST", 1)
    with pytest.raises(GateFailed):
        settled(failing)
    ((_, _, truth, picture),) = rows
    assert picture.mean() < truth.mean() - 20


def test_only_a_stages_own_scores_are_drawn(
    tmp_path: Path, student: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "DRAWERS", {"student": lambda artifact, label: pytest.fail("drawn")})
    child = made(tmp_path, "student", {"student-1.jitter": 1.0}, student)
    for row in ({"metric": "student-1.psnr", "min": 30.0}, {"metric": "jitter", "max": 0.5}):
        with pytest.raises(GateFailed, match=r"Fix: --waive"):
            settled(case(tmp_path, child, row))
    assert not (tmp_path / "tiny" / "failed").exists()


def test_pictures_that_cannot_be_drawn_do_not_hide_the_failure(
    tmp_path: Path, student: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(artifact: Artifact, label: str) -> None:
        raise DataError("people", "no such data set")

    monkeypatch.setattr(gates, "DRAWERS", {"student": gone})
    text = r"outside the recipe's limit.*worst cases could not be drawn: people: no such data set"
    with pytest.raises(GateFailed, match=text):
        settled(case(tmp_path, student, {"metric": "student-1.psnr", "min": 30.0}))


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("model", {"teacher-1": True, "copy-source": False}), ("student", {"student-1": True, "l1": True})],
)
def test_rows_are_drawn_by_the_weights_that_were_measured(
    tmp_path: Path, kind: str, labels: dict[str, bool]
) -> None:
    """Random weights: the sheet of a teacher's and a student's failed gate is made from their artifacts."""
    pytest.importorskip("torch")
    from quantize.tiny_student import make_artifact, recipe

    found = make_artifact(tmp_path, kind, recipe("evaluate.pairs=2"))
    pairs = validation(recipe("evaluate.pairs=2"), DEFAULT_ROOTS)
    for label, drawn in labels.items():
        draw = gates.DRAWERS[found.manifest.kind](found, label)
        assert (draw is not None) == drawn
        if draw is not None:
            assert draw(pairs.sources, pairs.keypoints).shape == pairs.truths.shape
