"""The pipeline over a finished run: what is there is checked and skipped, gates stop, missing packages are named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro_line import STAGES, Line, environment

from flowpose import pipeline
from flowpose.artifact import open_artifact
from flowpose.errors import GateFailed, IntegrityError, MissingDependency, SpecError
from flowpose.job import ORDER, stage_keys
from flowpose.pipeline import MAKERS, judged, maker, measured
from flowpose.spec.reading import load_calibration, load_target
from flowpose.spec.recipe import Gate

AGAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from micro_line import micro_recipe
from flowpose import pipeline
from flowpose.spec.reading import load_target
folder = Path(sys.argv[2])
told = []
run = pipeline.Run(recipe=micro_recipe(folder), root=folder / "out", say=told.append)
done, report = pipeline.run(run, load_target("cpu"))
heavy = sorted({"torch", "onnx", "modelopt", "diffusers"} & {name.split(".")[0] for name in sys.modules})
print(json.dumps({"skipped": [each.skipped for each in done], "told": told, "heavy": heavy, "report": str(report)}))
"""


@pytest.fixture
def copied(line: Line, tmp_path: Path) -> Path:
    """A copy of the finished run's artifacts, to break."""
    root = tmp_path / "out"
    shutil.copytree(line.root, root, ignore=shutil.ignore_patterns("work"))
    return root


def test_a_run_makes_every_stage_and_a_report(line: Line) -> None:
    made = line.result["stages"]
    assert [each["stage"] for each in made] == list(STAGES)
    assert not any(each["skipped"] for each in made)
    for each in made:
        artifact = open_artifact(each["path"])
        assert artifact.manifest.key == each["key"] and artifact.manifest.name == "tiny"
    report = Path(line.result["report"])
    assert {file.name for file in report.parent.iterdir()} == {
        "report.html", "sheet.png", "latency.json", "report.json"
    }  # fmt: skip


def test_keys_are_those_of_the_recipe_alone(line: Line) -> None:
    calibration = load_calibration(line.recipe().quantize.calibration)
    keys = stage_keys(line.recipe(), calibration.model_dump(mode="json"))
    assert {
        each["stage"]: each["key"] for each in line.result["stages"] if each["stage"] != "compile"
    } == keys


def test_history_goes_back_to_the_autoencoder(line: Line) -> None:
    manifest = open_artifact(line.path("compile")).manifest
    assert [each.kind for each in manifest.history] == [
        "autoencoder",
        "model",
        "student",
        "quantized",
        "graph",
    ]
    keys = [each["key"] for each in line.result["stages"]]
    assert [each.key for each in manifest.history] == keys[:-1]


def test_the_report_has_a_row_for_every_form_of_the_model(line: Line) -> None:
    rows = {row["stage"]: row for row in line.result["rows"]}
    assert list(rows) == [
        "truth", "copy-source", "teacher-1", "student", "student int8", "student fp32", "teacher-2"
    ]  # fmt: skip
    for label in ("student int8", "student fp32", "teacher-2"):
        assert rows[label]["ms_p95"] >= rows[label]["ms_p50"] > 0
    assert rows["student int8"]["megabytes"] < rows["student fp32"]["megabytes"]
    assert rows["truth"]["psnr"] == 100
    latency = json.loads((Path(line.result["report"]).parent / "latency.json").read_text())
    assert {each["label"] for each in latency["stages"]} == {"student int8", "student fp32", "teacher-2"}


def test_a_second_run_skips_everything_and_loads_no_torch(line: Line) -> None:
    before = {path: path.stat().st_mtime_ns for path in line.root.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(Path(__file__).parent), str(line.folder)],
        capture_output=True, text=True, env=environment(), timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["skipped"] == [True] * len(STAGES)
    assert found["heavy"] == []
    assert len(found["told"]) == len(STAGES) + 1
    assert all("there, skipped" in text for text in found["told"])
    assert Path(found["report"]) == Path(line.result["report"]).parent
    assert {path: path.stat().st_mtime_ns for path in line.root.rglob("*")} == before


def test_stages_up_to_one(line: Line) -> None:
    told: list[str] = []
    done = line.run(say=told.append).stages("distill")
    assert [each.stage for each in done] == ["autoencoder", "train", "distill"]
    assert told[0].startswith("[1/3] autoencoder  ")
    assert done[0].plain()["skipped"] is True and json.dumps(done[0].plain())


def test_a_changed_byte_in_any_file_is_refused_and_the_file_named(line: Line, copied: Path) -> None:
    run = line.run(root=copied)
    checked = 0
    for stage in STAGES:
        artifact = copied / "tiny" / line.path(stage).name
        for file in sorted(path for path in artifact.rglob("*") if path.is_file()):
            raw = file.read_bytes()
            place = len(raw) // 2
            file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
            with pytest.raises(IntegrityError, match=re.escape(str(file))):
                pipeline.run(run, load_target("cpu"))
            file.write_bytes(raw)
            checked += 1
    assert checked == sum(len(open_artifact(line.path(stage)).manifest.files) + 1 for stage in STAGES)
    assert all(each.skipped for each in pipeline.run(run, load_target("cpu"))[0])


