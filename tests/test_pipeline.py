"""The pipeline over a finished run and over stages that only pretend: order, skipping, gates, missing packages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from micro_line import STAGES, Line, Pretence, environment, micro_recipe

from flowpose import image, pipeline
from flowpose.artifact import open_artifact
from flowpose.errors import GateFailed, IntegrityError, MissingDependency, PoseError, SpecError
from flowpose.gates import Case, judged, measured
from flowpose.job import COMPARED, FITTED, ORDER, _digest, stage_keys
from flowpose.pipeline import MAKERS, Run, maker
from flowpose.spec.judging import Gate
from flowpose.spec.reading import load_calibration, load_target
from flowpose.spec.recipe import Recipe

LINEAGE = [stage for stage in ORDER if stage not in COMPARED]
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
        "report.html", "sheet.png", "worst.png", "latency.json", "report.json", "recipe.yaml"
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
        "student",
        "quantized",
        "graph",
    ]
    keys = [each["key"] for each in line.result["stages"] if each["stage"] in LINEAGE]
    assert [each.key for each in manifest.history] == keys


def test_the_report_has_a_row_for_every_form_of_the_model(line: Line) -> None:
    rows = {row["stage"]: row for row in line.result["rows"]}
    assert list(rows) == [
        "truth", "copy-source", "l1", "teacher-1", "teacher-2", "student-1", "int8"
    ]  # fmt: skip
    for label in ("int8", "student-1", "teacher-2"):
        assert rows[label]["ms_p50"] > 0
        assert rows[label]["ms_p95"] is None, "of a few rounds there is none"
    assert rows["int8"]["megabytes"] < rows["student-1"]["megabytes"]
    assert rows["truth"]["psnr"] == 100
    latency = json.loads((Path(line.result["report"]).parent / "latency.json").read_text())
    assert {each["label"] for each in latency["stages"]} == {"int8", "student-1", "teacher-2"}


def test_a_second_run_skips_everything_and_loads_no_torch(line: Line) -> None:
    line.run().stages()  # tests of other files that share the line may have left their gates' results in it
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
    assert [each.stage for each in done] == list(ORDER[:6])
    assert told[0].startswith("[1/6] autoencoder  ")
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


def test_a_failed_gate_stops_the_run_and_shows_the_worst_cases(line: Line, copied: Path) -> None:
    text = r"teacher-1\.psnr: outside the recipe's limit, got \d+.*expected limit 90"
    with pytest.raises(GateFailed, match=text) as caught:
        line.run(gate(min=90), root=copied).stages("train")
    picture = copied / "tiny" / "failed" / f"{line.path('train').name}-teacher-1.psnr.png"
    assert picture.is_file()
    assert caught.value.fix is not None
    assert str(picture) in caught.value.fix and "--waive teacher-1.psnr=REASON" in caught.value.fix
    assert open_artifact(copied / "tiny" / line.path("train").name).manifest.gates[0].passed is False


def test_a_waived_gate_is_recorded_with_its_reason(line: Line, copied: Path) -> None:
    done = line.run(gate(min=90), root=copied, waive={"teacher-1.psnr": "a toy"}).stages("train")
    (result,) = done[-1].gates
    assert (result.passed, result.waived, result.limit) == (False, "a toy", 90)
    assert done[-1].plain()["gates"][0]["waived"] == "a toy"


def test_metrics_of_the_line_are_named_with_or_without_a_label(line: Line) -> None:
    def value(stage: str, metric: str) -> float:
        artifact = open_artifact(line.path(stage))
        return measured(Case(recipe=line.recipe(), stage=stage, artifact=artifact), metric).value

    assert value("export", "export.fp32_parity_mean") == value("export", "fp32_parity_mean")
    assert value("export", "size_frame.int8") == value("export", "export.size_frame.int8") > 0
    assert value("train", "truth.psnr") == value("compile", "truth.psnr") == 100
    contest = open_artifact(line.path("compile")).manifest.contest
    assert value("compile", "frame_ms_p95") == contest[0].p95 and contest[0].chosen


def test_a_gate_that_this_run_waived_speaks_against_int8(line: Line, copied: Path) -> None:
    strict = gate("quantize", "psnr_to_student", min=90)
    run = line.run(strict, root=copied, waive={"psnr_to_student": "a toy"})
    engine = pipeline.run(run, load_target("cpu"))[0][-1].artifact.manifest
    assert not [each for own in engine.history for each in own.gates], "the graph was made before"
    assert engine.precision == "fp32" and "waived: a toy): fp32 kept" in engine.card["choice"]


@pytest.mark.parametrize(
    ("stage", "metric", "of"),
    [
        ("distill", "student-1.own_lpips", "teacher-1.own_lpips"),
        ("finish", "student-1.own_lpips", "l1.own_lpips"),
        ("finish", "student-1.jitter", "teacher-1.jitter"),
    ],
)
def test_the_line_measures_what_relative_gates_ask_for(line: Line, stage: str, metric: str, of: str) -> None:
    recipe = line.recipe(f"gates={json.dumps([{'stage': stage, 'metric': metric, 'max': 1.1, 'of': of}])}")
    artifact, other = open_artifact(line.path(stage)), open_artifact(line.path("regressor"))
    (result,) = judged(Case(recipe=recipe, stage=stage, artifact=artifact, others=(other,)))
    assert result.of == of and result.limit > 0


def pretending(monkeypatch: pytest.MonkeyPatch, **further: Any) -> Pretence:
    """Stages that make their artifacts at once."""
    pretence = Pretence(**further)
    monkeypatch.setattr(pipeline, "maker", pretence.maker)
    return pretence


def write_crowd(root: Path) -> None:
    """Two pictures of one person in each of train and val, in the people format."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number in range(2):
            image.write(root / split / f"{number}.png", np.full((48, 32, 3), 90 + number, np.uint8))
            images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 32})
            triples = [value for joint in range(17) for value in (9.5 + joint / 2, 8 + 2 * joint, 2)]
            annotations.append({"image_id": number, "identity": split, "keypoints": triples})
        coco = {"images": images, "annotations": annotations}
        (root / split / "annotations.json").write_text(json.dumps(coco))


