"""`flowpose evaluate` on drawn graphs: the rows, where data are found, and that no PyTorch is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from calling import Call, caller
from tiny_references import make_with_teacher

import flowpose
from flowpose import image
from flowpose.artifact import Artifact
from flowpose.data import read
from flowpose.errors import DataError
from flowpose.evaluate_command import contenders, evaluate_model, read_asked
from flowpose.spec.manifest import Manifest
from flowpose.spec.recipe import FiguresData, ImageSpec

FIGURES = {"source": "figures", "identities": 8, "pictures": 3, "seed": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny graphs with a teacher, made from figures."""
    grids = {
        "teacher-2": (0.0, 0.25, 1.0),
        "teacher-1": (0.0, 1.0),
        "teacher-17": tuple(np.linspace(0, 1, 18)),
    }
    return make_with_teacher(tmp_path_factory.mktemp("model"), grids, {"stage": {"data": FIGURES}})


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a set `dolls`: test.tar, and sequences/ of two people."""
    folder = tmp_path_factory.mktemp("root") / "dolls"
    made = read(FiguresData(identities=8, pictures=5), ImageSpec(height=24, width=16), "test")
    for split, names in (("test", "abcde"), ("sequences", ("ref", "00", "01", "02", "03"))):
        part = folder / split
        part.mkdir(parents=True)
        images, annotations = [], []
        for number, (picture, rows) in enumerate(zip(made.images, made.keypoints, strict=True)):
            name = f"{made.identities[number]}_{names[number % 5]}.webp"
            image.write(part / name, picture)
            seen = np.concatenate([rows[:, :2], 2 * (rows[:, 2:] > 0)], axis=1)
            images.append({"id": number, "file_name": name, "height": 24, "width": 16})
            who = str(made.identities[number])
            annotations.append({"image_id": number, "identity": who, "keypoints": seen.ravel().tolist()})
        text = json.dumps({"images": images, "annotations": annotations})
        (part / "annotations.json").write_text(text)
    with tarfile.open(folder / "test.tar", "w") as tar:
        for file in sorted((folder / "test").iterdir()):
            tar.add(file, file.name)
    shutil.rmtree(folder / "test")
    return folder.parent


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


def test_the_rows_stand_in_the_tables_order(model: Artifact) -> None:
    found = contenders(model, "onnxruntime", 1)
    assert list(found) == ["teacher-1", "teacher-2", "student-1", "int8"], "17 evaluations are for timing"
    assert found["teacher-2"].times == (0.0, 0.25, 1.0) and found["student-1"].times is None
    context = found["teacher-1"].encode(np.full((24, 16, 3), 200, np.uint8))
    pose = np.zeros((133, 3), np.float32)
    shades = {name: each.frame_now(context, pose).mean() for name, each in found.items()}
    assert shades["teacher-2"] == pytest.approx(5 / 12 * shades["student-1"], abs=0.6), "the grid is fed"


def test_the_command_gives_rows_with_intervals(model: Artifact, command: Call, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    given = ("evaluate", model.path, "--split", "val", "--pairs", 3, "--threads", 1, "--sheet", sheet)
    said = command(*given, "--json")
    assert said.code == 0, said.err
    result = said.json
    assert (result["set"], result["n"], result["reference"]) == ("figures/val", 3, "truth")
    rows = {each["name"]: each["metrics"] for each in result["rows"]}
    assert list(rows) == ["truth", "copy-source", "teacher-1", "teacher-2", "student-1", "int8"]
    for metric in ("psnr", "ssim", "own_lpips", "spectrum_top", "pck", "jitter"):
        found = rows["student-1"][metric]
        assert found["low"] <= found["value"] <= found["high"] and found["n"] == 3
    assert rows["truth"]["psnr"]["value"] == 100 and "jitter" not in rows["truth"]
    assert result["absent"] == ["l1", "teacher-16", "student-2"]
    assert image.read(sheet).shape[1] > 6 * 100, "source, pose, truth, teacher, student, int8"
    plain = command(*given)
    shown = " ".join((plain.out + plain.err).split())
    for text in (
        "copy-source",
        "teacher-2",
        "Not shipped: l1, teacher-16",
        "n = 3 pairs",
        "next: flowpose bench",
    ):
        assert text in shown


@pytest.mark.parametrize("where", ["root", "folder of splits", "tar"])
def test_data_are_found_where_they_are_given(model: Artifact, people: Path, where: str) -> None:
    stage = {"data": {"source": "folder", "path": "dolls"}}
    manifest = Manifest.parse({**model.manifest.model_dump(mode="json"), "stage": stage}, "manifest")
    path = {"root": people, "folder of splits": people / "dolls", "tar": people / "dolls" / "test.tar"}[where]
    asked = read_asked(manifest, "test", path)
    assert len(asked.pictures) == 10 and asked.pictures.images.shape[1:] == (24, 16, 3)
    if where == "tar":
        assert asked.sequences is None and asked.name == str(path)
    else:
        assert asked.sequences is not None and asked.name == "dolls/test"


def test_sequences_give_flicker(model: Artifact, people: Path) -> None:
    given = {"path": people / "dolls", "pairs": 2, "backend": "onnxruntime", "threads": 1}
    rows = {each["name"]: each["metrics"] for each in evaluate_model(model.path, **given)["rows"]}
    assert rows["student-1"]["flicker"]["n"] == 2
    assert rows["copy-source"]["flicker"]["value"] == 0, "a still picture"
    assert rows["copy-source"]["motion"]["value"] == 0 < rows["student-1"]["motion"]["value"]


def test_what_cannot_be_read_is_an_error(model: Artifact, people: Path, tmp_path: Path) -> None:
    (tmp_path / "test.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"not a tar, expected a \.tar"):
        read_asked(model.manifest, "test", tmp_path / "test.zip")
    twins = tmp_path / "twins"
    shutil.copytree(people / "dolls" / "sequences", twins / "test")
    shutil.copyfile(people / "dolls" / "test.tar", twins / "test.tar")
    with pytest.raises(DataError, match="a tar and a folder of one name"):
        read_asked(model.manifest, "test", twins / "test")
    unknown = Manifest.parse({**model.manifest.model_dump(mode="json"), "stage": {}}, "manifest")
    with pytest.raises(DataError, match=r"does not say what data .* Fix: --data PATH"):
        read_asked(unknown, "test", None)


ALONE = """
import json, sys
for name in ("torch", "onnx", "openvino"):
    sys.modules[name] = None
from flowpose.evaluate_command import evaluate_model
made = evaluate_model(sys.argv[1], split="val", pairs=2, backend="onnxruntime", threads=1)
print(json.dumps([row["name"] for row in made["rows"]]))
"""


def test_onnxruntime_is_all_it_needs(model: Artifact) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(flowpose.__file__).parents[1])}
    line = [sys.executable, "-c", ALONE, str(model.path)]
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[-2:] == ["student-1", "int8"]
