"""Compiling the tiny graph: sound candidates take turns, one is chosen, what is unsound is left out and named."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import HEIGHT, WIDTH, NumpyBackend, NumpyGraph, make_artifact, pictures, standing

from flowpose.artifact import Artifact
from flowpose.compile import Entry, Quality, Request, check_machine, compile_graph, decide, engine_key
from flowpose.compile.candidates import usable_backends
from flowpose.errors import ArtifactError, BackendError, TargetMismatch
from flowpose.runtime import BACKENDS, load
from flowpose.runtime.backend import BackendEntry
from flowpose.spec.manifest import GateResult
from flowpose.spec.target import Budget, Target


def target(**changes: object) -> Target:
    fields: dict[str, object] = {
        "format": 1, "name": "here", "backends": ("openvino", "onnxruntime"), "precisions": ("fp32", "int8"),
        "threads": 1,
    }  # fmt: skip
    return Target(**{**fields, **changes})


class Slow(NumpyGraph):
    def run(self, inputs: dict) -> dict:
        time.sleep(0.02)  # more than what other processes take from a run of next to nothing
        return super().run(inputs)


class SlowBackend(NumpyBackend):
    def open(self, path: Path, threads: int) -> NumpyGraph:
        return Slow(path.stem, self.fault)


class ZerosBackend(NumpyBackend):
    def __init__(self) -> None:
        super().__init__("zeros")


def plant(monkeypatch: pytest.MonkeyPatch, **backends: type) -> None:
    """Puts fake backends in the places of real ones."""
    import tiny_graphs

    for name, cls in backends.items():
        monkeypatch.setattr(tiny_graphs, cls.__name__, cls, raising=False)
        monkeypatch.setitem(
            BACKENDS, name, BackendEntry("tiny_graphs", cls.__name__, "numpy", {"any": "pip install x"})
        )


HERE = ("onnxruntime", "openvino")
BOTH = [(precision, backend) for precision in ("fp32", "int8") for backend in HERE]


def test_an_engine_runs_and_keeps_the_record(tiny: Artifact, tmp_path: Path) -> None:
    said: list[str] = []
    engine = compile_graph(tiny, target(), tmp_path, rounds=10, warmup=2, say=said.append)
    found = engine.manifest
    assert (found.kind, found.parent) == ("engine", tiny.manifest.key)
    assert said == [found.card["choice"]]
    devices = {tuple(m.device.split(", ")[-2:]) for m in found.measurements}
    assert {(precision, name.split()[0]) for precision, name in devices} == set(BOTH)
    assert {m.metric for m in found.measurements} >= {"frame_ms_p50", "frame_ms_p95", "source_ms_p50"}
    first = found.measurements[0].device.split(", ")
    assert first[-2] == found.precision and first[-1].split()[0] == found.backend, "gates look at the first"
    assert [a.key for a in found.history] == [tiny.manifest.key]
    assert set(found.files) == set(tiny.manifest.files)
    model = load(engine.path)
    assert (model.backend, model.precision, model.threads) == (found.backend, found.precision, 1)
    assert model.infer(pictures()[0], standing()).shape == (HEIGHT, WIDTH, 3)


def test_the_contest_is_kept_and_is_what_was_decided_by(tiny: Artifact, tmp_path: Path) -> None:
    found = compile_graph(tiny, target(), tmp_path, rounds=10, warmup=2).manifest
    assert {(each.precision, each.backend) for each in found.contest} == set(BOTH)
    assert all(each.n == 10 and each.reason for each in found.contest)
    chosen, *others = found.contest
    assert chosen.chosen and not any(each.chosen for each in others)
    assert (chosen.precision, chosen.backend, chosen.ratio) == (found.precision, found.backend, 1)
    entries = [Entry(each.backend, each.precision, each.p50, each.p95) for each in found.contest]
    known = {"fp32": Quality(), "int8": Quality(notes=("no gate",))}
    again = decide(entries, known, margin=found.stage["margin"])
    assert (again.chosen.precision, again.chosen.backend) == (found.precision, found.backend)
    assert [again.reasons[entry] for entry in entries] == [each.reason for each in found.contest]
    assert again.sentence == found.card["choice"]


def test_all_precisions_of_graph_and_target_take_part(tmp_path: Path) -> None:
    graph = make_artifact(tmp_path / "three", ("fp32", "fp16", "int8"))
    wide = target(precisions=("int8", "fp8", "fp16", "fp32"))
    found = compile_graph(graph, wide, tmp_path, rounds=5, warmup=1).manifest
    assert len(found.contest) == 3 * len(HERE)
    assert {each.precision for each in found.contest} == {"fp32", "fp16", "int8"}
    for name in ("fp16", "int8"):
        assert f"{name} " in found.card["choice"], "each has its part of the sentence"


class SlowFloat(NumpyBackend):
    """Takes milliseconds in fp32 and next to nothing in INT8."""

    def open(self, path: Path, threads: int) -> NumpyGraph:
        return (NumpyGraph if path.stem.endswith("int8") else Slow)(path.stem, self.fault)


FAILED = GateResult(
    stage="quantize", metric="psnr_to_student", limit=35, value=20, passed=False, waived="a toy"
)


def test_a_reduced_precision_is_taken_where_it_wins_and_its_gates_hold(
    tiny: Artifact, tmp_path: Path, monkeypatch
) -> None:
    plant(monkeypatch, openvino=SlowFloat)
    here = target(backends=("openvino",))
    won = compile_graph(tiny, here, tmp_path, rounds=5, warmup=1).manifest
    assert won.precision == "int8" and won.card["choice"].endswith("times as fast as fp32 openvino: kept")
    assert won.contest[0].int8_layers is None, "this backend does not tell"
    lost = compile_graph(tiny, here, tmp_path, Request(gates=(FAILED,)), rounds=5, warmup=1).manifest
    assert lost.precision == "fp32" and lost.key != won.key
    assert "gate psnr_to_student failed (20, limit 35, waived: a toy): fp32 kept" in lost.card["choice"]
    assert "waived: a toy" in next(each.reason for each in lost.contest if each.precision == "int8")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_forced_precision_is_taken_without_a_contest(
    tiny: Artifact, tmp_path: Path, monkeypatch, precision: str
) -> None:
    plant(monkeypatch, openvino=SlowFloat)
    request = Request(precision=precision, gates=(FAILED,))
    found = compile_graph(tiny, target(), tmp_path, request, rounds=5, warmup=1).manifest
    assert found.precision == precision and {each.precision for each in found.contest} == {precision}
    assert found.card["choice"].endswith("ms: forced, no other precision was measured")


def test_the_faster_backend_is_taken(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    plant(monkeypatch, openvino=SlowBackend, onnxruntime=NumpyBackend)
    found = compile_graph(tiny, target(), tmp_path, Request(precision="int8"), rounds=5, warmup=1).manifest
    assert found.backend == "onnxruntime"
    assert found.contest[1].reason.endswith("times as long as int8 onnxruntime")


def test_a_backend_with_wrong_outputs_is_left_out_however_fast(
    tiny: Artifact, tmp_path: Path, monkeypatch
) -> None:
    plant(monkeypatch, openvino=ZerosBackend, onnxruntime=SlowBackend)
    said: list[str] = []
    engine = compile_graph(tiny, target(), tmp_path, rounds=5, warmup=1, say=said.append)
    assert engine.manifest.backend == "onnxruntime"
    for text, label in zip(said[:2], ("fp32 openvino", "int8 openvino"), strict=True):
        assert "all zeros" in engine.manifest.card[f"excluded {label}"]
        assert text.startswith(f"{label} is left out") and "all zeros" in text


def test_no_sound_backend_is_an_error_that_gives_the_reasons(
    tiny: Artifact, tmp_path: Path, monkeypatch
) -> None:
    plant(monkeypatch, openvino=ZerosBackend)
    with pytest.raises(TargetMismatch, match=r"openvino: .*all zeros"):
        compile_graph(tiny, target(backends=("openvino",)), tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_a_missing_library_is_left_out_and_named(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    entry = BackendEntry("flowpose_no_such_module", "X", "flowpose_no_such_module", {"any": "pip install it"})
    monkeypatch.setitem(BACKENDS, "openvino", entry)
    engine = compile_graph(tiny, target(), tmp_path, rounds=5, warmup=1)
    assert engine.manifest.backend == "onnxruntime"
    assert "pip install it" in engine.manifest.card["excluded openvino"]
    with pytest.raises(TargetMismatch, match="pip install it"):
        compile_graph(tiny, target(backends=("openvino",)), tmp_path)


def test_the_second_time_nothing_is_measured(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    first = compile_graph(tiny, target(), tmp_path, rounds=5, warmup=1)
    assert first.manifest.key == engine_key(tiny, target())
    assert first.manifest.stage["precision"] == "auto" and first.manifest.stage["margin"] == 1.1
    monkeypatch.setattr("flowpose.compile.engine.compare", None)
    assert compile_graph(tiny, target(), tmp_path).path == first.path


def test_the_key_depends_on_what_the_engine_depends_on(tiny: Artifact, monkeypatch) -> None:
    key = engine_key(tiny, target())
    keys = {
        key,
        engine_key(tiny, target(), Request(precision="fp32")),
        engine_key(tiny, target(), Request(threads=2)),
        engine_key(tiny, target(), Request(margin=1.2)),
        engine_key(tiny, target(), Request(gates=(FAILED,))),
        engine_key(tiny, target(name="other")),
        engine_key(tiny, target(backends=("onnxruntime",))),
    }
    monkeypatch.setattr("flowpose.compile.engine.cpu_model", lambda: "another processor")
    assert len(keys | {engine_key(tiny, target())}) == 8


def test_an_engine_is_made_anew_from_itself(tiny: Artifact, tmp_path: Path) -> None:
    first = compile_graph(tiny, target(), tmp_path / "a", rounds=5, warmup=1)
    second = compile_graph(first, target(), tmp_path / "b", rounds=5, warmup=1)
    assert second.manifest.key == first.manifest.key
    assert second.manifest.history == first.manifest.history


def test_a_budget_becomes_a_gate(tiny: Artifact, tmp_path: Path) -> None:
    strict = target(budget=Budget(latency_ms_p95=1e-6))
    (gate,) = compile_graph(tiny, strict, tmp_path, rounds=5, warmup=1).manifest.gates
    assert gate.metric == "frame_ms_p95" and not gate.passed and gate.value > gate.limit


def test_a_memory_budget_becomes_a_gate_of_a_fresh_process(tiny: Artifact, tmp_path: Path) -> None:
    strict = target(budget=Budget(memory_mb=1), backends=("onnxruntime",))
    (gate,) = compile_graph(tiny, strict, tmp_path, rounds=5, warmup=1).manifest.gates
    assert gate.metric == "peak_memory_mb" and not gate.passed and 10 < gate.value < 1000


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(tiny: Artifact, tmp_path: Path, threads: int) -> None:
    with pytest.raises(TargetMismatch, match=f"threads: not a number of threads, got {threads}"):
        compile_graph(tiny, target(), tmp_path, Request(threads=threads))
    with pytest.raises(TargetMismatch, match="threads"):
        engine_key(tiny, target(), Request(threads=threads))
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("margin", [0.9, -1, float("nan"), float("inf")])
def test_no_margin_below_one(tiny: Artifact, tmp_path: Path, margin: float) -> None:
    with pytest.raises(TargetMismatch, match=r"margin: not a margin, got .*, expected at least 1"):
        compile_graph(tiny, target(), tmp_path, Request(margin=margin))


def test_an_engine_made_anew_drops_old_exclusions(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch, openvino=ZerosBackend, onnxruntime=NumpyBackend)
        first = compile_graph(tiny, target(), tmp_path / "a", rounds=5, warmup=1)
    assert "excluded int8 openvino" in first.manifest.card
    second = compile_graph(first, target(), tmp_path / "b", rounds=5, warmup=1)
    assert not [name for name in second.manifest.card if name.startswith("excluded ")]


MISMATCHES = [
    ({"arch": "aarch64"}, {}, "is another processor, got x86_64, expected aarch64"),
    ({"precisions": ("fp32",)}, {"precision": "int8"}, "cannot run the precision, got int8, expected fp32"),
    ({"precisions": ("fp32", "fp16")}, {"precision": "fp16"}, "lacks the precision, got fp16"),
    ({"precisions": ("fp16",)}, {}, "runs no precision of the graph, got fp32, int8, expected fp16"),
    ({"backends": ("openvino",), "software": {"openvino": "<2000"}}, {}, "openvino version"),
]


@pytest.mark.parametrize(("changes", "options", "text"), MISMATCHES)
def test_what_does_not_fit(tiny: Artifact, tmp_path: Path, monkeypatch, changes, options, text: str) -> None:
    monkeypatch.setattr("flowpose.compile.candidates.machine_arch", lambda: "x86_64")
    with pytest.raises(TargetMismatch, match=text):
        compile_graph(tiny, target(**changes), tmp_path, Request(**options))


def test_without_int8_the_graph_is_compiled_in_fp32(tmp_path: Path) -> None:
    only = make_artifact(tmp_path / "only", ("fp32",))
    found = compile_graph(only, target(), tmp_path, rounds=5, warmup=1).manifest
    assert found.precision == "fp32" and found.card["choice"].endswith("no other precision to measure")


def test_a_student_cannot_be_compiled(tmp_path: Path) -> None:
    early = make_artifact(tmp_path / "early", changes={"kind": "student"})
    with pytest.raises(ArtifactError, match="flowpose export"):
        compile_graph(early, target(), tmp_path)


def test_an_engine_for_another_processor_is_not_loaded(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    engine = compile_graph(tiny, target(), tmp_path, rounds=5, warmup=1)
    other = next(name for name in HERE if name != engine.manifest.backend)
    with pytest.raises(TargetMismatch, match="another backend"):
        load(engine.path, backend=other)
    changed = {**engine.manifest.model_dump(), "target": {"arch": "sparc"}}
    for field in ("files", "self_sha256", "format"):
        changed.pop(field)
    away = make_artifact(tmp_path / "away", changes=changed)
    with pytest.raises(TargetMismatch, match="for another processor"):
        load(away.path)
    assert np.isfinite(engine.manifest.measurements[0].value)


MODE = {"name": "boost", "sms": 132, "mhz": 1830, "bandwidth": 4800, "default": True}
GPU = {"sm": "9.0", "found_by": ["NVIDIA H200"], "ops": {"fp16": 4096}, "modes": [MODE]}
H200 = {"gpu": "NVIDIA H200", "sm": "9.0", "sms": "132"}


def with_gpu(*backends: str) -> Target:
    return target(backends=backends, gpu=GPU, sources={"gpu": "a test"})


def test_a_backend_that_would_build_for_another_gpu_is_refused(monkeypatch) -> None:
    """PyTorch without CUDA builds for the processor, and must not pass for an H200."""
    monkeypatch.setattr(NumpyBackend, "identity", lambda self: {"torch": "2.13.0", "cpu": "AVX512"})
    plant(monkeypatch, **{"torch-compile": NumpyBackend})
    with pytest.raises(
        TargetMismatch, match=r"torch-compile sees another GPU, got SM of none, expected SM 9\.0"
    ):
        usable_backends(with_gpu("torch-compile"))


class OnGpu(NumpyBackend):
    """Runs ONNX files on a GPU, as onnxruntime's CUDA provider does."""

    seen = H200

    def identity(self) -> dict[str, str]:
        return dict(self.seen)


