"""The torch-compile backend: runs packages that `flowpose.compile.torch_package` made with AOTInductor.

A package is machine code with its weights in it; it is loaded, not traced or compiled, and needs no compiler.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._inductor import aoti_load_package

from flowpose.errors import BackendError
from flowpose.runtime.backend import Tensors
from flowpose.runtime.machine import cpu_identity
from flowpose.runtime.torch_ports import (
    CPU,
    CUDA,
    About,
    Inputs,
    copies,
    exact_products,
    gpu_identity,
    open_fix,
    read_about,
)

WARM_RUNS = 3  # before recording: kernels are loaded and chosen by the first runs


class TorchCompileGraph:
    """A package, loaded; a lock keeps threads apart, for its inputs are one set of tensors.

    On a GPU the run is recorded as a CUDA graph when the package is opened, and replayed from then on.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads, self._lock = path, threads, threading.Lock()
        try:
            self._open()
        except RuntimeError as error:
            fix = open_fix(error, _fix(path))
            raise BackendError(path, f"torch cannot open the package ({error})", fix=fix) from error

    def _open(self) -> None:
        model = aoti_load_package(str(self._path), run_single_threaded=True)
        self._about = read_about(self._path, model.get_metadata())
        _check(self._path, self._about, self._threads)
        self._inputs = Inputs(self._path, self._about.inputs, self._about.device)
        self._run: Callable[[], Sequence[Tensor]]
        if self._about.device == CUDA:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            with exact_products():
                self._run = _recorded(model, self._inputs.tensors, self._stream)
        else:
            self._run = lambda: model(*self._inputs.tensors)

    @property
    def sent(self) -> int:
        """How many inputs have been copied; a read-only array that is given again is not."""
        return self._inputs.sent

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, in arrays of their own.

        Raises:
            BackendError: other names, types or sizes than the package's inputs, or it fails.
        """
        with self._lock, torch.no_grad():
            try:
                return self._on_gpu(inputs) if self._about.device == CUDA else self._on_cpu(inputs)
            except RuntimeError as error:
                raise BackendError(self._path, f"torch cannot run the package ({error})") from error

    def executed(self, inputs: Tensors) -> None:
        """Returns None: a package does not tell what it computes in 8 bits."""
        return None

    def _on_cpu(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        if (
            torch.get_num_threads() != self._threads
        ):  # one number for the whole process: others may have set it
            torch.set_num_threads(self._threads)
        self._inputs.give(inputs)
        return copies(self._path, self._about.outputs, self._run())

    def _on_gpu(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        with torch.cuda.stream(self._stream):
            self._inputs.give(inputs)
            found = copies(self._path, self._about.outputs, self._run())  # waits for the stream
        return found


def _fix(path: Path) -> str:
    return f"make it on this machine, with this version of torch: flowpose compile {path.parent}"


def _check(path: Path, about: About, threads: int) -> None:
    if about.torch != torch.__version__:
        what = "was built with another torch"
        raise BackendError(path, what, got=about.torch, expected=torch.__version__, fix=_fix(path))
    if about.device == CUDA and not torch.cuda.is_available():
        raise BackendError(path, "was built for a GPU and torch sees none", fix=_fix(path))
    if about.device == CPU and about.threads != threads:
        what, fix = "was built for another number of threads", f"threads={about.threads}, or compile again"
        raise BackendError(path, what, got=threads, expected=about.threads, fix=fix)


def _recorded(
    model: Callable[..., Any], tensors: Sequence[Tensor], stream: torch.cuda.Stream
) -> Callable[[], Sequence[Tensor]]:
    """A run as a CUDA graph: reads `tensors` where they are and gives its outputs in tensors that it writes again."""
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(WARM_RUNS):
            model(*tensors)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
        made = model(*tensors)

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return made  # type: ignore[no-any-return]

    return replay


class TorchCompile:
    """Opens packages of AOTInductor: on the GPU or the CPU that they were built for."""

    version: str = torch.__version__

    def identity(self) -> dict[str, str]:
        """Returns what a package depends on: `torch`, and the GPU (`gpu_identity`) or the very CPU (`cpu_identity`).

        Inductor compiles for the CPU that it runs on (-march=native), in vectors of `cpu_capability`.
        """
        if torch.cuda.is_available():
            return {"torch": self.version, **gpu_identity()}
        vectors = torch.backends.cpu.get_cpu_capability()
        return {"torch": self.version, **cpu_identity(), "cpu_capability": vectors}

    def open(self, path: Path, threads: int) -> TorchCompileGraph:
        """Returns the package, ready to run.

        Args:
            path: a .pt2 file. It holds machine code: only files whose origin is known belong here.
            threads: what it was built for. On a CPU the number becomes that of the whole process: torch has one.

        Raises:
            BackendError: not a package of flowpose's, or built for other threads, another torch or a GPU that is not
                there.
        """
        return TorchCompileGraph(path, threads)
