"""Backends: what runs a graph. The table says where each one stands and how it is installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.executed import Executed
from flowpose.spec.graphs import ONNX as ONNX

Tensors = Mapping[str, NDArray[Any]]


Expected = tuple[Any, tuple[int | None, ...]]
"""Dtype and shape of an input, None for a side that is open."""


class Graph(Protocol):
    """An opened graph.

    `run` takes every input by name and returns every output, in arrays of its own; several threads may call it at once,
    and each gets the bytes that it would get alone. `executed` takes the same and returns what the backend makes of the
    graph, None where it does not tell.
    """

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]: ...

    def executed(self, inputs: Tensors) -> Executed | None: ...


@runtime_checkable
class ParallelGraph(Graph, Protocol):
    """A graph that draws several frames at once, those that `run` gives for each; see `BackendEntry.many`."""

    def run_many(self, inputs: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]: ...


class Backend(Protocol):
    """A runtime library, and the device that it runs graphs on.

    A GPU backend does not send an input again that is read-only and the very array that it was given last under that
    name: so a person's context stays on the device.

    Attributes:
        version: the library's version.
    """

    version: str

    def identity(self) -> dict[str, str]:
        """Returns what its results depend on here, name -> value; empty where it runs ONNX files on the CPU.

        Of a file that was built, and of a contest on a GPU: with another GPU either is made anew.

        Raises:
            BackendError: the GPU that it needs is not there.
        """
        ...

    def open(self, path: Path, threads: int) -> Graph:
        """Returns the graph of a file, ready to run on so many CPU threads; BackendError if not."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """A backend.

    Attributes:
        module, cls: where it stands.
        library: the package that it needs.
        install: the command that installs the package, for each processor where it is not the same: `aarch64` -> text,
            `any` -> text.
        suffix: of the files that it opens: ONNX, or what `flowpose.compile.building` builds for it.
        many: how `run_many` runs several frames: `in parallel` (a `ParallelGraph`), or `in turn`.
        gpu: whether it can run graphs on an NVIDIA GPU.
    """

    module: str
    cls: str
    library: str
    install: Mapping[str, str]
    suffix: str = ONNX
    many: Literal["in parallel", "in turn"] = "in turn"
    gpu: bool = True


_ORT = "flowpose.runtime.onnxruntime"
_JETSON_ORT = "install JetPack's own wheel of onnxruntime-gpu (docs/jetson.md)"
_JETSON_TENSORRT = (
    "pip install 'cuda-bindings>=12.8,<13' (JetPack 6; on 7 'cuda-bindings>=13,<14'); TensorRT itself comes with "
    "JetPack: make the environment with python3 -m venv --system-site-packages (docs/jetson.md)"
)
BACKENDS: Mapping[str, BackendEntry] = {
    "onnxruntime": BackendEntry(
        _ORT,
        "OnnxRuntime",
        "onnxruntime",
        {"any": "pip install onnxruntime"},
        many="in parallel",
        gpu=False,
    ),
    "onnxruntime-cuda": BackendEntry(
        _ORT,
        "OnnxRuntimeCuda",
        "onnxruntime",
        {"any": "pip uninstall onnxruntime && pip install onnxruntime-gpu", "aarch64": _JETSON_ORT},
    ),
    "onnxruntime-tensorrt": BackendEntry(
        _ORT,
        "OnnxRuntimeTensorRt",
        "onnxruntime",
        {"any": "pip uninstall onnxruntime && pip install onnxruntime-gpu tensorrt", "aarch64": _JETSON_ORT},
    ),
    "openvino": BackendEntry(
        "flowpose.runtime.openvino",
        "OpenVino",
        "openvino",
        {"any": "pip install openvino"},
        many="in parallel",
        gpu=False,
    ),
    "tensorrt": BackendEntry(
        "flowpose.runtime.tensorrt",
        "TensorRt",
        "tensorrt",
        {"any": "pip install 'flowpose[tensorrt]'", "aarch64": _JETSON_TENSORRT},
        ".engine",
    ),
    "torch-compile": BackendEntry(
        "flowpose.runtime.torch_compile",
        "TorchCompile",
        "torch",
        {"any": "pip install 'flowpose[torch-compile]'"},
        ".pt2",
    ),
    "torch-tensorrt": BackendEntry(
        "flowpose.runtime.torch_tensorrt",
        "TorchTensorRt",
        "torch_tensorrt",
        {"any": "pip install 'flowpose[torch-tensorrt]'"},
        ".ep",
    ),
}

# OpenVINO runs INT8 graphs of TensorRT's style fast on x86 and nothing else does; elsewhere onnxruntime is
# the portable one (measured on a 2-core EPYC).
DEFAULTS = {"x86_64": "openvino"}
ARCHITECTURES = {"AMD64": "x86_64", "arm64": "aarch64"}  # other names of the same processors


def default_backend() -> str:
    """Returns the backend for a graph on this machine: openvino on x86_64, onnxruntime elsewhere."""
    return DEFAULTS.get(ARCHITECTURES.get(platform.machine(), platform.machine()), "onnxruntime")


def open_backend(name: str) -> Backend:
    """Returns a backend by its name in BACKENDS.

    Raises:
        BackendError: no such backend.
        MissingDependency: its library is not installed.
    """
    if name not in BACKENDS:
        raise BackendError(
            "backend", "unknown backend", got=f"'{name}'", expected="one of " + ", ".join(BACKENDS)
        )
    entry = BACKENDS[name]
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "flowpose":
            raise
        raise MissingDependency(name, f"needs the package {missing}", fix=install_command(name)) from error
    backend: Backend = getattr(module, entry.cls)()
    return backend


def install_command(name: str) -> str:
    """Returns what installs a backend's library on this machine."""
    install = BACKENDS[name].install
    return install.get(ARCHITECTURES.get(platform.machine(), platform.machine()), install["any"])