class ZerosOnGpu(OnGpu):
    def __init__(self) -> None:
        super().__init__("zeros")


CUDA = "onnxruntime-cuda"
LACKING = "pip install it"


def test_a_cpu_does_not_stand_in_for_a_gpu(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    board = with_gpu("tensorrt", "onnxruntime")
    entry = BackendEntry("flowpose_no_such_module", "X", "flowpose_no_such_module", {"any": LACKING})
    monkeypatch.setitem(BACKENDS, "tensorrt", entry)
    text = rf"on the GPU here \(tensorrt: .*{LACKING}\), got onnxruntime on the CPU, expected tensorrt"
    for work in (
        lambda: compile_graph(tiny, board, tmp_path),
        lambda: engine_key(tiny, board),
        lambda: check_machine(board),
    ):
        with pytest.raises(BackendError, match=text) as raised:
            work()
        assert "--backend onnxruntime" in str(raised.value.fix)
    assert not list(tmp_path.glob("*/*"))


def test_a_cpu_does_not_stand_in_for_a_gpu_that_computes_wrongly(
    tiny: Artifact, tmp_path: Path, monkeypatch
) -> None:
    plant(monkeypatch, **{CUDA: ZerosOnGpu})
    with pytest.raises(BackendError, match=rf"int8 {CUDA}: .*all zeros.*got onnxruntime on the CPU"):
        compile_graph(tiny, with_gpu(CUDA, "onnxruntime"), tmp_path, rounds=5, warmup=1)
    assert not list(tmp_path.glob("*/compile-*"))


def test_a_cpu_is_taken_where_it_is_asked_for_by_name(tiny: Artifact, tmp_path: Path, monkeypatch) -> None:
    plant(monkeypatch, **{CUDA: ZerosOnGpu})
    board = with_gpu(CUDA, "onnxruntime")
    found = compile_graph(tiny, board, tmp_path, Request(backend="onnxruntime"), rounds=5, warmup=1).manifest
    assert found.backend == "onnxruntime" and {each.backend for each in found.contest} == {"onnxruntime"}
    assert found.target == board.model_dump(mode="json") and not found.built_for
    alone = compile_graph(tiny, with_gpu("onnxruntime"), tmp_path, rounds=5, warmup=1).manifest
    assert alone.backend == "onnxruntime", "a target that lists nothing else says so, too"
    with pytest.raises(
        TargetMismatch, match=f"has no such backend, got openvino, expected {CUDA}, onnxruntime"
    ):
        compile_graph(tiny, board, tmp_path, Request(backend="openvino"))


def test_onnx_files_on_a_gpu_are_timed_anew_on_another_and_load_there(
    tiny: Artifact, tmp_path: Path, monkeypatch
) -> None:
    plant(monkeypatch, **{CUDA: OnGpu})
    engine = compile_graph(tiny, with_gpu(CUDA), tmp_path, rounds=5, warmup=1)
    assert engine.manifest.stage["built_for"][CUDA].items() >= H200.items() and not engine.manifest.built_for
    monkeypatch.setattr(OnGpu, "seen", {**H200, "sms": "114"})
    assert engine_key(tiny, with_gpu(CUDA)) != engine.manifest.key
    assert load(engine.path).backend == CUDA
    monkeypatch.setattr(OnGpu, "seen", {**H200, "sm": "8.9"})
    with pytest.raises(TargetMismatch, match=rf"{CUDA} sees another GPU, got SM 8\.9, expected SM 9\.0"):
        usable_backends(with_gpu(CUDA))