def test_a_missing_file_and_one_too_many_are_refused(line: Line, copied: Path) -> None:
    weights = copied / "tiny" / line.path("train").name / "generator.safetensors"
    extra = weights.with_name("notes.txt")
    extra.write_text("mine")
    with pytest.raises(IntegrityError, match=r"notes\.txt: the file is not one of"):
        line.run(root=copied).stages("train")
    extra.unlink()
    weights.unlink()
    with pytest.raises(IntegrityError, match=r"generator\.safetensors: the file is missing.*Fix: delete"):
        line.run(root=copied).stages("train")


def gate(stage: str = "train", metric: str = "teacher-1.psnr", **limits: float) -> str:
    return f"gates={json.dumps([{'stage': stage, 'metric': metric, **limits}])}"


def test_a_failed_gate_stops_the_run_and_tells_how_to_waive_it(line: Line) -> None:
    text = r"teacher-1\.psnr: outside the recipe's limit, got \d+.*expected limit 90"
    with pytest.raises(GateFailed, match=text) as caught:
        line.run(gate(min=90)).stages("train")
    assert caught.value.fix is not None and "--waive teacher-1.psnr=REASON" in caught.value.fix
    assert str(line.path("train")) in str(caught.value)


def test_a_waived_gate_is_recorded_with_its_reason(line: Line) -> None:
    done = line.run(gate(min=90), waive={"teacher-1.psnr": "a toy"}).stages("train")
    (result,) = done[-1].gates
    assert (result.passed, result.waived, result.limit) == (False, "a toy", 90)
    assert done[-1].plain()["gates"][0]["waived"] == "a toy"


def test_gates_that_hold_are_recorded(line: Line) -> None:
    done = line.run(gate(min=1, max=99), waive={"teacher-1.psnr": "never needed"}).stages("train")
    assert [(result.limit, result.passed, result.waived) for result in done[-1].gates] == [
        (1, True, None), (99, True, None)
    ]  # fmt: skip
    assert done[0].gates == ()


def test_a_gate_holds_at_its_limit(line: Line) -> None:
    artifact = open_artifact(line.path("train"))
    value = measured(artifact, "copy-source.psnr")
    for limits in ({"min": value}, {"max": value}):
        (result,) = judged([Gate(stage="train", metric="copy-source.psnr", **limits)], "train", artifact, {})
        assert result.passed


def test_metrics_are_named_with_or_without_a_label(line: Line) -> None:
    export, train = (open_artifact(line.path(stage)) for stage in ("export", "train"))
    assert measured(export, "export.fp32_parity_mean") == measured(export, "fp32_parity_mean")
    assert measured(export, "size_frame.int8") == measured(export, "export.size_frame.int8") > 0
    assert measured(train, "truth.psnr") == 100
    several = r"several things, expected one of copy-source\.psnr, teacher-1\.psnr, truth\.psnr"
    with pytest.raises(GateFailed, match=several):
        measured(train, "psnr")
    with pytest.raises(GateFailed, match=r"was not measured, expected one of .*teacher-1\.psnr"):
        measured(train, "teacher-9.psnr")


@pytest.mark.parametrize("stage", ORDER)
def test_a_missing_package_is_named_with_its_extra(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError("No module named 'wanted'", name="wanted")

    monkeypatch.setattr(pipeline.importlib, "import_module", absent)
    with pytest.raises(
        MissingDependency, match=rf"got wanted\. Fix: pip install 'flowpose\[{MAKERS[stage][2]}\]'"
    ):
        maker(stage)


def test_missing_packages_are_found_before_any_work(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = pipeline.importlib.util.find_spec
    monkeypatch.setattr(
        pipeline.importlib.util, "find_spec", lambda name: None if name == "modelopt" else there(name)
    )
    text = (
        r"stage quantize: a package is not installed, got modelopt\. Fix: pip install 'flowpose\[quantize\]'"
    )
    with pytest.raises(MissingDependency, match=text):
        line.run(root=tmp_path / "none").stages("export")
    assert not (tmp_path / "none").exists()
    assert all(each.skipped for each in line.run().stages("export")), "what is there needs no package"


def test_every_stage_has_a_maker() -> None:
    assert list(MAKERS) == list(ORDER)
    assert all(callable(maker(stage)) for stage in ORDER)


def test_nothing_is_started_where_recipe_and_target_do_not_fit(line: Line, tmp_path: Path) -> None:
    run = line.run("compile.threads=64", root=tmp_path / "none")
    with pytest.raises(SpecError, match=r"recipe\.compile\.threads"):
        pipeline.run(run, load_target("cpu"))
    assert not (tmp_path / "none").exists()
