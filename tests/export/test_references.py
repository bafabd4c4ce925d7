"""The models that a student is compared with, beside its graphs."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from export.lined_up import SPEC, job_of, lined_up
from quantize.tiny_student import generator, make_artifact

from flowpose.artifact import Artifact
from flowpose.compile import Request, compile_graph
from flowpose.errors import ArtifactError, BackendError, IntegrityError, ParityError
from flowpose.evaluate import teacher_grid
from flowpose.export import export, references
from flowpose.export.modules import same_source
from flowpose.model.pictures import to_pictures, to_tensor
from flowpose.runtime import load, load_reference, reference_rows
from flowpose.spec.reading import load_target

UNSEEN = ("flow.source.", "autoencoder.encoder.")
"""Weights that are in no frame graph of an any-step model."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def graph(root: Path) -> Artifact:
    return export(job_of(root, lined_up(root)))


def test_every_row_has_its_grid(graph: Artifact) -> None:
    grids = {row: each.grids[row] for row, each in reference_rows(graph.manifest).items()}
    assert grids == {
        "teacher-1": (0.0, 1.0), "teacher-2": (0.0, 0.4, 1.0), "teacher-3": teacher_grid(3),
        "student-2": (0.0, 0.25, 1.0),
    }  # fmt: skip
    teacher, student = graph.manifest.references
    assert teacher.source == student.source == "source.onnx", "their source branches are the same"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("row", ["teacher-1", "teacher-3", "student-2"])
def test_a_row_draws_what_torch_draws(graph: Artifact, row: str, backend: str) -> None:
    pytest.importorskip(backend)
    model = load_reference(graph.path, row, backend=backend, threads=1)
    with np.load(graph.file("golden/inputs.npz")) as given:
        source, keypoints = given["source"][:1], given["keypoints"][:1]
    made = generator(SPEC, student=row.startswith("student")).on_grid(model.times, "euler")
    import torch

    with torch.no_grad():
        expected = to_pictures(made(to_tensor(source), torch.from_numpy(keypoints)))[0]
    frame = model.frame_now(model.encode(source[0]), keypoints[0])
    assert np.mean((frame.astype(float) - expected) ** 2) < 255**2 / 10**4.5
    assert row in repr(model) and model.precision == "fp32"


def test_only_those_that_make_the_same_of_a_source_share_its_graph() -> None:
    plain, student = generator(SPEC), generator(SPEC, student=True)
    assert same_source(plain, student), "detail is no part of the flow's own layers"
    for layer in ("flow.source.joints.absent", "flow.source.match.project", "autoencoder.encoder.block"):
        other = copy.deepcopy(student)
        other.get_submodule(layer).weight.data[0] += 1e-3
        assert not same_source(plain, other), layer
    other = copy.deepcopy(student)
    other.flow.blocks[0].mlp.up.weight.data += 1
    assert same_source(plain, other)


def test_storage_is_measured(graph: Artifact) -> None:
    found = {m.metric: m.value for m in graph.manifest.measurements}
    assert all(found[f"{row}_stored_psnr"] >= references.STORED for row in reference_rows(graph.manifest))
    assert found["size_teacher.frame"] < found["size_frame.fp32"]


def test_storage_that_shows_is_an_error(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "STORED", 99.0)
    student = lined_up(tmp_path)
    with pytest.raises(ParityError, match=r"weights of a byte change the pictures, got .* expected >= 99 dB"):
        export(job_of(tmp_path, student))


def test_a_teacher_too_large_for_a_file_is_told_before_it_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = lined_up(tmp_path)
    teacher, _ = references.contenders(job_of(tmp_path, student))
    monkeypatch.setattr(references, "any_step", None)
    weights = [w for name, w in generator(SPEC).named_parameters() if not name.startswith(UNSEEN)]
    size = 4 * sum(weight.numel() for weight in weights)
    monkeypatch.setattr(references, "LARGEST", size - 1)
    text = rf"the teacher to compare .* got {size} bytes of weights, .* Fix: --set export.references=false"
    with pytest.raises(ArtifactError, match=text):
        references.write_reference(job_of(tmp_path, student), None, teacher, None, None)  # type: ignore[arg-type]


def test_a_line_without_a_teacher_has_no_references(tmp_path: Path) -> None:
    job = job_of(tmp_path, make_artifact(tmp_path, "student", SPEC))
    assert references.contenders(job) == ()


def test_a_teacher_that_is_gone_is_an_error(tmp_path: Path) -> None:
    student = lined_up(tmp_path)
    (teacher,) = (tmp_path / "tiny").glob("train-*")
    shutil.rmtree(teacher)
    with pytest.raises(ArtifactError, match="the model that the student was made from is not there"):
        references.contenders(job_of(tmp_path, student))


def test_unknown_rows_and_goldens_are_errors(graph: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"no such reference, got teacher-9, expected one of teacher-1,"):
        load_reference(graph.path, "teacher-9")
    model = load_reference(graph.path, "teacher-1", backend="onnxruntime", threads=1)
    with pytest.raises(ArtifactError, match="no goldens of its references, got teacher-1"):
        model.verify()
    with pytest.raises(BackendError, match="not a context of this model"):
        model.frame(np.zeros((1, 2, 3), np.float32), np.ones((17, 3)))


def test_a_changed_reference_is_found(graph: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(graph.path, copy)
    raw = bytearray((copy / "references/teacher.frame.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "references/teacher.frame.onnx").write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"teacher\.frame\.onnx"):
        load_reference(copy, "teacher-1")


def test_compiling_leaves_references_behind(graph: Artifact, tmp_path: Path) -> None:
    request = Request(precision="fp32", threads=1)
    engine = compile_graph(graph, load_target("cpu"), tmp_path, request, rounds=2, warmup=1)
    assert not engine.manifest.references
    assert not [name for name in engine.manifest.files if name.startswith("references/")]
    load(engine.path)
    with pytest.raises(ArtifactError, match="expected a graph with references"):
        load_reference(engine.path, "teacher-1")
