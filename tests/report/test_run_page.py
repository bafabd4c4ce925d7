"""The page of a run: every number is a manifest's or the report's, what is missing is said, nothing is from outside."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from report.made_line import (
    CARD,
    LAYERS,
    ROWS,
    SIZES,
    Page,
    key_of,
    make_line,
    make_report,
    measured,
)

from flowpose import bundle, image
from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, SpecError
from flowpose.report.curves import COLOURS
from flowpose.report.html import STYLE, StageRow
from flowpose.report.line import line_of, verdict
from flowpose.report.run_html import Findings, markdown_page, run_page, summary
from flowpose.report.run_record import REPORT, RunRecord, read_record
from flowpose.report.run_sections import limit_text
from flowpose.report.waterfall import STEP_COLUMNS, WORDS, Expected, markdown, megabytes
from flowpose.report_command import find_place, gather
from flowpose.spec.find import shipped
from flowpose.spec.manifest import GateResult

MET = GateResult(stage="autoencoder", metric="psnr", limit=33, value=33.217, passed=True, by="recipe")
WAIVED = GateResult(
    stage="finish", metric="student-1.jitter", limit=1.5, value=2.75, passed=False, waived="a <trial>", by="recipe"
)  # fmt: skip
FAILED = GateResult(stage="finish", metric="own_lpips", limit=0.25, value=0.375, passed=False, by="recipe")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    root = tmp_path_factory.mktemp("made")
    found = make_line(root, gates={"autoencoder": [MET], "finish": [WAIVED]})
    make_report(root, found)
    return found


@pytest.fixture(scope="module")
def found(made: dict[str, Artifact]) -> Findings:
    return gather(find_place(made["compile"].path))


@pytest.fixture(scope="module")
def page(found: Findings) -> Page:
    return Page(run_page(found))


def test_every_stage_shows_its_own_numbers(page: Page) -> None:
    rows = {row.stage: row for row in ROWS}
    for stage, form in (("teacher_finish", "teacher-16"), ("finish", "student-1"), ("quantize", "int8")):
        row = rows[form]
        assert page.column("stages", "ms p50", stage) == f"{row.ms_p50:.2f}"
        assert page.column("stages", "ms p95", stage) == f"{row.ms_p95:.2f}"
        assert page.column("stages", "MB", stage) == f"{row.megabytes:.2f}"
        assert page.column("stages", "own-LPIPS", stage) == f"{row.own_lpips:.3f}"
        assert page.column("stages", "top octave", stage) == f"{row.spectrum_top:.2f}"
        assert page.column("stages", "PCK@0.1", stage) == f"{row.pck:.3f}"
        assert page.column("stages", "jitter", stage) == f"{row.jitter:.2f}"
        assert page.column("stages", "judged on", stage) == "64, graphs"
        assert page.column("stages", "timed", stage) == "measured"
    assert page.column("stages", "ms p50", "compile") == page.column("stages", "ms p50", "quantize")
    assert page.column("stages", "PSNR dB", "autoencoder") == "33.22"
    assert page.column("stages", "training s", "finish") == "900", "450 s of 300 steps, for 600"
    assert page.column("stages", "training s", "train") == "84", "its joints, and itself"
    assert page.column("stages", "training s", "distill") == "-"
    assert page.column("stages", "MB", "export") == f"{sum(SIZES.values()):.2f}"
    assert page.column("stages", "makes", "export") == f"{len(SIZES)} graphs"


@pytest.mark.parametrize("stage", ["train", "distill"])
def test_what_was_finished_later_shows_what_its_stage_measured(page: Page, stage: str) -> None:
    own = {m.metric: m for m in measured(stage)}
    assert page.column("stages", "own-LPIPS", stage) == f"{own['own_lpips'].value:.3f}"
    assert page.column("stages", "jitter", stage) == f"{own['jitter'].value:.2f}"
    assert page.column("stages", "judged on", stage) == f"{own['own_lpips'].n}, PyTorch"
    assert page.column("stages", "ms p50", stage) == page.column("stages", "MB", stage) == "-"


def test_the_forms_gates_layers_predictions_and_latencies_are_the_stored_ones(
    page: Page, found: Findings
) -> None:
    for row in ROWS:
        text = "-" if row.own_lpips is None else f"{row.own_lpips:.3f}"
        assert page.column("forms", "own-LPIPS", row.stage) == text
    assert page.column("gates", "value", "finish") == "2.75"
    assert page.column("gates", "limit", "finish") == "at most 1.5"
    assert page.column("gates", "limit", "autoencoder") == "at least 33"
    for layer in LAYERS[:20]:
        assert page.column("most sensitive layers", "PSNR dB", layer["layer"]) == f"{layer['psnr']:.1f}"
    assert len(page.tables["less sensitive layers"]) == 1 + len(LAYERS) - 20
    assert page.column("predictions", "ms a frame", "jetson") == "1.81"
    assert page.column("predictions", "status", "jetson") == "predicted"
    assert page.column("latency, ms", "p50", "int8") == "13.40"
    assert page.column("worst cases", "own-LPIPS", "17") == "0.412"
    assert page.column("worst cases", "why", "17") == "joints are <not> where they were asked"
    assert len(page.tables["measurements"]) == 1 + len(found.record.measurements)


def test_what_a_layer_costs_is_called_a_mean(page: Page) -> None:
    """As `flowpose.quantize.sensitivity.Beside.of` computes it."""
    assert (
        "with this layer alone quantized: its mean, and the line goes down to the 5th percentile" in page.text
    )


def test_the_head_says_what_where_when_and_the_verdict(page: Page, found: Findings) -> None:
    for words in (
        "1 of 2 gates met, waived: finish student-1.jitter", "waived: a <trial>", "EPYC, 2 cores, x86_64, Linux 6",
        "2026-11-26 06:30 UTC", "int8 on openvino", "flowpose run made --target cpu", key_of("finish")[:12],
        "64 pairs of people/val, drawn with seed 0", *CARD.values(), "d" * 64,
    ):  # fmt: skip
        assert words in page.text
    said = summary(found)
    assert said.startswith(
        "A frame takes 13.42 ms (p95 15.85) and 6.58 MB as int8 on openvino, target cpu, measured;"
    )
    assert "teacher-16 takes 144.52 ms, 10.8 times as long" in said and "On 64 pairs of people/val" in said
    assert said in page.text


def test_the_waterfall_falls_from_the_slowest_teacher_to_the_engine(page: Page) -> None:
    (drawn,) = [each for each in page.all("div") if each.get("class") == "falls"]
    assert drawn["aria-label"] == (
        "teacher-50 428.54 ms; teacher-16 144.52 ms; student-1 20.90 ms; int8 13.42 ms"
    )
    now = [float(each["width"] or 0) for each in page.all("rect") if each.get("class") == "now"]
    assert now[::2] == pytest.approx([100, 33.72, 4.88, 3.13], abs=0.01), "bars are as long as the latencies"
    assert "6.91 times as fast as teacher-16" in page.text and "1.56 times as fast as student-1" in page.text


def test_the_page_needs_nothing_beside_it_and_allows_nothing_else(found: Findings) -> None:
    text = run_page(found)
    page = Page(text)
    assert "http" not in text and "@import" not in text and "url(" not in text
    links = [
        value or "" for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")
    ]
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    ids = [str(attrs["id"]) for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} == set(ids)
    assert not [n for _, attrs in page.tags for n in attrs if n.startswith("on") or n == "style"]
    policy = next(each["content"] for each in page.all("meta") if "content" in each and "http-equiv" in each)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert len(page.all("script")) == 1


def test_the_page_can_be_heard(page: Page) -> None:
    assert [name for name, _ in page.tags if name in ("h1", "h2", "h3")][:2] == ["h1", "h2"]
    assert len(page.all("h1")) == 1 and page.all("html")[0]["lang"] == "en"
    assert all(each["alt"] for each in page.all("img")) and len(page.all("img")) == 2
    assert all(each["scope"] in ("col", "row") for each in page.all("th"))
    scrolled = [each for each in page.all("div") if each.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in scrolled)
    drawn = [name for name, _ in page.tags].count("title") - 1
    assert drawn == sum(each.get("role") == "img" for each in page.all("svg")), "every drawing has its text"


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_curves_stand_out_from_the_paper(scheme: int) -> None:
    names = dict(re.findall(r"--(\w+):(#[0-9a-f]+)", re.findall(r":root\{([^}]*)\}", STYLE)[scheme]))
    for ink in ("ink", "soft", "good", "warn", "bad", "link"):
        for paper in ("paper", "band"):
            assert contrast(names[ink], names[paper]) >= 4.5, (ink, paper)
    assert all(contrast(each, names["paper"]) >= 3 for each in (*COLOURS, names["bar"]))


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    name = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    line = make_line(tmp_path, gates={"finish": [WAIVED.model_copy(update={"waived": name})]}, name=name)
    record = RunRecord(recipe=name, rows=(StageRow(name, 1, name, own_lpips=0.5),), commands=(name,))
    hostile = Findings(
        line=line_of(line["compile"], list(line.values())), record=record,
        pictures={name: np.zeros((4, 4, 3), np.uint8)},
    )  # fmt: skip
    page = Page(run_page(hostile))
    assert len(page.all("script")) == 1 and len(page.all("img")) == 1
    assert page.all("img")[0]["alt"] == name and "alert(1)" in page.text
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert len(markdown_page(hostile).splitlines()[2].split(" | ")) == len(STEP_COLUMNS)


def test_what_is_no_number_is_a_dash(made: dict[str, Artifact]) -> None:
    rows = (StageRow("int8", 1, "int8", math.nan, math.inf, None, own_lpips=math.nan),)
    text = run_page(Findings(line=line_of(made["compile"]), record=RunRecord(recipe="made", rows=rows)))
    assert not re.search(r"\b(nan|inf|None|null)\b", Page(text).text.partition("for (const table")[0])


def test_markdown_page_and_table_are_the_same_texts(page: Page, found: Findings) -> None:
    heads, marks, *rows = markdown(found.steps).splitlines()

    def cells(line: str) -> list[str]:
        return [each.strip() for each in line.strip("|").split("|")]

    assert [cells(heads), *map(cells, rows)] == page.tables["stages"]
    assert [each == "---" for each in cells(marks)] == [head in WORDS for head in cells(heads)]
    assert markdown_page(found).count("\n\n") == 2, "sentence, waterfall, forms"


@pytest.mark.parametrize(
    ("gates", "kind", "text"),
    [
        ([], "none", "no gate was set"),
        ([MET], "met", "the gate is met"),
        ([MET, WAIVED], "waived", "1 of 2 gates met, waived: finish student-1.jitter"),
        ([MET, WAIVED, FAILED], "failed", "1 of 3 gates failed: finish own_lpips"),
    ],
)
def test_one_gate_that_failed_decides(gates: list[GateResult], kind: str, text: str) -> None:
    assert (verdict(gates).kind, verdict(gates).text) == (kind, text)


@pytest.mark.parametrize(
    ("value", "limit", "passed", "text"),
    [(2, 1, True, "at least 1"), (2, 1, False, "at most 1"), (1, 2, True, "at most 2"), (1, 2, False, "at least 2"),
     (2, 2, True, "2")],
)  # fmt: skip
def test_the_side_of_a_limit_is_told_from_value_and_result(
    value: float, limit: float, passed: bool, text: str
) -> None:
    assert limit_text(GateResult(stage="finish", metric="m", value=value, limit=limit, passed=passed)) == text


def test_a_run_that_a_gate_stopped_is_a_page_with_the_worst_cases(tmp_path: Path) -> None:
    line = make_line(tmp_path, ("autoencoder", "train", "distill", "finish"), {"finish": [FAILED]})
    sheet = tmp_path / "made" / "failed" / f"finish-{key_of('finish')[:12]}-own_lpips.png"
    image.write(sheet, np.zeros((8, 8, 3), np.uint8))
    page = Page(run_page(gather(find_place(line["finish"].path))))
    assert "the gate is met" not in page.text and "1 of 1 gates failed: finish own_lpips" in page.text
    assert page.all("img")[0]["alt"] == (
        "finish: the pairs that are worst in own_lpips, 0.375 with the limit 0.25; worst first"
    )
    assert "no latency was measured of this student" in page.text and "No latency was measured." in page.text
    own = {m.metric: m.value for m in measured("finish")}
    assert page.column("stages", "own-LPIPS", "finish") == f"{own['own_lpips']:.3f}"
    assert "compile" not in [row[0] for row in page.tables["stages"]]


def test_an_engine_without_a_report_shows_what_compile_timed(tmp_path: Path) -> None:
    line = make_line(tmp_path, ("autoencoder", "train", "distill", "quantize", "export", "compile"))
    page = Page(run_page(gather(find_place(line["compile"].path))))
    assert page.column("stages", "ms p50", "compile") == "8.12"
    assert page.column("stages", "timed", "compile") == "by compile"
    assert page.column("stages", "ms p50", "distill") == "13.69", "the student in the engine's backend"
    assert page.column("stages", "MB", "quantize") == f"{SIZES['size_frame.int8'] + SIZES['size_source']:.2f}"
    assert "The recipe sets no gates" in page.text and "The worst cases were not kept." in page.text
    assert "not these keys" in page.text, "no recipe of this name ships"
    assert {row[0] for row in page.tables["stages"][1:]} == {
        "autoencoder", "train", "distill", "quantize", "export", "compile"
    }  # fmt: skip


def test_what_is_predicted_is_marked(tmp_path: Path) -> None:
    line = make_line(tmp_path, ("autoencoder", "train", "distill", "quantize", "export"))
    expected = Expected("jetson", {"fp32": 3.25, "int8": 2.125})
    found = Findings(line=line_of(line["export"]), record=RunRecord(recipe="made"), expected=expected)
    page = Page(run_page(found))
    assert page.column("stages", "ms p50", "quantize") == "2.12"
    assert (
        page.column("stages", "timed", "quantize")
        == page.column("stages", "timed", "distill")
        == "predicted for jetson"
    )
    assert page.column("stages", "ms p95", "quantize") == "-"


def test_siblings_that_are_gone_are_stages_with_a_key_only(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    alone = line_of(line["export"])
    assert [each.name for each in alone.stages] == [stage for stage in line if stage != "compile"]
    assert {each.name for each in alone.stages if not each.kind} == {"regressor", "teacher_finish"}
    page = Page(run_page(Findings(line=alone, record=RunRecord(recipe="made"))))
    assert (
        page.column("stages", "own-LPIPS", "regressor") == "-" and "Only its key is known here." in page.text
    )


def test_gates_are_those_that_the_run_judged_last(tmp_path: Path) -> None:
    line = make_line(tmp_path, gates={"finish": [FAILED]})
    make_report(tmp_path, line, gates=[MET.model_dump()])
    assert "the gate is met" in Page(run_page(gather(find_place(line["compile"].path)))).text


@pytest.mark.parametrize("row", ["student-1", "int8", "teacher-16", "l1"])
def test_megabytes_are_the_source_graph_and_one_frame_graph(row: str) -> None:
    frame = {
        "student-1": "frame.fp32",
        "int8": "frame.int8",
        "teacher-16": "teacher.frame",
        "l1": "l1.frame",
    }[row]
    assert megabytes(row, SIZES) == pytest.approx(SIZES[f"size_{frame}"] + SIZES["size_source"])
    assert megabytes(row, {}) is None


@pytest.mark.parametrize(
    ("stage", "record"),
    [
        ("compile", {"recipe": "other", "engine": key_of("compile")}),
        ("compile", {"recipe": "made", "engine": "e" * 64}),
        ("export", {"recipe": "made", "engine": key_of("compile"), "graph": "e" * 64}),
    ],
)
def test_a_report_of_another_model_is_refused(
    tmp_path: Path, made: dict[str, Artifact], stage: str, record: dict[str, str]
) -> None:
    (tmp_path / REPORT).write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="another model") as caught:
        gather(find_place(made[stage].path, tmp_path))
    got, expected = str(caught.value.got), str(caught.value.expected)
    assert got != expected and got.startswith(record["recipe"]) and key_of(stage)[:12] in expected


def test_a_report_whose_engine_is_gone_says_what_to_give(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "report-x"
    folder.mkdir(parents=True)
    (folder / REPORT).write_text(json.dumps({"recipe": "made", "engine": "e" * 64}))
    with pytest.raises(ArtifactError, match="engine is not beside it") as caught:
        find_place(folder)
    assert caught.value.got == "e" * 12 and "--measured" in str(caught.value.fix)


def test_a_broken_record_names_its_problems(tmp_path: Path) -> None:
    file = tmp_path / REPORT
    file.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read") as caught:
        read_record(file)
    assert "flowpose run" in str(caught.value.fix)
    file.write_text(json.dumps({"recipe": 3, "rowz": []}))
    with pytest.raises(SpecError, match=r"report\.recipe: wrong type(.|\n)*report\.rowz: unknown key"):
        read_record(file)


SHIPPED = pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)


@SHIPPED
def test_an_unpacked_bundle_has_a_page(tmp_path: Path) -> None:
    bundle.seal("people-128", ["jetson-orin-nano-8gb"], tmp_path / "unpacked")
    found = gather(find_place(tmp_path / "unpacked"), "cpu")
    page = Page(run_page(found))
    assert page.column("stages", "timed", "quantize") == "predicted for cpu"
    own = found.line.of("distill")
    assert own is not None and own.measurements, "the history tells what the stages measured"
    targets = {row[0] for row in page.tables["predictions"][1:]}
    assert set(shipped("targets")) >= targets and "jetson-orin-nano-8gb" in targets


@SHIPPED
def test_the_stored_report_of_the_shipped_model_is_read() -> None:
    """Reports made before `format` was written hold less, and are reports all the same."""
    stored = Path(__file__).parents[2] / "benchmarks" / "results" / "people-128-report.json"
    report = json.loads(stored.read_text("utf-8"))
    found = gather(find_place("people-128", stored))
    rows = {row["stage"]: row for row in report["rows"]}
    page = Page(run_page(found))
    assert page.column("stages", "ms p50", "quantize") == f"{rows['int8']['ms_p50']:.2f}"
    assert page.column("stages", "own-LPIPS", "quantize") == f"{rows['int8']['own_lpips']:.3f}"
