"""Engines with built files: what they are tied to, and what planted faults say. NVIDIA's libraries are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import installed
from fake_tensorrt.machine import Machine
from tiny_graphs import draw, encode, pictures, standing

from flowpose.artifact import Artifact, open_artifact
from flowpose.compile import Request, compile_graph, engine_key
from flowpose.errors import BackendError, IntegrityError, TargetMismatch
from flowpose.export.halves import with_halves
from flowpose.pose import Pose
from flowpose.runtime import load
from flowpose.runtime.machine import POWER_MODE
from flowpose.spec.target import Target


def target(*backends: str) -> Target:
    return Target(
        format=1,
        name="board",
        backends=backends or ("tensorrt",),
        precisions=("fp32", "fp16", "int8"),
        threads=1,
    )


@pytest.fixture
def machine() -> Iterator[Machine]:
    with installed() as found:
        yield found


@pytest.fixture(scope="module")
def halved(tiny: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The graph that a default bundle for a GPU holds: ONNX files for TensorRT beside those that all backends run."""
    return with_halves(tiny, tmp_path_factory.mktemp("halved"))


@pytest.fixture
def engine(machine: Machine, tiny: Artifact, tmp_path: Path) -> Artifact:
    return compile_graph(tiny, target(), tmp_path, Request(precision="int8"), rounds=3, warmup=1)


def test_an_engine_holds_what_was_built_and_what_it_was_built_of(engine: Artifact) -> None:
    manifest = engine.manifest
    assert (manifest.backend, manifest.precision) == ("tensorrt", "int8")
    built = {graph.name: graph for graph in manifest.graphs if graph.backend == "tensorrt"}
    assert built["frame"].file == "frame.int8.tensorrt.engine" and built["source"].precision == "fp32"
    assert {"tensorrt", "gpu", "sm", "sms", "cuda"} <= manifest.built_for.keys()
    assert {graph.file for graph in manifest.graphs if graph.backend is None} >= {
        "source.onnx",
        "frame.int8.onnx",
    }
    model = load(engine.path)
    made = model.infer(pictures()[0], Pose.of(standing(2), size=model.size))
    assert np.abs(made.astype(int) - draw(encode(pictures()[0]), standing(2)).astype(int)).max() <= 3
    assert model.verify().n == 4


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_of_graphs_that_were_made_for_its_backend_is_loaded(
    machine: Machine, halved: Artifact, tmp_path: Path, precision: str
) -> None:
    """Its ONNX files say `tensorrt`, too, and stand before what was built of them."""
    engine = compile_graph(halved, target(), tmp_path, Request(precision=precision), rounds=3, warmup=1)
    assert load(engine.path).verify().n == 4
    again = compile_graph(
        engine, target(), tmp_path / "again", Request(precision=precision), rounds=3, warmup=1
    )
    assert load(again.path).verify().n == 4


def test_every_backend_takes_its_turn_and_only_the_winners_files_stay(
    machine: Machine, tiny: Artifact, tmp_path: Path
) -> None:
    request = Request(precision="fp32")
    engine = compile_graph(tiny, target("tensorrt", "onnxruntime"), tmp_path, request, rounds=3, warmup=1)
    assert {each.backend for each in engine.manifest.contest} == {"tensorrt", "onnxruntime"}
    files = [name for name in engine.manifest.files if name.endswith(".engine")]
    assert bool(files) == bool(engine.manifest.built_for) == (engine.manifest.backend == "tensorrt")
    load(engine.path)


def test_an_engine_is_made_anew_from_itself(machine: Machine, engine: Artifact, tmp_path: Path) -> None:
    with installed() as other:
        other.version = "10.16.2"
        import tensorrt

        tensorrt.__version__ = "10.16.2"
        again = compile_graph(engine, target(), tmp_path, Request(precision="int8"), rounds=3, warmup=1)
        assert again.manifest.key != engine.manifest.key and again.manifest.parent == engine.manifest.parent
        assert again.manifest.built_for["tensorrt"] == "10.16.2"
        assert [g.file for g in again.manifest.graphs] == [g.file for g in engine.manifest.graphs]
        load(again.path)


