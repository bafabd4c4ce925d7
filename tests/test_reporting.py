"""The report of a run, on random networks: every row from the graphs that ship, and nothing from PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export.lined_up import SPEC, job_of, lined_up

from flowpose import image
from flowpose.compile import Request, compile_graph
from flowpose.export import export
from flowpose.pipeline import Done, Run
from flowpose.reporting import report_path, write_report
from flowpose.spec.reading import load_target

ROWS = ["truth", "copy-source", "teacher-1", "teacher-2", "teacher-3", "student-1", "student-2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    graph = export(job_of(root, lined_up(root)))
    request = Request(precision="fp32", threads=1)
    engine = compile_graph(graph, load_target("cpu"), root, request, rounds=2, warmup=1)
    stages = {"export": graph, "compile": engine}
    done = [Done(stage=s, artifact=made, skipped=False, seconds=0) for s, made in stages.items()]
    run = Run(recipe=SPEC, root=root)
    path = report_path(run, engine)
    write_report(run, done, path)
    return path


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
    assert json.loads((folder / "latency.json").read_text())["stages"]
