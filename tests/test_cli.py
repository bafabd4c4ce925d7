"""The command line: one JSON document on stdout, progress on stderr, and errors that name the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from calling import Call, caller
from micro_line import Line, command
from tiny_graphs import make_artifact, pictures, standing

from flowpose import image
from flowpose.artifact import Artifact, open_artifact
from flowpose.cli_options import notes
from flowpose.export.goldens import COUNT
from flowpose.spec.find import shipped


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("graphs") / "export-tiny")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.png, one.npy with a pose and three.npy with three."""
    folder = tmp_path_factory.mktemp("files")
    image.write(folder / "source.png", pictures()[0])
    np.save(folder / "one.npy", standing())
    np.save(folder / "three.npy", np.stack([standing(y) for y in (1.0, 2.0, 4.0)]))
    return folder


def test_run_gives_one_json_document_and_tells_progress_on_stderr(line: Line) -> None:
    assert set(line.result) >= {"stages", "rows", "ratios", "report"}
    assert "[1/8] autoencoder" in line.stderr and "making" in line.stderr
    assert Path(line.result["report"]).is_file()


def test_a_run_that_is_there_is_shown_as_a_table(line: Line, flowpose: Call) -> None:
    said = flowpose("run", "tiny", "--out", line.root, *line.settings)
    assert said.code == 0
    assert (
        "copy-source" in said.out
        and "student-1" in said.out
        and "int8" in said.out
        and "report.html" in said.out
    )
    assert "there, skipped" in said.err and "next: flowpose bench" in said.err


@pytest.mark.parametrize(("name", "count"), [("train", 2), ("distill", 6), ("quantize", 7), ("export", 8)])
def test_stage_commands_list_what_is_there(line: Line, flowpose: Call, name: str, count: int) -> None:
    said = flowpose(name, "tiny", "--out", line.root, *line.settings, "--json")
    assert said.code == 0
    assert [each["path"] for each in said.json] == [each["path"] for each in line.result["stages"][:count]]
    assert "skipped" in flowpose(name, "tiny", "--out", line.root, *line.settings).err


def test_a_gate_stops_a_run_until_it_is_waived(line: Line, flowpose: Call) -> None:
    gate = "gates=[{stage: distill, metric: student-1.psnr, min: 90}]"
    given = ("distill", "tiny", "--out", line.root, *line.settings, "--set", gate, "--json")
    failed = flowpose(*given)
    assert failed.code == 1 and failed.json["error"] == "GateFailed" and failed.json["expected"] == "limit 90"
    assert "--waive student-1.psnr=REASON" in failed.json["fix"]
    waived = flowpose(*given, "--waive", "student-1.psnr=a toy, four iterations long")
    assert waived.code == 0
    (result,) = next(each["gates"] for each in waived.json if each["stage"] == "distill")
    assert result["waived"] == "a toy, four iterations long" and result["passed"] is False


@pytest.mark.parametrize("kind", ["recipes", "targets"])
def test_listings(flowpose: Call, kind: str) -> None:
    said = flowpose(kind, "--json")
    assert said.code == 0
    assert [each["name"] for each in said.json] == sorted(shipped(kind))
    assert all(each["about"] and Path(each["path"]).is_file() for each in said.json)
    plain = flowpose(kind)
    then = {"recipes": "flowpose run", "targets": "flowpose predict"}[kind]
    assert all(name in plain.out for name in shipped(kind)) and f"next: {then}" in plain.err


def test_listing_models(flowpose: Call) -> None:
    assert [each["name"] for each in flowpose("models", "--json").json] == sorted(shipped("models"))


def test_show(flowpose: Call, line: Line) -> None:
    said = flowpose("show", line.path("compile"), "--json")
    assert said.code == 0 and said.json["kind"] == "engine"
    assert said.json["key"] == open_artifact(line.path("compile")).manifest.key
    plain = flowpose("show", line.path("compile")).out
    for text in ("engine", "48 x 32", "coco-wholebody-133", "teacher-1.psnr", "frame.int8.onnx", "int8"):
        assert text in plain


