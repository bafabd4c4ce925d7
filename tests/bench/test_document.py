"""The document of `flowpose bench`: its schema, its round trip, the page that shows it, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from calling import Call, caller

from flowpose import bench_command
from flowpose.artifact import Artifact
from flowpose.bench import ColdStart, scenarios
from flowpose.bench.document import BenchDocument
from flowpose.bench.schema import SCHEMA, schema_text
from flowpose.errors import SpecError
from flowpose.report.curves import distribution, timeline
from flowpose.report.latency_html import latency_page
from flowpose.spec.reading import load_target

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ALL = ("--scenario", "single,multi", "--rate", "100,200", "--seconds", "0.2", "-n", 12, "--threads", 1)


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setattr("flowpose.bench.cold_start", lambda *_, **__: ColdStart(0.1, 0.2, 0.3, 40.0))
    return caller(monkeypatch, capsys, columns=160)


@pytest.fixture(scope="module")
def found(tiny: Artifact) -> BenchDocument:
    plan = bench_command.BenchPlan(
        precisions=("fp32", "int8"), runs=20, threads=1, cold_runs=0,
        scenarios=bench_command.ScenarioPlan(("single", "open"), (50.0,), 0.3),
    )  # fmt: skip
    return bench_command.bench_model(str(tiny.path), "cpu", plan).document


def test_the_stored_schema_is_the_documents() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(), "python -m flowpose.bench.schema writes it anew"
    required = json.loads(SCHEMA.read_text("utf-8"))["required"]
    assert {"verdict", "stages", "open_loops", "observed", "machine"} <= set(required)


def test_a_document_comes_back_from_json_as_it_was(found: BenchDocument) -> None:
    again = BenchDocument.parse(json.loads(json.dumps(found.plain(raw=True))), "bench")
    assert again == found
    short = BenchDocument.parse(found.plain(), "bench")
    assert short.stages[0].ms == () and short.stages[0].p95 == found.stages[0].p95
    assert '"ms"' not in json.dumps(found.plain()) and '"ms"' in json.dumps(found.plain(raw=True))


def test_a_rate_is_told_of_closed_loops_and_streams_alone(found: BenchDocument) -> None:
    stored = found.plain()
    latencies = [
        *(each["latency"] for each in (*stored["closed_loops"], *stored["open_loops"])),
        *(each["age"] for each in stored["open_loops"]),
        *(part for each in stored["frame_parts"] for part in (each["whole"], *each["parts"].values())),
    ]  # fmt: skip
    assert len(latencies) > 10 and not any("fps" in each for each in latencies)
    for loop in found.closed_loops:
        assert loop.fps == pytest.approx(1000 / loop.latency.mean), "single-stream"
    assert all(loop.fps > 0 for loop in found.open_loops)


def test_stored_documents_are_read_with_the_rates_that_latencies_had(found: BenchDocument) -> None:
    before = found.plain(raw=True)
    for loop in before["open_loops"]:
        loop["latency"]["fps"] = loop["age"]["fps"] = 1.0
    for parts in before["frame_parts"]:
        parts["parts"]["post"]["fps"] = 123_921.0
    del before["closed_loops"][0]["fps"], before["closed_loops"][0]["rules_seconds"]
    read = BenchDocument.parse(before, "bench")
    assert read.open_loops == found.open_loops and read.frame_parts == found.frame_parts
    assert read.closed_loops[0].fps is None and "<td>-</td>" in latency_page(read)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("people-*.json")), ids=lambda file: file.stem)
def test_what_is_stored_is_read(file: Path) -> None:
    stored = json.loads(file.read_text("utf-8"))
    if "schema_version" in stored:
        assert BenchDocument.parse(stored, file.stem).plain()["models"] == stored["models"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema_version": 2}, "bench.schema_version: unknown value, got 2"),
        ({"verdict": {"kind": "fine"}}, "bench.verdict.kind: unknown value, got 'fine'"),
        ({"verdicts": {}}, "bench.verdicts: unknown key"),
    ],
)
def test_a_document_of_another_form_is_refused(found: BenchDocument, change: dict, text: str) -> None:
    with pytest.raises(SpecError, match=re.escape(text)):
        BenchDocument.parse({**found.plain(), **change}, "bench")


def test_the_keys_that_readers_rely_on_are_there(
    flowpose: Call, tiny: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(scenarios.MULTI_STREAM, shares=(90.0,), min_queries=1)  # 64 queries; 662 take seconds
    monkeypatch.setattr(scenarios, "MULTI_STREAM", few)
    said = flowpose("bench", tiny.path, "--compare", "int8,fp32", *ALL, "--cold-runs", 3, "--json").json
    assert BenchDocument.parse(said, "bench").schema_version == 1
    assert said["ratios"]["fp32/int8"]["p50"] > 0 and set(said["by_stage"]) == {
        "source",
        "frame",
        "session",
        "infer",
    }
    assert said["models"]["int8"]["threads"] == 1 and said["roofline"] == {}
    assert said["cold_start"]["n"] == 3 and said["cold_start"]["load_s"] == 0.2
    assert [part["label"] for part in said["frame_parts"]] == ["int8", "fp32"]
    loops = [(loop["label"], loop["scenario"]) for loop in said["closed_loops"]]
    assert loops == [(label, f"{kind}-stream") for label in ("int8", "fp32") for kind in ("single", "multi")]
    assert [loop["poses_per_query"] for loop in said["closed_loops"]] == [1, 8, 1, 8]
    rates = [(loop["rate"], loop["policy"]) for loop in said["open_loops"] if loop["label"] == "int8"]
    assert rates == [(100, "newest"), (100, "fifo"), (200, "newest"), (200, "fifo")], "--rate asks for `open`"
    assert said["verdict"]["kind"] in ("noisy", "throttled"), (
        "hardware that tells its clocks may be throttled, too"
    )
    assert any("too few to judge" in reason for reason in said["verdict"]["reasons"])


def test_the_terminal_shows_tables_and_the_verdict_line(flowpose: Call, tiny: Artifact) -> None:
    said = flowpose("bench", tiny.path, "--rate", "100", "--policy", "newest", "--seconds", "0.1", "-n", 5)
    assert said.code == 0
    for text in (
        "Latency",
        "Parts of a frame",
        "Open loop",
        "Cold start",
        "The machine meanwhile",
        "age p95",
        "glue",
    ):
        assert text in said.out
    assert re.search(r"^(noisy|throttled): .*too few to judge", said.out, re.MULTILINE)
    assert "fifo" not in said.out and "Closed loop" not in said.out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--scenario", "double"), "scenario: unknown, got double"),
        (("--rate", "fast"), "rate: not a number, got 'fast', expected as 15,30,60"),
        (("--rate", "30,-1"), "rate: nothing to measure, got -1"),
        (("--rate", "30", "--policy", "oldest"), "policy: unknown, got oldest"),
        (("--scenario", "open", "--seconds", 0), "seconds: nothing to measure, got 0"),
    ],
)
def test_options_that_cannot_be(flowpose: Call, tiny: Artifact, options: tuple, text: str) -> None:
    said = flowpose("bench", tiny.path, *options)
    assert said.code == 1 and text in said.err and said.out == ""


def test_another_target_than_this_machine_makes_the_verdict_predicted() -> None:
    assert bench_command.elsewhere(load_target("cpu")) == ""
    text = bench_command.elsewhere(load_target("jetson-orin-nano-8gb"))
    assert "which is no jetson-orin-nano-8gb" in text
    assert "which is no h100" in bench_command.elsewhere(load_target("h100"))


def test_the_page_holds_the_numbers_and_needs_nothing_beside_it(found: BenchDocument, tmp_path: Path) -> None:
    page = latency_page(found)
    for stage in found.stages:
        assert f"<td>{stage.p50:.2f}</td>" in page and f"<td>{stage.p95:.2f}</td>" in page
        assert stage.n == 20 and stage.p99 is None, "no sample lies above it"
    for loop in found.open_loops:
        assert f"<td>{loop.latency.high:.2f}</td>" in page and f"<td>{loop.age.high:.2f}</td>" in page
        assert f"<td>{loop.missed:.1%}</td>" in page
    for parts in found.frame_parts:
        assert f"glue {parts.glue:.1%} of a frame" in page
    assert found.closed_loops[0].tails[0].text in page and f">{found.verdict.kind}<" in page
    assert all(escape(reason) in page for reason in found.verdict.reasons)
    assert all(escape(why) in page for why in found.observed.absent.values()), (
        "what could not be read is named"
    )
    names = 8 + 2 + 4
    assert page.count('<svg class="chart"') == 1 + names, "one distribution, and a timeline of every series"
    assert not re.search(r"(src|href)=|url\(|https?://", page)


def test_the_command_writes_the_page(flowpose: Call, tiny: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "new" / "bench.html"
    said = flowpose("bench", tiny.path, "-n", 3, "--html", file, "--no-cold")
    assert said.code == 0 and f"page: {file}" in said.err
    assert file.read_text("utf-8").startswith("<!doctype html>")


def test_a_distribution_reaches_the_largest_sample() -> None:
    drawn = distribution({"a": [10.0] * 5000 + [400.0], "b": [20.0, 30.0]})
    line = re.findall(r'<polyline points="([^"]+)"', drawn)[0].split()
    across = [float(point.split(",")[0]) for point in line]
    assert max(across) == pytest.approx(720 - 12), "the stall is the right end of the axis"
    assert len(line) <= 400 and across == sorted(across)
    assert ">99.9<" in drawn and drawn.count("<polyline") == 2


def test_a_timeline_keeps_a_stall_among_thousands() -> None:
    values = [10.0] * 9000
    values[4321] = 100.0
    path = re.search(r'<path d="(M[^"]+V[^"]+)" stroke="#', timeline(values))
    assert path is not None
    tops = [float(top) for top in re.findall(r"V([\d.]+)", path.group(1))]
    assert len(tops) < 700 and min(tops) < 12 and sorted(tops)[1] > 180, (
        "one column reaches the top, the others a tenth"
    )