def run_of(folder: Path, *overrides: str, gates: tuple[Gate, ...] = (), **fields: Any) -> Run:
    recipe: Recipe = micro_recipe(folder, *overrides).model_copy(update={"gates": gates})
    return Run(recipe=recipe, root=folder / "out", **fields)


def test_stages_come_in_order_each_from_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretence = pretending(monkeypatch)
    run_of(tmp_path).stages()
    assert pretence.asked == [
        ("autoencoder", None),
        ("train", "autoencoder"),
        ("regressor", "train"),
        ("teacher_finish", "train"),
        ("distill", "train"),
        ("finish", "distill"),
        ("quantize", "finish"),
        ("export", "quantize"),
    ]
    assert {stage: found for stage, found in pretence.siblings.items() if found} == {
        stage: list(ORDER[:number]) for number, stage in enumerate(ORDER) if number
    }


def test_a_bare_recipe_has_five_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretence = pretending(monkeypatch)
    done = run_of(tmp_path, "regressor=null", "teacher_finish=null", "finish=null").stages()
    assert [each.stage for each in done] == ["autoencoder", "train", "distill", "quantize", "export"]
    assert ("quantize", "distill") in pretence.asked


def test_only_what_depends_on_a_change_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretence = pretending(monkeypatch)
    run_of(tmp_path).stages()
    for override, made in (
        ("description=other", []),
        ("regressor.optim.lr=1e-4", ["regressor", "export"]),
        ("teacher_finish.pairs=9", ["teacher_finish", "export"]),
        ("finish.share=0.2", ["finish", "quantize", "export"]),
    ):
        pretence.asked.clear()
        done = run_of(tmp_path, override).stages()
        assert [stage for stage, _ in pretence.asked] == made
        assert [each.stage for each in done if not each.skipped] == made


@pytest.mark.parametrize("stage", ["train", "regressor", "finish"])
def test_a_stopped_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    pretence = pretending(monkeypatch, stop=stage)
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path).stages()
    before = [each for each, _ in pretence.asked]
    assert before[-1] == stage
    pretence.stop = None
    pretence.asked.clear()
    done = run_of(tmp_path).stages()
    assert [each for each, _ in pretence.asked] == list(ORDER[ORDER.index(stage) :])
    assert [each.stage for each in done if each.skipped] == before[:-1]
    assert list((tmp_path / "out").rglob(".*.partial")) == []


