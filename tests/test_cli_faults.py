"""What the commands on a model print and refuse: defects that a review found, each with its command."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from calling import Call, caller
from tiny_graphs import make_artifact, pictures, standing

from flowpose import image
from flowpose.artifact import Artifact
from flowpose.bench import ColdStart

TARGET = """
format: 1
name: strict
backends: [onnxruntime]
precisions: [fp32, int8]
threads: 1
budget: {latency_ms_p95: 0.000001, memory_mb: 1}
"""
KINDS = {
    "autoencoder": "flowpose train tiny",
    "model": "flowpose distill tiny",
    "student": "flowpose quantize tiny",
    "quantized": "flowpose export tiny",
    "graph": "--target auto",
    "engine": "flowpose verify",
}


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("graphs") / "export-tiny")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    fields: dict[str, object] = {
        "kind": "engine", "backend": "onnxruntime", "precision": "fp32", "stage": {"threads": 3},
        "target": {"arch": "any"},
    }  # fmt: skip
    return make_artifact(tmp_path_factory.mktemp("engines") / "compile-tiny", changes=fields)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    image.write(folder / "source.png", pictures()[0])
    np.save(folder / "one.npy", standing())
    np.save(folder / "two.npy", np.stack([standing(y) for y in (1.0, 4.0)]))
    np.save(folder / "none.npy", np.zeros((0, 17, 3), np.float32))
    return folder


def test_verify_looks_at_digests_before_it_parses_a_graph(
    flowpose: Call, tiny: Artifact, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny.path, broken)
    (broken / "source.onnx").write_bytes(b"no graph at all")
    said = flowpose("verify", broken, "--json")
    assert said.json["error"] == "IntegrityError" and said.json["where"].endswith("source.onnx")


def test_verify_and_infer_name_the_next_command(
    flowpose: Call, tiny: Artifact, files: Path, tmp_path: Path
) -> None:
    assert f"next: flowpose bench {tiny.path}" in flowpose("verify", tiny.path, "--threads", 1).err
    given = (files / "source.png", files / "two.npy", "--model", tiny.path, "-o", tmp_path / "out.png")
    said = flowpose("infer", *given)
    assert said.out.split() == [str(tmp_path / f"out-000{i}.png") for i in range(2)]
    assert f"next: flowpose bench {tiny.path}" in said.err


@pytest.mark.parametrize("kind", KINDS)
def test_show_names_the_next_command(flowpose: Call, tmp_path: Path, kind: str) -> None:
    shown = make_artifact(tmp_path / kind, changes={"kind": kind})
    said = flowpose("show", shown.path)
    assert said.code == 0 and f"{KINDS[kind]}" in said.err.partition("next: ")[2]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_one_pose_makes_a_video_of_one_frame(
    flowpose: Call, tiny: Artifact, files: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    said = flowpose(
        "infer", files / "source.png", files / "one.npy", "--model", tiny.path, "-o", out, "--json"
    )
    assert said.code == 0 and said.json["files"] == [str(out)]
    if suffix == ".mp4":
        film = cv2.VideoCapture(str(out))
        assert film.read()[0] and not film.read()[0]
    else:
        found, animation = cv2.imreadanimation(str(out))
        assert found and len(animation.frames) == 1


REFUSED = [
    ("one.npy", "out.avi", (), "ImageError", "unknown kind of output, got '.avi'"),
    ("one.npy", "out", (), "ImageError", "unknown kind of output, got no suffix"),
    ("one.npy", "out.mp4", ("--fps", 0), "ImageError", "no frame rate, got 0"),
    ("none.npy", "out.png", (), "PoseError", "none.npy: holds no pose"),
]


@pytest.mark.parametrize(("pose", "name", "options", "kind", "text"), REFUSED)
def test_infer_refuses_before_it_loads_a_model(
    flowpose: Call, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    pose: str, name: str, options: tuple[object, ...], kind: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("flowpose.infer_command.load", None)
    given = ("infer", files / "source.png", files / pose, "-o", tmp_path / name, *options)
    assert text in flowpose(*given).err
    assert flowpose(*given, "--json").json["error"] == kind
    assert not list(tmp_path.iterdir())


def test_compile_says_which_budget_is_missed(flowpose: Call, tiny: Artifact, tmp_path: Path) -> None:
    target = tmp_path / "strict.yaml"
    target.write_text(TARGET)
    for _ in ("made", "there already"):
        said = flowpose("compile", tiny.path, "--target", target, "--out", tmp_path / "engines")
        assert said.code == 0 and Path(said.out.strip()).is_dir()
        for metric in ("frame_ms_p95", "peak_memory_mb"):
            assert f"budget missed: {metric} is " in said.err
        assert f"next: flowpose bench {said.out.strip()} --target {target}" in said.err


@pytest.mark.parametrize("command", ["compile", "bench", "verify"])
def test_no_threads_are_refused(flowpose: Call, tiny: Artifact, tmp_path: Path, command: str) -> None:
    out = ("--out", tmp_path) if command == "compile" else ()
    said = flowpose(command, tiny.path, "--threads", 0, *out)
    assert said.code == 1 and "threads: not a number of threads, got 0" in said.err


def test_bench_runs_an_engine_with_its_own_threads(flowpose: Call, engine: Artifact) -> None:
    said = flowpose("bench", engine.path, "-n", 1, "--no-cold", "--json")
    assert said.json["models"]["fp32"]["threads"] == 3 and said.json["cold_start"] is None
    said = flowpose("bench", engine.path, "-n", 1, "--no-cold", "--threads", 1, "--json")
    assert said.json["models"]["fp32"]["threads"] == 1


def test_bench_measures_a_cold_start(flowpose: Call, tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("bench", tiny.path, "-n", 1, "--threads", 1, "--backends", "onnxruntime")
    cold = flowpose(*given, "--json").json["cold_start"]
    assert cold["load_s"] > 0 and cold["first_infer_s"] > 0 and 10 < cold["peak_memory_mb"] < 1000
    about = {name: cold[name] for name in ("label", "backend", "precision", "threads", "n")}
    assert about == {"label": "int8", "backend": "onnxruntime", "precision": "int8", "threads": 1, "n": 1}
    known = ColdStart(0.1, 0.2, 0.3, 40.0)
    monkeypatch.setattr("flowpose.bench.cold_start", lambda *_, **__: known)
    said = flowpose(*given)
    assert "Cold start" in said.out and "Latency" in said.out
    assert "Cold start" not in flowpose(*given, "--no-cold").out
