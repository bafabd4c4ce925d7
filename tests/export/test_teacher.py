from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from quantize.tiny_student import make_artifact, recipe

import flowpose
from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError
from flowpose.export import export_teacher, teacher_job
from flowpose.export.modules import evaluation_times, loop_tables
from flowpose.flow import end_dense, uniform
from flowpose.model.weights import load_generator


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("teacher"), "model")


GRIDS = {"euler": end_dense(16), "heun": end_dense(3), "midpoint": uniform(2)}


@pytest.mark.parametrize(
    "solver",
    ["heun", pytest.param("euler", marks=pytest.mark.slow), pytest.param("midpoint", marks=pytest.mark.slow)],
)
def test_many_steps_agree_with_torch_in_every_backend(teacher: Artifact, tmp_path: Path, solver: str):
    made = export_teacher(
        teacher_job(recipe(), teacher, tmp_path, GRIDS[solver], solver), GRIDS[solver], solver
    )
    for backend in ("onnxruntime", "openvino"):
        pytest.importorskip(backend)
        flowpose.load(made.path, backend=backend).verify()
    assert made.manifest.times == GRIDS[solver]
    assert made.manifest.name == f"tiny-teacher-{made.manifest.stage['evaluations']}"


@pytest.mark.slow
def test_body_stands_in_the_file_once(teacher: Artifact, tmp_path: Path):
    nodes = {}
    for steps in (2, 6):
        grid = uniform(steps)
        made = export_teacher(teacher_job(recipe(), teacher, tmp_path, grid, "euler"), grid, "euler")
        graph = onnx.load(made.file("frame.fp32.onnx")).graph
        loop = next(node for node in graph.node if node.op_type == "Loop")
        nodes[steps] = (len(graph.node), len(loop.attribute[0].g.node))
    assert nodes[2] == nodes[6]


def test_grid_and_solver_are_part_of_the_key(teacher: Artifact, tmp_path: Path):
    keys = {
        teacher_job(recipe(), teacher, tmp_path, uniform(n), s).key for n in (2, 3) for s in ("euler", "heun")
    }
    assert len(keys) == 4


def test_tables_are_those_of_the_solvers_times(teacher: Artifact):
    generator = load_generator(teacher).on_grid(end_dense(3), "heun")
    tables, dt = loop_tables(generator)
    assert tables.shape[:2] == (2, 2)
    assert dt.tolist() == pytest.approx([5 / 9, 3 / 9])
    assert evaluation_times("heun", 0.0, 0.5) == (0.0, 0.5)
    assert evaluation_times("heun", 0.5, 1.0) == (0.5,)
    assert evaluation_times("midpoint", 0.0, 0.5) == (0.0, 0.25)


def test_student_is_no_teacher(tmp_path: Path):
    student = make_artifact(tmp_path, "student")
    with pytest.raises(ArtifactError, match="needs a teacher, got student"):
        export_teacher(teacher_job(recipe(), student, tmp_path, uniform(2), "euler"), uniform(2), "euler")
