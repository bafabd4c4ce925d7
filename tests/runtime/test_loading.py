"""From a name or a directory to frames, in both backends."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import (
    HEIGHT,
    WIDTH,
    NumpyBackend,
    draw,
    encode,
    graph_specs,
    make_artifact,
    pictures,
    standing,
)

import flowpose
from flowpose.artifact import Artifact
from flowpose.errors import (
    ArtifactError,
    BackendError,
    FlowposeError,
    ImageError,
    IntegrityError,
    PoseError,
    SpecError,
    TargetMismatch,
)
from flowpose.pose import Pose
from flowpose.runtime import BACKENDS, Model, load
from flowpose.runtime.backend import BackendEntry
from flowpose.runtime.fresh import run_fresh
from flowpose.runtime.loading import assemble
from flowpose.runtime.machine import peak_memory_mb


def fake(tiny: Artifact) -> tuple[Model, NumpyBackend]:
    backend = NumpyBackend()
    return assemble(tiny, backend, "numpy", "fp32", 1), backend


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def model(request: pytest.FixtureRequest, tiny: Artifact) -> Model:
    return load(tiny.path, backend=request.param, precision="fp32", threads=1)


def test_a_backend_computes_the_graph(model: Model) -> None:
    source, rows = pictures()[1], standing(2.5)
    frame = model.infer(source, Pose.of(rows, size=(HEIGHT, WIDTH)))
    assert frame.dtype == np.uint8 and frame.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frame.astype(int) - draw(encode(source), rows).astype(int)).max() <= 1


def test_session_infer_and_frame_agree(model: Model) -> None:
    source, rows = pictures()[2], standing(4)
    session = model.session(source)
    assert np.array_equal(session.infer(rows), model.infer(source, rows))
    assert np.array_equal(session.infer(rows), model.frame(model.encode(source), rows))


def test_earlier_frames_are_kept(model: Model) -> None:
    session = model.session(pictures()[0])
    first = session.infer(standing(1))
    before = first.copy()
    session.infer(standing(5))
    assert np.array_equal(first, before)


def test_the_model_says_what_it_is(tiny: Artifact, model: Model) -> None:
    assert model.path == tiny.path and model.manifest.name == "tiny"
    assert model.precision == "fp32" and model.threads == 1 and model.size == (HEIGHT, WIDTH)
    assert model.backend in repr(model)
    assert model.verify().n == 4


def test_the_default_precision_is_int8_where_there_is_one(tiny: Artifact, tmp_path: Path) -> None:
    assert load(tiny.path, backend="onnxruntime").precision == "int8"
    only = make_artifact(tmp_path / "only", ("fp32",))
    assert load(only.path, backend="onnxruntime").precision == "fp32"


@pytest.mark.parametrize(("machine", "expected"), [("x86_64", "openvino"), ("aarch64", "onnxruntime")])
def test_the_default_backend_goes_by_the_processor(monkeypatch, machine: str, expected: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert flowpose.runtime.default_backend() == expected


def test_the_source_is_encoded_once_for_a_loop(tiny: Artifact) -> None:
    model, backend = fake(tiny)
    source = pictures()[0]
    for y in (1.0, 2.0, 3.0):
        model.infer(source.copy(), standing(y))
    assert backend.opened[0].runs == 1 and backend.opened[1].runs == 3
    changed = source.copy()
    changed[0, 0, 0] ^= 1
    model.infer(changed, standing())
    assert backend.opened[0].runs == 2


def test_the_contexts_used_last_are_kept_as_many_as_there_is_room_for(tiny: Artifact) -> None:
    model, backend = fake(tiny)
    sources = [np.full((HEIGHT, WIDTH, 3), i, np.uint8) for i in range(4)]
    one = model.encode(sources[0]).nbytes
    model.keep(3 * one / 2**20)
    for source in (sources[1], sources[2], sources[0], sources[3]):
        model.encode(source)
    assert (backend.opened[0].runs, model.kept.n, model.kept.bytes) == (4, 3, 3 * one)
    model.encode(sources[0])
    assert backend.opened[0].runs == 4
    model.encode(sources[1])
    assert backend.opened[0].runs == 5


def test_a_kept_context_cannot_be_written_to(tiny: Artifact) -> None:
    context = fake(tiny)[0].encode(pictures()[0])
    with pytest.raises(ValueError, match="read-only"):
        context[:] = 0


def test_source_and_pose_are_letterboxed_alike(tiny: Artifact) -> None:
    model, _ = fake(tiny)
    rows = standing()
    large = rows.copy()
    large[:, :2] *= 4
    expected = model.keypoints(rows, (HEIGHT, WIDTH))
    assert np.allclose(model.keypoints(large, (HEIGHT * 4, WIDTH * 4)), expected)
    picture = np.zeros((HEIGHT * 4, WIDTH * 4, 3), np.uint8)
    assert model.infer(picture, large).shape == (HEIGHT, WIDTH, 3)


def test_a_pose_with_its_own_canvas_keeps_it(tiny: Artifact) -> None:
    model, _ = fake(tiny)
    rows = standing()
    doubled = rows.copy()
    doubled[:, :2] *= 2
    pose = Pose.of(doubled, size=(HEIGHT * 2, WIDTH * 2))
    assert np.allclose(model.keypoints(pose, (999, 999)), model.keypoints(rows, (HEIGHT, WIDTH)))


def test_a_source_may_be_a_file(tiny: Artifact, tmp_path: Path) -> None:
    from flowpose import image

    model, _ = fake(tiny)
    path = image.write(tmp_path / "source.png", pictures()[0])
    assert np.array_equal(model.infer(path, standing()), model.infer(pictures()[0], standing()))


def test_a_pose_in_another_format(tiny: Artifact) -> None:
    model, _ = fake(tiny)
    rows = standing()
    given = model.keypoints(rows[:17], (HEIGHT, WIDTH))
    assert np.array_equal(given, model.keypoints(rows, (HEIGHT, WIDTH)))


BAD_SOURCES = {
    "dtype": (np.zeros((24, 16, 3), np.float32), "wrong dtype, got float32"),
    "grey": (np.zeros((24, 16), np.uint8), "wrong shape"),
    "alpha": (np.zeros((24, 16, 4), np.uint8), "wrong shape"),
    "empty": (np.zeros((0, 16, 3), np.uint8), "wrong shape"),
    "list": ([[0]], "not a picture"),
    "no file": ("/nowhere/photo.jpg", "no such file"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources(tiny: Artifact, case: str) -> None:
    source, text = BAD_SOURCES[case]
    with pytest.raises(ImageError, match=text):
        fake(tiny)[0].infer(source, standing())


def broken(**changes: float) -> np.ndarray:
    rows = standing()
    for column, value in changes.items():
        rows[3, "xys".index(column)] = value
    return rows


BAD_POSES = {
    "nan": (broken(x=np.nan), "left_ear: not a finite number"),
    "far": (broken(x=500), "left_ear: far outside the picture"),
    "score": (broken(s=2), "left_ear.score: outside the range"),
    "missing": (np.zeros((133, 3), np.float32), "all joints are missing"),
    "no body": (np.r_[np.zeros((120, 3)), np.full((13, 3), 0.9)], "no person joints"),
    "shape": (np.zeros((40, 3)), "no format has this shape"),
    "normalised": (standing() / np.float32([16, 24, 1]), "in one spot"),
}


@pytest.mark.parametrize("case", BAD_POSES)
def test_bad_poses(tiny: Artifact, case: str) -> None:
    pose, text = BAD_POSES[case]
    with pytest.raises(PoseError, match=text):
        fake(tiny)[0].infer(pictures()[0], pose)


def test_an_unknown_pose_format(tiny: Artifact) -> None:
    with pytest.raises(PoseError, match="did you mean 'coco-17'"):
        fake(tiny)[0].infer(pictures()[0], standing(), format="coco17")


def test_a_context_of_another_model(tiny: Artifact) -> None:
    with pytest.raises(BackendError, match="not a context of this model, got float32"):
        fake(tiny)[0].frame(np.zeros((1, 2, 3, 4), np.float32), standing())


LOAD_ERRORS = [
    ({"backend": "openvin"}, BackendError, "unknown backend, got 'openvin'"),
    ({"precision": "fp16"}, TargetMismatch, "lacks the precision, got fp16, expected fp32 or int8"),
    ({"threads": 0}, TargetMismatch, "threads"),
]


@pytest.mark.parametrize(("options", "error", "text"), LOAD_ERRORS)
def test_load_refuses(tiny: Artifact, options: dict, error: type[FlowposeError], text: str) -> None:
    with pytest.raises(error, match=text):
        load(tiny.path, **options)


def test_fp32_does_not_stand_in_for_a_frame_that_only_another_backend_has(tmp_path: Path) -> None:
    *graphs, frame = graph_specs(("fp32", "int8"))
    only = make_artifact(tmp_path / "only", changes={"graphs": [*graphs, {**frame, "backend": "tensorrt"}]})
    with pytest.raises(ArtifactError, match="has no frame graph for onnxruntime, expected frame in int8"):
        load(only.path, backend="onnxruntime", precision="int8")


def test_an_unknown_model() -> None:
    with pytest.raises(SpecError, match="no-such-model"):
        load("no-such-model")


def test_an_artifact_that_is_no_graph(tmp_path: Path) -> None:
    early = make_artifact(tmp_path / "early", changes={"kind": "student"})
    with pytest.raises(ArtifactError, match="flowpose export"):
        load(early.path)


def test_a_changed_file_is_refused_and_named(tiny: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny.path, copy)
    raw = bytearray((copy / "source.onnx").read_bytes())
    raw[20] ^= 1
    (copy / "source.onnx").write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"source\.onnx"):
        load(copy)


def test_a_table_row_is_all_that_a_backend_needs(tiny: Artifact, monkeypatch) -> None:
    entry = BackendEntry("tiny_graphs", "NumpyBackend", "numpy", {"any": "pip install numpy"})
    monkeypatch.setitem(BACKENDS, "numpy", entry)
    assert load(tiny.path, backend="numpy", precision="int8").backend == "numpy"


ENGINE_ERRORS: list[tuple[dict[str, str], str]] = [
    ({"precision": "fp32"}, r"another precision, .*flowpose compile {path} --target auto --precision fp32$"),
    ({"precision": "fp16"}, r"another precision, .*Fix: precision='int8'$"),
    (
        {"backend": "onnxruntime"},
        r"another backend, .*flowpose compile {path} --target FILE\.yaml \(.*backends: \[onnxruntime\]\)$",
    ),
    ({"backend": "no-such"}, r"another backend, .*Fix: backend='openvino'$"),
]


@pytest.mark.parametrize(("options", "text"), ENGINE_ERRORS)
def test_an_engine_names_the_command_that_makes_the_other_one(
    tmp_path: Path, monkeypatch, options: dict[str, str], text: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    fields = {"kind": "engine", "backend": "openvino", "precision": "int8", "target": {"arch": "x86_64"}}
    engine = make_artifact(tmp_path / "engine", changes=fields)
    with pytest.raises(TargetMismatch, match=text.format(path=engine.path)):
        load(engine.path, **options)


@pytest.mark.parametrize("machine", ["x86_64", "arm64", "riscv64"])
def test_an_engine_of_another_processor_is_compiled_for_this_one(
    tmp_path: Path, monkeypatch, machine: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    fields = {"kind": "engine", "backend": "openvino", "precision": "int8", "target": {"arch": "sparc"}}
    engine = make_artifact(tmp_path / "engine", changes=fields)
    with pytest.raises(TargetMismatch, match=rf"flowpose compile {engine.path} --target auto$"):
        load(engine.path)


def test_peak_memory_is_this_processs_own() -> None:
    ballast = bytearray(b"x") * (300 << 20)
    program = "import json; from flowpose.runtime.machine import peak_memory_mb; print(peak_memory_mb())"
    assert run_fresh("test", program) < 200 < peak_memory_mb()
    assert len(ballast) == 300 << 20


def test_infer_keeps_the_model_loaded(tiny: Artifact, monkeypatch) -> None:
    flowpose.runtime.loading._loaded.cache_clear()
    first = flowpose.infer(pictures()[0], standing(), model=tiny.path)
    monkeypatch.setattr("flowpose.runtime.loading.load", None)
    assert np.array_equal(first, flowpose.infer(pictures()[0], standing(), model=tiny.path))
