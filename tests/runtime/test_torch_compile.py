"""The torch-compile backend on packages that are not compiled: a stand-in is what torch would load."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowpose.errors import BackendError
from flowpose.runtime import torch_compile
from flowpose.runtime.torch_compile import TorchCompile
from flowpose.runtime.torch_ports import ABOUT, About, Inputs, Port, exact_products, read_about

PORTS = (Port("context", "float32", (2, 3)), Port("keypoints", "float32", (1, 3)))
FRAME = (Port("frame", "uint8", (2, 3)),)
HERE = About(PORTS, FRAME, "cpu", 1, torch.__version__)
CONTEXT = np.arange(6, dtype=np.float32).reshape(2, 3)
KEYPOINTS = np.full((1, 3), 10, np.float32)


class Loaded:
    """What aoti_load_package returns: adds its inputs into one tensor that it gives every time."""

    def __init__(self, about: str) -> None:
        self.about, self.made = about, torch.zeros(2, 3, dtype=torch.uint8)

    def get_metadata(self) -> dict[str, str]:
        return {ABOUT: self.about} if self.about else {"AOTI_PLATFORM": "linux"}

    def __call__(self, *given: Tensor) -> Sequence[Tensor]:
        return [self.made.copy_(given[0] + given[1])]


def opened(monkeypatch: pytest.MonkeyPatch, about: About | None = HERE, threads: int = 1) -> Any:
    text = about.text() if about is not None else ""
    monkeypatch.setattr(torch_compile, "aoti_load_package", lambda path, run_single_threaded: Loaded(text))
    return TorchCompile().open(Path("folder/frame.pt2"), threads)


def test_outputs_are_arrays_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = opened(monkeypatch)
    first = graph.run({"context": CONTEXT, "keypoints": KEYPOINTS})["frame"]
    second = graph.run({"context": CONTEXT + 1, "keypoints": KEYPOINTS})["frame"]
    assert first.tolist() == [[10, 11, 12], [13, 14, 15]]
    assert np.array_equal(second, first + 1) and first.dtype == np.uint8
    assert graph.executed({}) is None


def test_a_read_only_array_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, kept = opened(monkeypatch), CONTEXT.copy()
    kept.flags.writeable = False
    for _ in range(3):
        graph.run({"context": kept, "keypoints": KEYPOINTS})
    assert graph.sent == 4
    other = kept.copy() + 5
    other.flags.writeable = False
    assert graph.run({"context": other, "keypoints": KEYPOINTS})["frame"][0, 0] == 15
    assert graph.run({"context": kept, "keypoints": KEYPOINTS})["frame"][0, 0] == 10


def test_an_array_that_can_be_written_to_is_copied_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, context = opened(monkeypatch), CONTEXT.copy()
    graph.run({"context": context, "keypoints": KEYPOINTS})
    context += 7
    assert graph.run({"context": context, "keypoints": KEYPOINTS})["frame"][0, 0] == 17


def test_after_a_wrong_input_nothing_counts_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, kept = opened(monkeypatch), CONTEXT.copy()
    kept.flags.writeable = False
    graph.run({"context": kept, "keypoints": KEYPOINTS})
    with pytest.raises(BackendError):
        graph.run({"context": kept})
    assert graph.run({"context": kept, "keypoints": KEYPOINTS})["frame"][0, 0] == 10


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"context": CONTEXT}, "other inputs, got context, expected context, keypoints"),
        ({"context": CONTEXT, "keypoints": KEYPOINTS, "times": KEYPOINTS}, "other inputs"),
        (
            {"context": CONTEXT.astype(np.float64), "keypoints": KEYPOINTS},
            r"wrong input 'context', got float64\[2, 3\], expected float32\[2, 3\]",
        ),
        ({"context": CONTEXT[:1], "keypoints": KEYPOINTS}, r"wrong input 'context', got float32\[1, 3\]"),
        ({"context": CONTEXT, "keypoints": [1, 2, 3]}, "wrong input 'keypoints', got list"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=text):
        opened(monkeypatch).run(inputs)


def test_another_number_of_threads_is_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"another number of threads, got 2, expected 1.*threads=1"):
        opened(monkeypatch, threads=2)


def test_torch_gets_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        graph = opened(monkeypatch)
        torch.set_num_threads(before + 1)
        graph.run({"context": CONTEXT, "keypoints": KEYPOINTS})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (None, "was not built by flowpose, got AOTI_PLATFORM.*flowpose compile folder"),
        (replace(HERE, torch="1.0"), "built with another torch, got 1.0"),
    ],
)
def test_a_package_that_is_not_for_here(
    about: About | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match=text):
        opened(monkeypatch, about)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_package_for_a_gpu_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="built for a GPU and torch sees none"):
        opened(monkeypatch, replace(HERE, device="cuda"))


def test_a_file_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "frame.pt2").write_bytes(b"no package")
    with pytest.raises(BackendError, match=r"torch cannot open the package.*flowpose compile"):
        TorchCompile().open(tmp_path / "frame.pt2", 1)


def test_a_failure_of_torch_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Tensor) -> None:
        raise RuntimeError("no memory")

    graph = opened(monkeypatch)
    monkeypatch.setattr(graph, "_run", fail)
    with pytest.raises(BackendError, match=r"torch cannot run the package.*no memory"):
        graph.run({"context": CONTEXT, "keypoints": KEYPOINTS})


def test_outputs_of_other_sizes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = opened(monkeypatch, replace(HERE, outputs=(Port("frame", "uint8", (3, 2)),)))
    with pytest.raises(BackendError, match="another output 'frame'"):
        graph.run({"context": CONTEXT, "keypoints": KEYPOINTS})


def test_threads_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, wrong = opened(monkeypatch), []

    def work(start: int) -> None:
        for i in range(start, start + 50):
            found = graph.run({"context": CONTEXT + i, "keypoints": KEYPOINTS})["frame"]
            if found[0, 0] != 10 + i:
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(start,)) for start in (0, 60, 120)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_what_a_package_says_of_itself_is_read_back() -> None:
    assert read_about(Path("x"), {ABOUT: HERE.text()}) == HERE
    assert json.loads(HERE.text())["threads"] == 1


def test_strided_inputs_are_copied_in_order() -> None:
    inputs = Inputs(Path("x"), PORTS[:1], "cpu")
    inputs.give({"context": np.asfortranarray(CONTEXT)})
    assert inputs.tensors[0].tolist() == CONTEXT.tolist()


def test_the_identity_names_torch_and_the_machine() -> None:
    found = TorchCompile().identity()
    assert found["torch"] == torch.__version__
    assert ("gpu" in found) == torch.cuda.is_available() and ("cpu" in found) != ("gpu" in found)


def test_the_identity_of_a_cpu_names_it_with_its_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Inductor compiles with -march=native: two processors with AVX-512 are not the same."""
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr("flowpose.runtime.machine.CPUINFO", cpuinfo)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = []
    for flags in ("avx512f", "avx512f avx512_vnni"):
        cpuinfo.write_text(f"model name : EPYC\nflags : {flags}\n")
        found.append(TorchCompile().identity())
    assert found[0].keys() == {"torch", "cpu", "cpu_flags", "cpu_capability"} and found[0]["cpu"] == "EPYC"
    assert found[0]["cpu_flags"] != found[1]["cpu_flags"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU that torch sees, and whose driver tells its version."""
    found = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 12080, raising=False)
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Thu Oct 19 UTC 2025\n")
    monkeypatch.setattr("flowpose.runtime.machine.DRIVER", version)


@pytest.mark.usefixtures("gpu")
def test_the_identity_of_a_gpu_names_its_multiprocessors_and_driver() -> None:
    assert TorchCompile().identity() == {
        "torch": torch.__version__, "gpu": "NVIDIA H200", "sm": "9.0", "sms": "132", "cuda": "12.8",
        "driver": "570.124.06",
    }  # fmt: skip


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def recorded(gpu: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """The switches of TF32 whenever a package is recorded on the GPU."""
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(torch_compile, "Inputs", lambda path, ports, device: SimpleNamespace(tensors=[]))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch_compile, "_recorded", lambda model, tensors, stream: seen.append(tf32()))
    return seen


def test_a_gpus_products_are_not_rounded_to_tf32(
    recorded: list[tuple[bool, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tf32()
    opened(monkeypatch, replace(HERE, device="cuda"))
    assert recorded == [(False, False)] and tf32() == before


def test_the_switches_are_put_back_after_a_failure() -> None:
    before = tf32()
    assert before[1], "cuDNN's is on where nobody has touched it"
    with exact_products():
        assert tf32() == (False, False)
    assert tf32() == before
    with pytest.raises(ZeroDivisionError), exact_products():
        raise ZeroDivisionError
    assert tf32() == before


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("where", ["Inputs", "_recorded"])
@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "GPU's memory"),
        (RuntimeError("capture"), "flowpose compile"),
    ],
)
def test_what_fails_while_a_package_is_prepared_is_typed(
    where: str, error: RuntimeError, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise error

    monkeypatch.setattr(torch_compile, where, fail)
    with pytest.raises(BackendError, match=f"torch cannot open the package.*{error}.*{fix}"):
        opened(monkeypatch, replace(HERE, device="cuda"))


def test_a_device_with_memory_of_its_own_keeps_people_who_take_turns() -> None:
    inputs = Inputs(Path("frame.pt2"), PORTS, "cpu")
    inputs._device = {name: torch.zeros_like(host) for name, host in inputs._host.items()}  # as on a GPU
    people = [CONTEXT * 1, CONTEXT * 2]
    for person in people:
        person.flags.writeable = False
    for turn in range(6):
        inputs.give({"context": people[turn % 2], "keypoints": KEYPOINTS + turn})
        assert np.array_equal(inputs._device["context"].numpy(), people[turn % 2])
        assert np.array_equal(inputs._device["keypoints"].numpy(), KEYPOINTS + turn)
    assert inputs.sent == 2 + 6