def test_data_that_were_mended_since_are_told_and_nothing_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretence, told = pretending(monkeypatch), list[str]()
    write_crowd(tmp_path / "crowd")

    def again() -> list[str]:
        told.clear()
        pretence.asked.clear()
        _digest.cache_clear()  # as in another process
        run_of(tmp_path, "data={source: folder, path: crowd}", data=(tmp_path,), say=told.append).stages()
        return [text for text in told if "other data" in text]

    assert again() == again() == [] and not pretence.asked
    joints = tmp_path / "crowd" / "train" / "annotations.json"
    joints.write_text(joints.read_text().replace("9.5", "9.25"))
    lines = again()
    assert not pretence.asked and len(lines) == len(FITTED)
    assert re.fullmatch(
        r"\[1/8\] autoencoder  learnt from other data, sha256 \w{12}, today's is \w{12}; "
        rf"for today's: another --out, or rm -r {tmp_path}/out/tiny",
        lines[0],
    )


def test_pairs_that_cannot_be_judged_stop_a_run_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretence, folder = pretending(monkeypatch), tmp_path / "crowd"
    write_crowd(folder)
    own = run_of(tmp_path, "data={source: folder, path: crowd}", data=(tmp_path,))
    file = folder / "val" / "annotations.json"
    whole = file.read_text()
    coco = json.loads(whole)
    for each in coco["annotations"]:
        each["keypoints"] = [9, 9, 2, *[0] * 48]
    file.write_text(json.dumps(coco))
    with pytest.raises(PoseError, match=r"val, val/\d\.png: true keypoints: too few joints, got 1"):
        own.stages()
    assert not pretence.asked
    file.write_text(whole)
    own.stages()
    file.unlink()
    assert all(each.skipped for each in own.stages()), "what is there needs no pairs"


BETTER = Gate(stage="distill", metric="student-1.own_lpips", max=1.0, of="l1.own_lpips")
NEAR = Gate(stage="distill", metric="student-1.own_lpips", max=1.1, of="teacher-16.own_lpips")


def test_a_failed_gate_stops_before_the_next_stage_and_nothing_made_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowpose.gates.DRAWERS", {})
    values = {"train": 0.10, "teacher_finish": 0.20, "regressor": 0.40, "distill": 0.30, "finish": 0.21}
    pretence = pretending(monkeypatch, values=values)
    text = r"student-1\.own_lpips: outside.*got 0\.3, expected limit 0\.22, a factor of teacher-16\.own_lpips"
    with pytest.raises(GateFailed, match=text):
        run_of(tmp_path, gates=(BETTER, NEAR)).stages()
    assert pretence.asked[-1][0] == "distill"
    later = tuple(each.model_copy(update={"stage": "finish"}) for each in (BETTER, NEAR))
    done = {each.stage: each for each in run_of(tmp_path, gates=later).stages()}
    assert [stage for stage, _ in pretence.asked] == list(ORDER), "each made once"
    assert done["distill"].skipped and done["distill"].gates == ()
    assert [(each.of, each.passed) for each in done["finish"].gates] == [
        ("l1.own_lpips", True), ("teacher-16.own_lpips", True)
    ]  # fmt: skip


def test_children_keep_the_results_that_their_ancestors_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretending(monkeypatch, values={"train": 0.3})
    loose = Gate(stage="train", metric="own_lpips", max=0.5)
    first = run_of(tmp_path, gates=(loose,)).stages("train")[-1].artifact
    strict = run_of(tmp_path, gates=(loose.model_copy(update={"max": 0.1}),), waive={"own_lpips": "late"})
    *_, done = strict.stages()
    (kept,) = next(each.gates for each in done.artifact.manifest.history if each.kind == "model")
    assert first.manifest.gates[0].passed and not kept.passed and kept.waived == "late"
    assert open_artifact(first.path).manifest.gates == (kept,)


def test_what_was_judged_alike_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretending(monkeypatch)
    run = run_of(tmp_path, gates=(Gate(stage="train", metric="own_lpips", max=0.5),))
    run.stages()
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*")}
    assert all(each.skipped for each in run.stages())
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*")} == before


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
