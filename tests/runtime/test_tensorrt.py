"""The TensorRT backend against a fake of TensorRT and CUDA that computes with onnxruntime."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_tensorrt import installed
from fake_tensorrt.machine import Machine
from onnx import TensorProto, helper
from tiny_graphs import (
    CONTEXT,
    HEIGHT,
    WIDTH,
    draw,
    encode,
    pictures,
    save,
    save_frame,
    save_source,
    standing,
)

from flowpose.artifact import Artifact
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.executed import Executed
from flowpose.runtime.goldens import read_goldens, replay
from flowpose.runtime.onnxruntime import OnnxRuntime


@pytest.fixture
def machine() -> Iterator[Machine]:
    with installed() as found:
        yield found


def built(folder: Path, name: str = "frame", **plan: Any) -> Path:
    """The engine of a tiny graph."""
    from flowpose.compile.tensorrt_build import Plan, build_engine

    graph, out = folder / f"{name}.onnx", folder / f"{name}.engine"
    if not graph.exists():
        {"source": save_source, "frame": save_frame}[name](graph)
    build_engine(graph, out, Plan(**plan))
    return out


def opened(folder: Path, name: str = "frame", **options: Any) -> Any:
    from flowpose.runtime.tensorrt import TensorRt

    path = folder / f"{name}.engine"
    return TensorRt(**options).open(path if path.exists() else built(folder, name), 1)


def given(y: float = 3.0, sample: int = 0) -> dict[str, np.ndarray]:
    return {"context": encode(pictures()[sample]), "keypoints": standing(y)}


def kept(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("graph", [False, True])
def test_an_engine_computes_what_the_graph_does(
    machine: Machine, tmp_path: Path, integrated: bool, graph: bool
) -> None:
    machine.integrated = integrated
    for name, inputs in (("source", {"source": pictures()[0]}), ("frame", given())):
        engine = opened(tmp_path, name, graph=graph)
        expected = OnnxRuntime().open(tmp_path / f"{name}.onnx", 1).run(inputs)
        for _ in range(2):
            found = engine.run(inputs)
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[each], expected[each]) for each in expected)
            assert all(found[each].dtype == expected[each].dtype for each in expected)


def test_every_run_has_arrays_of_its_own(machine: Machine, tmp_path: Path) -> None:
    engine = opened(tmp_path)
    first = engine.run(given(1.0))["frame"]
    second = engine.run(given(5.0, 2))["frame"]
    assert np.array_equal(first, draw(encode(pictures()[0]), standing(1.0)))
    assert np.array_equal(second, draw(encode(pictures()[2]), standing(5.0)))
    engine.close()
    assert first.sum() and first.flags.owndata


def test_a_replay_runs_the_layers_without_queueing_them(machine: Machine, tmp_path: Path) -> None:
    engine = opened(tmp_path)
    machine.faults["enqueue"] = "queued"
    assert engine.run(given())["frame"].any()
    assert machine.calls["cudaGraphLaunch"] == 2  # one when it was opened


def test_a_context_that_stays_is_uploaded_once(machine: Machine, tmp_path: Path) -> None:
    engine, context = opened(tmp_path), kept(encode(pictures()[0]))
    size = f"up {context.nbytes}"
    machine.copied.clear()
    for y in (1.0, 2.0, 3.0):
        frame = engine.run({"context": context, "keypoints": standing(y)})["frame"]
        assert np.array_equal(frame, draw(context, standing(y)))
    assert machine.copied.count(size) == 1 and len(machine.copied) == 1 + 3 + 3 + 1
    other = kept(encode(pictures()[1]))
    for each, uploads in ((other, 2), (other, 2), (context, 2), (other, 2)):
        frame = engine.run({"context": each, "keypoints": standing()})["frame"]
        assert np.array_equal(frame, draw(each, standing())) and machine.copied.count(size) == uploads
    assert machine.copied.count(f"across {context.nbytes}") == 2 + 2  # two kept, two brought back


def test_memory_of_people_who_are_gone_is_freed(machine: Machine, tmp_path: Path) -> None:
    engine, blocks = opened(tmp_path), len(machine.device)
    for sample in (0, 1, 2, 0, 1, 2):
        context = kept(encode(pictures()[sample]))
        engine.run({"context": context, "keypoints": standing()})
        del context
    assert len(machine.device) <= blocks + 2  # the last one, and one that waits to be dropped
    engine.close()
    assert not machine.device


def test_an_array_that_may_change_is_uploaded_each_time(machine: Machine, tmp_path: Path) -> None:
    engine, context = opened(tmp_path), encode(pictures()[0])
    engine.run({"context": kept(context), "keypoints": standing()})
    context.flags.writeable = True
    context *= np.float32(0.5)
    for _ in range(2):
        machine.copied.clear()
        frame = engine.run({"context": context, "keypoints": standing()})["frame"]
        assert np.array_equal(frame, draw(context, standing()))
        assert machine.copied.count(f"up {context.nbytes}") == 1


def test_a_run_that_failed_leaves_nothing_uploaded(machine: Machine, tmp_path: Path) -> None:
    engine, context = opened(tmp_path), kept(encode(pictures()[0]))
    engine.run({"context": context, "keypoints": standing()})
    machine.faults["cudaGraphLaunch"] = "cudaErrorLaunchFailure"
    with pytest.raises(BackendError, match="cudaGraphLaunch failed, got cudaErrorLaunchFailure"):
        engine.run({"context": context, "keypoints": standing()})
    machine.faults.clear()
    machine.copied.clear()
    assert engine.run({"context": context, "keypoints": standing()})["frame"].any()
    assert machine.copied.count(f"up {context.nbytes}") == 1


def test_an_integrated_gpu_copies_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.integrated = True
    engine = opened(tmp_path)
    assert np.array_equal(engine.run(given())["frame"], draw(encode(pictures()[0]), standing()))
    assert not machine.copied and not machine.device


@pytest.mark.parametrize("integrated", [False, True])
def test_memory_is_freed_when_closed_or_forgotten(machine: Machine, tmp_path: Path, integrated: bool) -> None:
    machine.integrated = integrated
    engine = opened(tmp_path)
    assert machine.open_things()
    engine.close()
    engine.close()
    assert not machine.open_things()
    with pytest.raises(BackendError, match="the engine is closed"):
        engine.run(given())
    with pytest.raises(BackendError, match="the engine is closed"):
        engine.executed({})
    engine = opened(tmp_path)
    del engine
    gc.collect()
    assert not machine.open_things()


def test_threads_do_not_mix_their_frames(machine: Machine, tmp_path: Path) -> None:
    engine, wrong = opened(tmp_path), []

    def draws(sample: int) -> None:
        inputs = given(1.0 + sample, sample)
        expected = draw(inputs["context"], inputs["keypoints"])
        wrong.extend(i for i in range(20) if not np.array_equal(engine.run(inputs)["frame"], expected))

    threads = [threading.Thread(target=draws, args=(sample,)) for sample in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"context": np.zeros(CONTEXT, np.float64)},
            r"input 'context': is not .* got float64\[.*\], expected float32",
        ),
        (
            {"context": np.zeros((1, 2), np.float32)},
            r"input 'context': is not .* got float32\[1, 2\], expected float32",
        ),
        ({"times": np.zeros(2, np.float32)}, r"input 'times': is not .* expected none of that name"),
    ],
)
def test_inputs_must_be_the_engines(machine: Machine, tmp_path: Path, change: Any, said: str) -> None:
    engine = opened(tmp_path)
    with pytest.raises(BackendError, match=said):
        engine.run({**given(), **change})
    assert engine.run(given())["frame"].any()


def test_an_array_of_any_layout_is_taken(machine: Machine, tmp_path: Path) -> None:
    engine, inputs = opened(tmp_path), given()
    turned = {name: np.asfortranarray(each) for name, each in inputs.items()}
    assert np.array_equal(engine.run(turned)["frame"], engine.run(inputs)["frame"])


FAULTS = {  # planted fault -> what the error says
    "enqueue": r"cannot run the engine \(Cask",
    "recording": r"cannot be recorded as a CUDA graph .*Fix: TensorRt\(graph=False\)",
    "empty": "the recorded graph is empty",
    "stale": "a replay of its CUDA graph leaves outputs as they were, got frame",
    "context": "has no room to run in",
    "library": "TensorRT does not start",
    "address": "takes no memory for",
    "cudaMemGetInfo": "cudaMemGetInfo failed, got cudaErrorInsufficientDriver. Fix: a driver",
    "cudaMalloc": "cudaMalloc failed, got cudaErrorInsufficientDriver",
    "cudaHostAlloc": "cudaHostAlloc failed",
    "cudaMemcpyAsync": "cudaMemcpyAsync failed",
    "cudaStreamSynchronize": "cudaStreamSynchronize failed",
    "cudaStreamBeginCapture": "cannot be recorded .*cudaStreamBeginCapture failed",
    "cudaStreamEndCapture": "cannot be recorded .*cudaStreamEndCapture failed",
    "cudaGraphInstantiate": "cannot be recorded .*cudaGraphInstantiate failed",
    "cudaGraphLaunch": "cudaGraphLaunch failed",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_error_and_frees_what_was_made(
    machine: Machine, tmp_path: Path, fault: str
) -> None:
    built(tmp_path)
    machine.faults[fault] = "cudaErrorInsufficientDriver"
    with pytest.raises(BackendError, match=FAULTS[fault]):
        opened(tmp_path)
    machine.faults.clear()
    assert not machine.open_things()


def test_what_failed_first_is_told_where_freeing_fails_too(machine: Machine, tmp_path: Path) -> None:
    built(tmp_path)
    for call in ("cudaGraphLaunch", "cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGraphExecDestroy"):
        machine.faults[call] = "cudaErrorLaunchFailure"
    with pytest.raises(BackendError, match="cudaGraphLaunch failed"):
        opened(tmp_path)


@pytest.mark.parametrize("fault", ["recording", "empty", "stale", "cudaStreamEndCapture"])
def test_what_cannot_be_recorded_runs_without_a_graph_if_asked(
    machine: Machine, tmp_path: Path, fault: str
) -> None:
    built(tmp_path)
    machine.faults[fault] = "cudaErrorStreamCaptureUnsupported"
    frame = opened(tmp_path, graph=False).run(given())["frame"]
    assert np.array_equal(frame, draw(encode(pictures()[0]), standing()))


def test_goldens_find_outputs_of_zeros(machine: Machine, tiny: Artifact, tmp_path: Path) -> None:
    goldens = read_goldens(tiny, "fp32")

    def replayed() -> Any:
        source, frame = opened(tmp_path, "source"), opened(tmp_path)
        return replay(
            goldens,
            "fp32",
            lambda picture: source.run({"source": picture})["context"],
            lambda context, keypoints: frame.run({"context": context, "keypoints": keypoints})["frame"],
            "tensorrt",
        )

    assert replayed().n == 4
    machine.faults["zeros"] = "as hardware-compatible engines gave on other GPUs (pytorch/TensorRT 4481)"
    with pytest.raises(BackendError, match="zero"):
        replayed()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-40], "truncated"),
        (lambda data: b"", "Magic tag does not match"),
        (lambda data: b"PK\x03\x04" + data, "Magic tag does not match"),
        (lambda data: data.replace(b"10.3.0", b"10.7.0"), "built by 10.7.0"),
        (lambda data: data.replace(b"[8, 7]", b"[8, 6]"), "incompatible device"),
    ],
)
def test_a_file_that_is_no_engine_of_this_machine(
    machine: Machine, tmp_path: Path, damage: Any, reason: str
) -> None:
    path = built(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackendError, match=rf"TensorRT 10.3.0 cannot read the engine \(.*{reason}") as error:
        opened(tmp_path)
    assert error.value.fix == f"make it on this machine, with this version: flowpose compile {tmp_path}"


def test_a_file_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    from flowpose.runtime.tensorrt import TensorRt

    with pytest.raises(BackendError, match="cannot be read"):
        TensorRt().open(tmp_path / "none.engine", 1)


def identity_graph(path: Path, dtype: int, shape: tuple[Any, ...]) -> None:
    given = helper.make_tensor_value_info("given", dtype, shape)
    made = helper.make_tensor_value_info("made", dtype, shape)
    save(path, [helper.make_node("Identity", ["given"], ["made"])], [given], [made], [])


@pytest.mark.parametrize(
    ("dtype", "shape", "said"),
    [
        (TensorProto.INT64, (2,), "type of 'given', got INT64, expected UINT8 or FLOAT"),
        (TensorProto.FLOAT16, (2,), "type of 'given', got HALF"),
        (TensorProto.FLOAT, ("n", 2), r"shape of 'given', got \[-1, 2\], expected fixed lengths"),
    ],
)
def test_tensors_that_graphs_do_not_have(
    machine: Machine, tmp_path: Path, dtype: int, shape: Any, said: str
) -> None:
    identity_graph(tmp_path / "same.onnx", dtype, shape)
    built(tmp_path, "same")
    with pytest.raises(BackendError, match=said):
        opened(tmp_path, "same")


@pytest.mark.parametrize(
    ("version", "good"), [("10.2.0", False), ("8.6.1", False), ("10.3.0", True), ("11.4.0.106", True)]
)
def test_an_old_tensorrt_is_refused(machine: Machine, version: str, good: bool) -> None:
    machine.version = sys.modules["tensorrt"].__version__ = version
    from flowpose.runtime.tensorrt import TensorRt

    if good:
        assert TensorRt().version == version
        return
    with pytest.raises(BackendError, match=f"too old, got {version}, expected 10.3 or later"):
        TensorRt()


@pytest.mark.parametrize(
    ("arch", "told", "not_told"),
    [
        ("x86_64", "pip install 'tensorrt>=10.3'", "JetPack"),
        ("aarch64", "JetPack 6.2 or later", "pip install"),
    ],
)
def test_on_a_board_an_old_tensorrt_is_not_mended_by_pip(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, arch: str, told: str, not_told: str
) -> None:
    machine.version = sys.modules["tensorrt"].__version__ = "10.2.0"
    from flowpose.runtime.tensorrt import TensorRt

    monkeypatch.setattr("platform.machine", lambda: arch)
    with pytest.raises(BackendError, match="too old") as error:
        TensorRt()
    assert told in str(error.value.fix) and not_told not in str(error.value.fix)


def test_the_identity_names_what_an_engine_depends_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flowpose.runtime.tensorrt import TensorRt

    version = tmp_path / "version"
    monkeypatch.setattr("flowpose.runtime.machine.DRIVER", version)
    expected = {"tensorrt": "10.3.0", "gpu": "Orin", "sm": "8.7", "sms": "8", "cuda": "12.6"}
    assert TensorRt().identity() == expected
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n")
    assert TensorRt().identity() == {**expected, "driver": "540.4.0"}
    machine.faults["cudaGetDevice"] = "cudaErrorNoDevice"
    with pytest.raises(BackendError, match=r"cudaErrorNoDevice\. Fix: a machine with an NVIDIA GPU"):
        TensorRt().identity()


@pytest.mark.parametrize(
    ("package", "said"), [("tensorrt", "TensorRT|tensorrt"), ("cuda.bindings", "cuda-bindings")]
)
def test_a_missing_package_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, package: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delattr(sys.modules["cuda"], "bindings")
    with pytest.raises(MissingDependency, match=said):
        import flowpose.runtime.tensorrt  # noqa: F401


def test_an_engine_tells_what_it_consists_of(machine: Machine, tmp_path: Path) -> None:
    from flowpose.runtime.tensorrt_layers import of_engine

    assert opened(tmp_path).executed({}) == Executed(0, 0, 0)
    built(tmp_path, details=False)
    assert opened(tmp_path).executed({}) is None
    assert of_engine("") is None and of_engine('{"Layers": []}') is None


def test_layers_are_told_by_type_and_tactic() -> None:
    with installed():
        from flowpose.runtime.tensorrt_layers import of_engine
    int8, half = {"Format/Datatype": "Int8"}, {"Format/Datatype": "Half"}
    tactic = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32"
    layers = [
        {"Name": "conv", "LayerType": "CaskConvolution", "TacticName": tactic, "Inputs": [int8]},
        {"Name": "fc", "LayerType": "gemm", "Inputs": [int8], "Weights": {"Type": "Int8"}},
        {"Name": "_gemm_mha_v2_myl0_4", "LayerType": "kgen", "TacticName": "_gemm_mha_v2", "Inputs": [half]},
        {"Name": "far", "LayerType": "CaskConvolution", "TacticName": "f32f32_tf32f32", "Inputs": [int8],
         "Weights": {"Type": "Float"}},
        {"Name": "stored", "LayerType": "gemm", "Inputs": [half], "Weights": {"Type": "Int8"}},
        {"Name": "/conv/Conv_output_0 copy", "LayerType": "Reformat", "Inputs": [half]},
        {"Name": "__myl_CastMove_myl0_2", "LayerType": "kgen", "Inputs": [half]},
        {"Name": "__myl_CastMulAdd_myl0_3", "LayerType": "kgen", "Inputs": [half]},
        {"Name": "shapes", "LayerType": "shape_call"},
    ]  # fmt: skip
    assert of_engine(json.dumps({"Layers": layers})) == Executed(int8_layers=2, float_layers=3, conversions=2)


def test_quantized_layers_are_counted(machine: Machine, tmp_path: Path) -> None:
    graph = tmp_path / "product.onnx"
    node = helper.make_node
    scale, zero = onnx.helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]), None
    zero = onnx.helper.make_tensor("zero", TensorProto.INT8, [], [0])
    nodes = [
        node("QuantizeLinear", ["given", "scale", "zero"], ["codes"]),
        node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
        node("MatMul", ["rounded", "rounded"], ["square"]),
        node("MatMul", ["square", "square"], ["made"]),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3, 3)) for name in ("given", "made")]
    save(graph, nodes, tensors[:1], tensors[1:], [scale, zero])
    built(tmp_path, "product")
    assert opened(tmp_path, "product").executed({}) == Executed(1, 1, 2)


def test_frames_of_a_picture_have_its_size(machine: Machine, tmp_path: Path) -> None:
    assert opened(tmp_path).run(given())["frame"].shape == (HEIGHT, WIDTH, 3)
