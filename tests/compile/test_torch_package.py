"""Packages of machine code: the tiny graph compiled, loaded and run, and what is refused before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_graphs
import torch
from torch._dynamo.exc import Unsupported, UserError, UserErrorType
from torch._export.error import ExportError, ExportErrorType
from torch._export.verifier import SpecViolationError
from torch._inductor import config

from flowpose.artifact import Artifact
from flowpose.compile import torch_package
from flowpose.compile.torch_graph import torch_module
from flowpose.compile.torch_package import build, build_package, exported
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.torch_compile import TorchCompile
from flowpose.runtime.torch_ports import read_about


@pytest.mark.slow
def test_a_package_runs_as_the_graph(packages: Mapping[str, Path]) -> None:
    out = packages["frame"]
    source, keypoints = tiny_graphs.pictures(1)[0], tiny_graphs.standing()
    context = tiny_graphs.encode(source)
    context.flags.writeable = False
    graph = TorchCompile().open(out, 1)
    for y in (1.0, 2.0):
        keypoints = tiny_graphs.standing(y)
        frame = graph.run({"context": context, "keypoints": keypoints})["frame"]
        levels = np.abs(frame.astype(int) - tiny_graphs.draw(context, keypoints))
        assert frame.dtype == np.uint8 and levels.max() <= 1
    assert graph.sent == 3  # the context once
    with pytest.raises(BackendError, match="another number of threads"):
        TorchCompile().open(out, 2)
    with pytest.raises(BackendError, match="wrong input 'keypoints'"):
        graph.run({"context": context, "keypoints": keypoints[:17]})


def test_a_graph_is_exported_without_its_names_of_nodes_or_constants(tiny: Artifact) -> None:
    program = exported(torch_module(tiny.file("source.onnx")))
    source = torch.from_numpy(tiny_graphs.pictures(1)[0])
    expected = tiny_graphs.encode(source.numpy())
    np.testing.assert_allclose(program.module()(source)[0].numpy(), expected, atol=1e-6)


def test_the_builder_writes_what_the_package_needs(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    said: list[str] = []
    monkeypatch.setattr(
        torch_package, "aoti_compile_and_package", lambda program, **settings: seen.update(settings)
    )
    options = SimpleNamespace(threads=2)
    out = tmp_path / "new" / "source.pt2"
    build(tiny.file("source.onnx"), out, "fp32", options, said.append)  # type: ignore[arg-type]
    settings = seen["inductor_configs"]
    assert isinstance(settings, dict) and settings["cpp.threads"] == 2
    about = read_about(out.parent, settings["aot_inductor.metadata"])
    assert [str(port) for port in (*about.inputs, *about.outputs)] == [
        "uint8[24, 16, 3]",
        "float32[1, 2, 24, 48]",
    ]
    assert seen["package_path"] == str(out) and out.parent.is_dir() and "source.pt2" in said[0]


def test_without_a_compiler_the_command_is_told(tiny: Artifact, tmp_path: Path) -> None:
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(MissingDependency, match=r"needs a C\+\+ compiler.*apt-get install g\+\+"),
    ):
        build_package(tiny.file("source.onnx"), tmp_path / "source.pt2")


def test_a_compiler_that_fails_is_typed(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(program: object, **settings: object) -> None:
        raise torch_package.CppCompileError(["g++"], "out of disk")

    monkeypatch.setattr(torch_package, "aoti_compile_and_package", fail)
    with pytest.raises(BackendError, match=r"AOTInductor cannot compile the graph.*out of disk"):
        build_package(tiny.file("source.onnx"), tmp_path / "source.pt2")


@pytest.mark.parametrize("where", ["torch_module", "exported", "aoti_compile_and_package"])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"),
            r"CUDA out of memory. Tried 2 GiB\)",
        ),
        (UserError(UserErrorType.INVALID_INPUT, "an input"), "an input"),
        (Unsupported("a graph break", "a graph break"), "a graph break"),
        (SpecViolationError("an operator that is not exported"), "not exported"),
        (ExportError(ExportErrorType.NOT_SUPPORTED, "sizes"), "sizes"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_failure_of_torch_is_typed(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, text: str
) -> None:
    def fail(*given: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(torch_package, where, fail)
    with pytest.raises(BackendError, match=f"AOTInductor cannot compile the graph.*{text}"):
        build_package(tiny.file("source.onnx"), tmp_path / "source.pt2")


def test_what_is_no_failure_of_torch_is_not_hidden(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_package, "exported", lambda module, device: [][0])
    with pytest.raises(IndexError):
        build_package(tiny.file("source.onnx"), tmp_path / "source.pt2")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_gpus_products_are_not_rounded_to_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    before, seen = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32), []
    module = SimpleNamespace(inputs=(), outputs=(), to=lambda device: module)
    monkeypatch.setattr(torch_package, "torch_module", lambda graph, dtype, rendering: module)
    monkeypatch.setattr(torch_package, "exported", lambda module, device: None)
    monkeypatch.setattr(
        torch_package, "aoti_compile_and_package",
        lambda program, **settings: seen.append(
            (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        ),
    )  # fmt: skip
    build_package(tmp_path / "frame.onnx", tmp_path / "frame.pt2", device=device)
    assert seen == [(False, False) if device == "cuda" else before]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