def run_many(graph: Graph, inputs: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]:
    """Returns the outputs of several runs, in order: at once where the graph can, else one after the other.

    Of the latter those with the same read-only arrays follow each other, so that a device is sent a context once.
    """
    if isinstance(graph, ParallelGraph):
        return graph.run_many(inputs)
    found: list[dict[str, NDArray[Any]]] = [{} for _ in inputs]
    for i in sorted(range(len(inputs)), key=lambda i: _kept_ids(inputs[i])):
        found[i] = graph.run(inputs[i])
    return found


def _kept_ids(inputs: Tensors) -> list[int]:
    return [id(value) for value in inputs.values() if not value.flags.writeable]


def check_inputs(where: Path, expected: Mapping[str, Expected], inputs: Tensors) -> None:
    """Refuses inputs that are not those of a graph.

    For libraries that do not look: OpenVINO 2026.4 takes the input of the run before for one that is missing, and
    converts another dtype.

    Raises:
        BackendError: says which input is wrong.
    """
    for name in dict.fromkeys((*expected, *inputs)):
        given, wanted = inputs.get(name), expected.get(name)
        if given is None or wanted is None or not _is(given, wanted):
            found = None if given is None else (given.dtype, given.shape)
            raise BackendError(
                f"{where}, input '{name}'", "is not what the graph takes",
                got=_described(found), expected=_described(wanted),
            )  # fmt: skip


class Held:
    """Which inputs a device has: read-only arrays, the very ones that it was given last under their names."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    @contextmanager
    def missing(self, inputs: Tensors) -> Iterator[Tensors]:
        """Gives the block the inputs that it must send; where the block raises, nothing counts as sent any more."""
        before, self._arrays = self._arrays, {}
        yield {
            name: value
            for name, value in inputs.items()
            if value.flags.writeable or before.get(name) is not value
        }
        self._arrays = {name: value for name, value in inputs.items() if not value.flags.writeable}


def _is(given: NDArray[Any], wanted: Expected) -> bool:
    dtype, sides = wanted
    same = (side in (None, own) for side, own in zip(sides, given.shape, strict=False))
    return given.dtype == dtype and given.ndim == len(sides) and all(same)


def _described(tensor: Expected | None) -> str:
    return f"{tensor[0]}{list(tensor[1])}" if tensor is not None else "none of that name"


def available_threads() -> int:
    """Returns how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
