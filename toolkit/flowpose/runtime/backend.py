"""Backends: what runs a graph. The table says where each one stands and how it is installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.executed import Executed

Tensors = Mapping[str, NDArray[Any]]


class Graph(Protocol):
    """An opened graph.

    `run` takes every input by name and returns every output, in arrays of its own. `executed` takes the same and
    returns what the backend makes of the graph, None where it does not tell.
    """

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]: ...

    def executed(self, inputs: Tensors) -> Executed | None: ...


class Backend(Protocol):
    """A runtime library.

    Attributes:
        version: the library's version.
    """

    version: str

    def open(self, path: Path, threads: int) -> Graph:
        """Returns the ONNX graph of a file, ready to run on so many CPU threads; BackendError if not."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """A backend: its module and class, the library it needs, and the command that installs that."""

    module: str
    cls: str
    library: str
    install: str


BACKENDS = {
    "onnxruntime": BackendEntry(
        "flowpose.runtime.onnxruntime", "OnnxRuntime", "onnxruntime", "pip install onnxruntime"
    ),
    "openvino": BackendEntry("flowpose.runtime.openvino", "OpenVino", "openvino", "pip install openvino"),
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
        if (error.name or "").split(".")[0] != entry.library:
            raise
        raise MissingDependency(name, f"needs the package {entry.library}", fix=entry.install) from error
    backend: Backend = getattr(module, entry.cls)()
    return backend


def available_threads() -> int:
    """Returns how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