def test_verify_replays_the_goldens(flowpose: Call, line: Line) -> None:
    said = flowpose("verify", line.path("compile"), "--json")
    assert said.code == 0
    assert said.json["replay"]["n"] == COUNT and said.json["backend"] in ("openvino", "onnxruntime")
    assert "all within tolerance" in flowpose("verify", line.path("export")).out


def test_verify_finds_a_changed_byte(flowpose: Call, tiny: Artifact, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny.path, broken)
    raw = bytearray((broken / "golden" / "inputs.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (broken / "golden" / "inputs.npz").write_bytes(raw)
    said = flowpose("verify", broken, "--json")
    assert said.code == 1
    assert said.json["error"] == "IntegrityError" and said.json["where"].endswith("golden/inputs.npz")


def test_infer_writes_a_picture(flowpose: Call, tiny: Artifact, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    said = flowpose(
        "infer", files / "source.png", files / "one.npy", "-o", out, "--model", tiny.path, "--json"
    )
    assert said.code == 0
    assert said.json["frames"] == 1 and said.json["files"] == [str(out)]
    assert image.read(out).shape == (24, 16, 3)


def test_infer_writes_numbered_pictures_or_a_moving_one(
    flowpose: Call, tiny: Artifact, files: Path, tmp_path: Path
) -> None:
    given = (files / "source.png", files / "three.npy", "--model", tiny.path, "--json")
    said = flowpose("infer", *given, "-o", tmp_path / "out.png")
    assert [Path(file).name for file in said.json["files"]] == [f"out-000{i}.png" for i in range(3)]
    assert len({image.read(file).tobytes() for file in said.json["files"]}) == 3
    said = flowpose("infer", *given, "-o", tmp_path / "out.gif", "--fps", 10)
    assert said.json["files"] == [str(tmp_path / "out.gif")] and (tmp_path / "out.gif").stat().st_size > 100


def test_infer_says_what_is_wrong_with_a_file(
    flowpose: Call, tiny: Artifact, files: Path, tmp_path: Path
) -> None:
    said = flowpose("infer", files / "one.npy", files / "one.npy", "--model", tiny.path)
    assert said.code == 1 and said.out == ""
    assert said.err.startswith("error: ") and "one.npy: not a picture" in said.err
    said = flowpose("infer", files / "source.png", tmp_path / "none.json", "--model", tiny.path, "--json")
    assert said.code == 1 and said.json["error"] == "PoseError" and said.json["what"] == "no such file"


def test_bench_compares_precisions(flowpose: Call, tiny: Artifact) -> None:
    said = flowpose("bench", tiny.path, "--compare", "int8, fp32", "-n", 5, "--threads", 1, "--json")
    assert said.code == 0
    assert said.json["target"] == "cpu" and said.json["machine"]["cpu"]
    assert set(said.json["models"]) == {"int8", "fp32"}
    assert "int8/fp32" in said.json["ratios"]
    plain = flowpose("bench", tiny.path, "-n", 5, "--no-cold")
    assert plain.code == 0 and "p95" in plain.out


def test_bench_compares_backends(flowpose: Call, tiny: Artifact) -> None:
    said = flowpose("bench", tiny.path, "--backends", "onnxruntime,openvino", "-n", 3, "--no-cold", "--json")
    assert set(said.json["models"]) == {"int8 onnxruntime", "int8 openvino"}


def test_compile_makes_an_engine(flowpose: Call, tiny: Artifact, tmp_path: Path) -> None:
    said = flowpose("compile", tiny.path, "--out", tmp_path, "--threads", 1, "--json")
    assert said.code == 0
    engine = open_artifact(said.json["path"])
    assert engine.manifest.kind == "engine" and engine.manifest.key == said.json["key"]
    assert said.json["backend"] in said.json["card"]["choice"]
    again = flowpose("compile", tiny.path, "--out", tmp_path, "--threads", 1)
    assert again.out.split() == [str(engine.path)] and "next: flowpose bench" in again.err
    assert "Why this precision" in again.err and "8-bit layers" in again.err
    assert {(each["precision"], each["backend"]) for each in said.json["contest"]} == {
        (precision, backend) for precision in ("fp32", "int8") for backend in ("openvino", "onnxruntime")
    }
    forced = flowpose("compile", tiny.path, "--out", tmp_path, "--precision", "int8", "--json")
    assert forced.json["precision"] == "int8" and "forced" in forced.json["card"]["choice"]


def test_notes_are_as_wide_as_the_terminal_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (60, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert notes().width == columns


ERRORS: list[tuple[Sequence[str], str, str]] = [
    (["run", "tinny"], "SpecError", "did you mean 'tiny'?"),
    (["run", "tiny", "--target", "gpu"], "SpecError", "shipped ones: cpu, cpu-arm64"),
    (["run", "tiny", "--set", "train.optim.learning=1"], "SpecError", "recipe.train.optim.learning"),
    (["train", "tiny", "--set", "trian.optim.lr=1e-4"], "SpecError", "did you mean 'train'?"),
    (["train", "tiny", "--set", "train.optim.lr"], "SpecError", "expected such as 'train.optim.lr=1e-4'"),
    (["run", "tiny", "--set", "compile.threads=64"], "SpecError", "recipe.compile.threads"),
    (["run", "tiny", "--waive", "psnr"], "SpecError", "expected metric=REASON"),
    (["train", "tiny", "--waive", "psnr=because"], "SpecError", "psnr=because: no gate of tiny"),
    (["show", "people-129"], "SpecError", "no shipped model of this name"),
    (
        ["bench", "TINY", "--compare", "fp8"],
        "TargetMismatch",
        "has no such precision, got fp8, expected fp32, fp16, int8",
    ),
    (["bench", "TINY", "--backends", "tensorrt"], "TargetMismatch", "has no such backend, got tensorrt"),
    (["compile", "TINY", "--backend", "tensorrt"], "TargetMismatch", "has no such backend, got tensorrt"),
    (["compile", "TINY", "--precision", "fp8"], "TargetMismatch", "cannot run the precision, got fp8"),
    (["compile", "TINY", "--precision", "fp16"], "TargetMismatch", "lacks the precision, got fp16"),
    (["compile", "TINY", "--margin", "0.5"], "TargetMismatch", "not a margin, got 0.5"),
    (["compile", "TINY", "--target", "cpu-arm64"], "TargetMismatch", "is another processor"),
    (["verify", "/nowhere"], "SpecError", "no such path"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), ERRORS, ids=[" ".join(each[0]) for each in ERRORS])
def test_errors(
    flowpose: Call, tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str], kind: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = [str(tiny.path) if each == "TINY" else each for each in arguments]
    said = flowpose(*given)
    assert said.code == 1 and said.out == ""
    assert said.err.startswith("error: ") and text in said.err and "Traceback" not in said.err
    found = flowpose(*given, "--json")
    assert found.code == 1 and found.json["error"] == kind
    assert set(found.json) == {"error", "where", "what", "got", "expected", "fix"}
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_what_the_parser_refuses(flowpose: Call) -> None:
    said = flowpose("run")
    assert said.code == 2 and said.out == "" and "recipe" in said.err.lower()
    assert flowpose("bench", "x", "-n", "many").code == 2


def test_help_names_every_command(flowpose: Call) -> None:
    said = flowpose("--help")
    assert said.code == 0
    names = "run train distill quantize export compile bench evaluate infer demo verify show recipes targets models"
    assert all(f" {name} " in said.out for name in names.split())


def test_the_process_ends_with_the_errors_code() -> None:
    done = command(["run", "tinny", "--json"])
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "SpecError"
    assert "Traceback" not in done.stderr and done.stderr.startswith("error: tinny")
