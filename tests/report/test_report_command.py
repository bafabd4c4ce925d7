"""The command `flowpose report`: table, page, Markdown and JSON of the same findings, and errors that say why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from report.made_line import Page, key_of, make_line, make_report
from typer.testing import CliRunner

from flowpose.cli_report import report
from flowpose.errors import ArtifactError, SpecError

app = typer.Typer()
app.command()(report)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    line = make_line(root)
    make_report(root, line)
    return line["compile"].path


def said(*arguments: object) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_terminal_the_page_the_markdown_and_the_json_say_the_same(engine: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "page.html"
    result = json.loads(said(engine, "--html", file, "--json"))
    page, terminal = Page(file.read_text("utf-8")), " ".join(said(engine).split())
    assert result["summary"] in page.text and result["summary"] in terminal
    assert said(engine, "--markdown").startswith(result["summary"] + "\n\n| stage |")
    assert [step["key"] for step in result["steps"]] == [row[1] for row in page.tables["keys"][1:]]
    assert (result["verdict"], result["artifact"], result["html"]) == ("none", str(engine), str(file))
    steps = {step["stage"]: step for step in result["steps"]}
    assert f"{steps['quantize']['ms_p50']:.2f}" == page.column("stages", "ms p50", "quantize") in terminal


def test_nothing_is_cut_off_on_80_columns(engine: Path) -> None:
    table = said(engine)
    assert "\u2026" not in table and max(map(len, table.splitlines())) <= 80


def test_a_report_elsewhere_is_given_by_its_folder_or_its_file(engine: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "kept"
    (engine.parent / "report-made").rename(elsewhere)
    try:
        by_folder, by_file = (
            said(engine, "--measured", path, "--markdown") for path in (elsewhere, elsewhere / "report.json")
        )
        assert by_folder == by_file != said(engine, "--markdown"), "without it there are compile's latencies"
    finally:
        elsewhere.rename(engine.parent / "report-made")


def test_what_is_not_there_is_a_typed_error(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no shipped model of this name"):
        said(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="cannot be read") as caught:
        said(engine, "--measured", tmp_path)
    assert caught.value.where == str(tmp_path / "report.json") and caught.value.expected == "a report.json"
    with pytest.raises(SpecError, match="no shipped target of this name"):
        said("people-128", "--target", "no-such-board")


def test_the_newest_report_of_an_engine_is_taken(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    first = make_report(tmp_path, line, date="2026-11-25 10:00 UTC")
    first.rename(first.with_name("report-older"))
    make_report(tmp_path, line, date="2026-11-26 10:00 UTC", commands=["the newer one"])
    found = json.loads(said(line["compile"].path, "--json"))["record"]
    assert (found["made"], found["commands"]) == ("2026-11-26 10:00 UTC", ["the newer one"])
    assert found["engine"] == key_of("compile")
