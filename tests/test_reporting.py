"""The report of a run, on random networks: every row from the graphs that ship, and nothing from PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export.lined_up import SPEC

from flowpose import image
from flowpose.artifact import Artifact
from flowpose.compile import Request, compile_graph
from flowpose.pipeline import Done, Run
from flowpose.report.run_html import run_page
from flowpose.report.run_record import REPORT, RunRecord, read_record
from flowpose.report_command import find_place, gather
from flowpose.reporting import commands, report_path, training, write_report
from flowpose.spec.reading import load_recipe, load_target

ROWS = ["truth", "copy-source", "teacher-1", "teacher-2", "teacher-3", "student-1", "student-2"]


@pytest.fixture(scope="module")
def engine(lined: Artifact, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Done]]:
    root = tmp_path_factory.mktemp("report")
    request = Request(precision="fp32", threads=1)
    made = compile_graph(lined, load_target("cpu"), root, request, rounds=2, warmup=1)
    stages = {"export": lined, "compile": made}
    done = [Done(stage=s, artifact=each, skipped=False, seconds=0) for s, each in stages.items()]
    return Run(recipe=SPEC, root=root), done


@pytest.fixture(scope="module")
def folder(engine: tuple[Run, list[Done]]) -> Path:
    run, done = engine
    path = report_path(run, done[-1].artifact)
    write_report(run, done, path)
    return path


@pytest.fixture(scope="module")
def record(folder: Path) -> RunRecord:
    return read_record(folder / REPORT)


def test_every_form_has_its_row(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    rows = {row["stage"]: row for row in report["rows"]}
    assert list(rows) == ROWS
    assert all(rows[name]["own_lpips"] is not None and rows[name]["pck"] is not None for name in ROWS)
    steps = {name: row["steps"] for name, row in rows.items()}
    assert steps == dict(zip(ROWS, (None, None, 1, 2, 3, 1, 2), strict=True))
    assert rows["student-1"]["precision"] == "fp32" and rows["student-1"]["megabytes"] > 0
    assert 0 < rows["teacher-1"]["megabytes"] < rows["student-1"]["megabytes"], "a byte a weight"
    assert {"student-1", "teacher-3"} == {name for name, row in rows.items() if row["ms_p50"]}
    assert "student-1/teacher-3" in report["ratios"]["frame"]
    found = {(m["stage"], m["metric"], m["set"]) for m in report["measurements"]}
    assert ("teacher-2", "jitter", "figures/val") in found


def test_pictures_and_page_are_there(folder: Path) -> None:
    sheet = image.read(folder / "sheet.png")
    assert sheet.shape[1] > 5 * 100, "source, pose, truth, teacher, student"
    page = (folder / "report.html").read_text()
    assert "top octave" in page and "Why this precision" in page
    report = json.loads((folder / "report.json").read_text())
    assert "forced" in report["choice"] and report["choice"] in page
    assert [each["precision"] for each in report["contest"]] == ["fp32", "fp32"], "both backends"
    assert all(each["float_layers"] > 0 and each["int8_layers"] == 0 for each in report["contest"])
    stages = json.loads((folder / "latency.json").read_text())["stages"]
    assert all(len(each["ms"]) == each["n"] == 2 for each in stages), "every duration is kept"
    assert '<svg class="chart"' in page, "and drawn"


def test_the_page_comes_back_from_the_artifacts_and_the_record_alone(folder: Path) -> None:
    assert run_page(gather(find_place(folder))) == (folder / "report.html").read_text("utf-8")


def test_an_engine_finds_its_report(folder: Path, engine: tuple[Run, list[Done]]) -> None:
    place = find_place(engine[1][-1].artifact.path)
    assert place.report is not None and place.report.resolve() == folder.resolve()


def test_the_record_says_what_it_was_judged_on_and_its_worst_pairs(record: RunRecord) -> None:
    assert (record.data, record.pairs, record.seed, record.target) == ("figures/val", 2, 0, "cpu")
    assert record.graph is not None and record.graph != record.engine
    assert {each.pair for each in record.worst} == {0, 1}
    first, second = record.worst
    assert first.scores["own_lpips"] >= second.scores["own_lpips"] and first.why
    assert {row["status"] for row in record.predicted} == {"predicted"}
    targets = [row["target"] for row in record.predicted]
    assert "jetson-orin-nano-8gb" in targets and max(map(targets.count, targets)) <= 2


def test_the_recipe_that_is_kept_is_the_one_that_ran(folder: Path, record: RunRecord) -> None:
    assert load_recipe(folder / "recipe.yaml") == SPEC
    first = record.commands[0].split()
    assert first[:3] == ["flowpose", "run", str(folder / "recipe.yaml")], "tests change the shipped one"


def test_the_shipped_recipe_goes_by_its_name_and_options_are_quoted(
    engine: tuple[Run, list[Done]], tmp_path: Path
) -> None:
    run = Run(recipe=load_recipe("tiny"), data=(Path("a b"),), waive={"psnr": "it's a trial"})
    first, *rest = commands(run, "cpu", tmp_path, engine[1][-1].artifact)
    assert first == "flowpose run tiny --target cpu --data 'a b' --waive 'psnr=it'\"'\"'s a trial'"
    assert [each.split()[1] for each in rest] == ["verify", "bench", "evaluate", "report"]


def test_training_is_told_from_the_pace_that_was_kept(engine: tuple[Run, list[Done]]) -> None:
    run, done = engine
    assert training(run, done) == {}
    stage = {"train": {"optim": {"iterations": 40}, "joints": {"iterations": 10}}}
    manifest = done[0].artifact.manifest.model_copy(update={"stage": stage})
    teacher = Done(stage="train", artifact=Artifact(run.root, manifest), skipped=True, seconds=0)
    work = run.root / run.recipe.name / "work" / f"train-{manifest.key[:12]}"
    (work / "joints").mkdir(parents=True)
    (work / "pace.json").write_text('{"iterations": 30, "seconds": 60.0}')
    (work / "joints" / "pace.json").write_text('{"iterations": 5, "seconds": 1.0}')
    found = training(run, [teacher])
    assert {name: each.whole for name, each in found.items()} == {"train joints": 2.0, "train": 80.0}
