"""Building what a backend opens from the ONNX graphs of an artifact; backends that run ONNX files need nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from flowpose.artifact import Artifact
from flowpose.errors import MissingDependency
from flowpose.runtime.backend import BACKENDS, ONNX, Backend, install_command
from flowpose.runtime.loading import onnx_graph
from flowpose.runtime.machine import machine_identity

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build.

    Attributes:
        threads: CPU threads of a run.
        workspace_mb: most GPU memory that a kernel may take while it runs, MB; None leaves it to the free memory.
        level: 0..5, how long the builder may look for kernels.
        cache: folder of what builders keep from one build to the next, such as timings of kernels.
        logs: folder of the builders' logs.
    """

    threads: int
    workspace_mb: int | None = None
    level: int = 3
    cache: Path
    logs: Path


class Build(Protocol):
    """Builds what a backend opens of an ONNX graph."""

    def __call__(self, graph: Path, out: Path, precision: str, options: Options, say: Say) -> None:
        """Writes the file `out`.

        Raises:
            BackendError: the graph cannot be built.
            MissingDependency: a library or a compiler is not there.
        """
        ...


BUILDERS: Mapping[str, tuple[str, str]] = {
    "tensorrt": ("flowpose.compile.tensorrt_build", "build"),
    "torch-compile": ("flowpose.compile.torch_package", "build"),
    "torch-tensorrt": ("flowpose.compile.torch_tensorrt_package", "build"),
}
"""Backend -> module and function that build for it; a backend whose files are ONNX has none."""

_UNSAFE = re.compile(r"[^\w.+]+")  # in a file's name


def builds(name: str) -> bool:
    """Whether something is built for a backend."""
    return BACKENDS[name].suffix != ONNX if name in BACKENDS else False


def identity(backend: Backend) -> dict[str, str]:
    """Returns what a backend's results depend on here beside the graph: its library, its GPU, the power mode.

    Empty where it runs ONNX files on the CPU.
    """
    own = backend.identity()
    return {**machine_identity(), **own} if own else {}


def timing_cache_name(backend: Backend) -> str:
    """Returns the file name of TensorRT's timing cache that fits here: all of `identity`, for a change makes another.

    For example timing-power_mode2-tensorrt10.3.0-gpuOrin-sm8.7-sms8-cuda12.6-driver540.4.0.cache.

    Raises:
        BackendError: there is no GPU, so that there is nothing to time.
    """
    parts = (_UNSAFE.sub("_", f"{name}{value}") for name, value in identity(backend).items())
    return "-".join(("timing", *parts)) + ".cache"


def build(
    graph: Artifact, name: str, precision: str, folder: Path, options: Options, say: Say
) -> dict[str, Path] | None:
    """Returns `source` and `frame` -> file in `folder` that the backend opens; None where it opens the ONNX files.

    Raises:
        BackendError, MissingDependency: see `Build`.
    """
    if not builds(name):
        return None
    made = {}
    for part in ("source", "frame"):
        spec = onnx_graph(graph, part, precision, name)
        file = folder / f"{Path(spec.file).stem}.{name}{BACKENDS[name].suffix}"
        if not file.exists():  # a source graph in fp32 serves every precision
            say(f"building {file.name}")
            build_file(name, graph.file(spec.file), file, spec.precision, options, say)
        made[part] = file
    return made


def build_file(name: str, graph: Path, out: Path, precision: str, options: Options, say: Say) -> None:
    """Writes the file `out` that a backend of BUILDERS opens, of one ONNX graph.

    Raises:
        BackendError, MissingDependency: see `Build`.
    """
    _builder(name)(graph, out, precision, options, say)


def _builder(name: str) -> Build:
    module, function = BUILDERS[name]
    try:
        found: Build = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "flowpose":
            raise
        raise MissingDependency(
            name,
            f"building needs the package {missing}",
            fix=f"{install_command(name)}; pip install {missing}",
        ) from error
    return found