def refused(engine: Artifact) -> str:
    with pytest.raises(TargetMismatch) as raised:
        load(engine.path)
    assert raised.value.fix == f"flowpose compile {engine.path} --target auto"
    return str(raised.value)


def test_another_version_of_tensorrt_is_refused(machine: Machine, engine: Artifact, monkeypatch) -> None:
    import tensorrt

    monkeypatch.setattr(tensorrt, "__version__", "10.16.2")
    monkeypatch.setattr("flowpose.runtime.tensorrt.TensorRt.version", "10.16.2", raising=False)
    changed = {**engine.manifest.built_for, "tensorrt": "10.16.2"}
    monkeypatch.setattr("flowpose.runtime.tensorrt.TensorRt.identity", lambda self: changed)
    text = refused(engine)
    assert "another tensorrt" in text and "got 10.16.2" in text


def test_a_changed_number_of_multiprocessors_is_refused(machine: Machine, engine: Artifact) -> None:
    machine.sms -= 2
    text = refused(engine)
    assert "another sms" in text and f"got {machine.sms}, expected {machine.sms + 2}" in text


def test_another_gpu_is_refused(machine: Machine, engine: Artifact) -> None:
    machine.name = "Orin (nvgpu) of another board"
    assert "another gpu" in refused(engine)


def test_another_power_mode_is_refused(machine: Machine, tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    status = tmp_path / "status"
    status.write_text("pmode:0002 fmode:quiet\n")
    monkeypatch.setattr("flowpose.runtime.machine.POWER_MODE", status)
    engine = compile_graph(tiny, target(), tmp_path / "out", Request(precision="fp32"), rounds=3, warmup=1)
    assert engine.manifest.built_for["power_mode"] == "2"
    load(engine.path)
    status.write_text("pmode:0000\n")
    assert "another power mode, got 0, expected 2" in refused(engine)
    assert engine_key(tiny, target(), Request(precision="fp32")) != engine.manifest.key
    assert Path("/var/lib/nvpmodel/status") == POWER_MODE


def test_a_flipped_byte_is_refused(machine: Machine, engine: Artifact) -> None:
    file = engine.file("frame.int8.tensorrt.engine")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"frame\.int8\.tensorrt\.engine"):
        load(engine.path)


def test_a_truncated_engine_is_refused(machine: Machine, engine: Artifact) -> None:
    file = engine.file("frame.int8.tensorrt.engine")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IntegrityError, match=r"frame\.int8\.tensorrt\.engine"):
        load(engine.path)
    with pytest.raises(BackendError, match=r"frame\.int8\.tensorrt\.engine"):
        load(engine.path, verify=False)  # nobody looked at the digest: TensorRT itself must refuse


def test_a_backend_that_gives_zeros_is_refused(machine: Machine, engine: Artifact) -> None:
    machine.faults["zeros"] = ""
    with pytest.raises(BackendError, match="all zeros"):
        load(engine.path)


def test_a_graph_is_no_engine(machine: Machine, tiny: Artifact) -> None:
    with pytest.raises(TargetMismatch, match="tensorrt runs what was compiled for it") as raised:
        load(tiny.path, backend="tensorrt")
    assert raised.value.fix == f"flowpose compile {tiny.path} --target auto"


def test_the_key_knows_the_machine_and_the_options(machine: Machine, tiny: Artifact) -> None:
    keys = {engine_key(tiny, target())}
    for request in (Request(workspace_mb=64), Request(level=5)):
        keys.add(engine_key(tiny, target(), request))
    machine.sms -= 2
    keys.add(engine_key(tiny, target()))
    assert len(keys) == 4


def test_the_build_log_is_kept(machine: Machine, engine: Artifact) -> None:
    logs = sorted((engine.path.parent / "logs" / engine.path.name).glob("*.log"))
    assert [log.name for log in logs] == ["frame.int8.tensorrt.engine.log", "source.tensorrt.engine.log"]
    assert all(log.read_text().strip() for log in logs)


def test_what_is_tied_to_a_machine_stands_in_the_manifest(engine: Artifact) -> None:
    plain = json.loads((engine.path / "manifest.json").read_text())
    assert plain["built_for"] == open_artifact(engine.path).manifest.built_for
