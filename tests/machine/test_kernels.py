"""The small graph that tells whether a backend computes: its shipped bytes, its known result, and planted faults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.device import kernels
from flowpose.device.kernels import EXPECTED, GRAPH, INPUT, OUTPUT, check, check_all, kernel_input, wrong
from flowpose.errors import BackendError
from flowpose.runtime import backend
from flowpose.runtime.backend import BACKENDS, BackendEntry

NO = {"any": "pip install it"}


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convolution f32[4,3,3,3] and product f32[4,1], all multiples of 1/4."""
    steps = np.arange(4 * 3 * 3 * 3) * 5 % 7 - 3
    return (steps / 4).astype(np.float32).reshape(4, 3, 3, 3), np.array(
        [[0.5], [-0.75], [1], [0.25]], np.float32
    )


def made() -> bytes:
    """The graph; to write it again: `python tests/machine/test_kernels.py`."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    conv, product = weights()
    nodes = [
        helper.make_node(
            "Conv", [INPUT, "conv"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]
        ),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "product"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info(INPUT, kinds.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(OUTPUT, kinds.FLOAT, [1, 4, 4, 1])],
        [onnx.numpy_helper.from_array(conv, "conv"), onnx.numpy_helper.from_array(product, "product")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def computed(x: NDArray[np.float32], relu: bool = True) -> NDArray[np.float64]:
    """The graph in numpy."""
    conv, product = weights()
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    found = np.zeros((1, 4, 4, 4))
    for row in range(4):
        for column in range(4):
            part = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            found[0, :, row, column] = np.tensordot(conv, part, 3)
    return (np.maximum(found, 0) if relu else found) @ product


def known() -> NDArray[np.float32]:
    return np.array(EXPECTED, np.float32).reshape(1, 4, 4, 1)


def test_the_shipped_graph_is_the_one_written_here() -> None:
    assert GRAPH.read_bytes() == made()
    assert GRAPH.stat().st_size < 2000


def test_the_known_result_is_that_of_the_graph_and_needs_each_of_its_parts() -> None:
    assert np.array_equal(known(), computed(kernel_input()))
    assert np.abs(known() - computed(kernel_input(), relu=False)).max() > 100 * kernels.ATOL
    assert np.unique(known()).size > 8
    half = kernel_input().astype(np.float16)
    assert np.array_equal(half, kernel_input())


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_backend_that_is_installed_runs(name: str) -> None:
    pytest.importorskip(BACKENDS[name].library)
    found = check(name)
    assert found.ok, found.text
    assert found.backend == name and found.seconds is not None and 0 < found.seconds < 10
    assert found.text[0].isdigit()


def test_all_are_checked_in_the_tables_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table without PyTorch, which takes seconds to import."""
    entries = {
        "not-here": BackendEntry("not_here", "None", "not_here", NO),
        "onnxruntime": BACKENDS["onnxruntime"],
    }
    monkeypatch.setattr(kernels, "BACKENDS", entries)
    monkeypatch.setattr(backend, "BACKENDS", entries)
    assert [(each.backend, each.ok) for each in check_all()] == [("not-here", False), ("onnxruntime", True)]


class Fake:
    """A backend whose graph answers what it is given; the class that the table of backends names."""

    version = "1.0"
    answer: Any = None
    gpu: Any = None

    def identity(self) -> dict[str, str]:
        if isinstance(self.gpu, Exception):
            raise self.gpu
        return {}

    def open(self, path: Path, threads: int) -> Fake:
        assert path.name.startswith(GRAPH.stem) and threads == 1
        return self

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        assert np.array_equal(inputs[INPUT], kernel_input())
        if isinstance(self.answer, Exception):
            raise self.answer
        return {} if self.answer is None else {OUTPUT: self.answer}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Fake]]:
    monkeypatch.setitem(sys.modules, "fake_library", SimpleNamespace(Fake=Fake))
    monkeypatch.setitem(BACKENDS, "fake", BackendEntry("fake_library", "Fake", "fake", NO))
    yield Fake
    Fake.answer = Fake.gpu = None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "gave nothing"),
        (np.zeros((1, 4, 4, 1), np.float32), "gave zeros"),
        (known()[0], "gave [4, 4, 1], expected [1, 4, 4, 1]"),
        (known() + np.float32(0.01), "up to 0.01 off"),
        (known()[:, ::-1], "off"),
        (np.where(known() == 0.25, np.nan, known()), "nan off"),
        (BackendError("kernel.onnx", "no kernel image for this device"), "no kernel image"),
        (OSError("libcudart.so.12: cannot open shared object file"), "cannot be loaded (libcudart.so.12"),
    ],
)
def test_each_fault_is_found(fake: type[Fake], answer: Any, text: str) -> None:
    fake.answer = answer
    found = check("fake")
    assert found.ok is False and text in found.text


def test_rounding_is_no_fault(fake: type[Fake]) -> None:
    fake.answer = known() + np.float32(5e-4)
    assert check("fake").ok is True
    assert wrong(known()) == ""


def test_a_library_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = BackendEntry("not_here.backend", "Backend", "not_here", {"any": "pip install not-here"})
    monkeypatch.setitem(BACKENDS, "absent", entry)
    found = check("absent")
    assert found.ok is False and found.seconds is None
    assert "needs the package not_here" in found.text and "pip install not-here" in found.text


def test_a_library_that_cannot_be_loaded_is_no_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_library.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BACKENDS, "broken", BackendEntry("broken_library", "Backend", "broken_library", NO))
    assert "libnvinfer.so.10" in check("broken").text


def test_a_backend_that_builds_first_is_not_run(fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answer = AssertionError("must not run")
    monkeypatch.setitem(BACKENDS, "fake", BackendEntry("fake_library", "Fake", "fake", NO, ".engine"))
    found = check("fake")
    assert found.ok is None and found.text == "1.0; not run: --build builds and runs it"


def test_a_backend_that_builds_first_is_built_and_run(
    fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer, made = known(), list[Path]()
    monkeypatch.setitem(BACKENDS, "fake", BackendEntry("fake_library", "Fake", "fake", NO, ".engine"))

    def make(name: str, folder: Path) -> Path:
        assert name == "fake" and folder.is_dir()
        made.append(folder / "kernel.engine")
        return made[0]

    found = check("fake", make)
    assert found.ok is True and found.text == "1.0" and not made[0].parent.exists()
    fake.answer = np.zeros((1, 4, 4, 1), np.float32)
    assert check("fake", make).text == "gave zeros"


def test_a_build_that_fails_is_no_crash(fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "fake", BackendEntry("fake_library", "Fake", "fake", NO, ".engine"))

    def make(name: str, folder: Path) -> Path:
        raise BackendError("kernel.onnx", "cannot be built")

    found = check("fake", make)
    assert found.ok is False and found.seconds is None and "cannot be built" in found.text


@pytest.mark.parametrize("suffix", [".onnx", ".engine"])
def test_a_library_without_its_gpu_says_so(
    fake: type[Fake], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.gpu = BackendError("torch", "sees no GPU")
    monkeypatch.setitem(BACKENDS, "fake", BackendEntry("fake_library", "Fake", "fake", NO, suffix))
    found = check("fake")
    assert found.ok is False and "sees no GPU" in found.text


def test_a_name_that_no_backend_has_is_an_error() -> None:
    with pytest.raises(BackendError, match="onnxruntime"):
        check("onnxruntim")


if __name__ == "__main__":
    GRAPH.write_bytes(made())
    print([float(value) for value in computed(kernel_input()).ravel()])
