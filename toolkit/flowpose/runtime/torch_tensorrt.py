"""The torch-tensorrt backend: runs programs that `flowpose.compile.torch_tensorrt_package` made, on an NVIDIA GPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.backend import Tensors
from flowpose.runtime.torch_ports import ABOUT, CUDA, Inputs, copies, gpu_identity, open_fix, read_about

__all__ = ["TorchTensorRt", "TorchTensorRtGraph", "library"]

INSTALL = (
    "pip install 'flowpose[torch-tensorrt]', which takes TensorRT from NVIDIA's index, and a build of torch for CUDA; "
    "where TensorRT comes with the system, put its folder into LD_LIBRARY_PATH"
)

try:
    import tensorrt  # noqa: F401  first: torch_tensorrt says that it lacks TensorRT by a plain Exception
    import torch_tensorrt
except ModuleNotFoundError:
    raise
except (ImportError, OSError) as error:
    raise MissingDependency("torch-tensorrt", f"needs TensorRT's libraries ({error})", fix=INSTALL) from error

library: Any = torch_tensorrt


class TorchTensorRtGraph:
    """A program, loaded, with CUDA graphs on for its engine; a lock keeps threads apart.

    The switch is the process's own: torch_tensorrt has one for all engines. Pictures are bytes here and levels in f32
    in the engine; the GPU converts them.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        try:
            self._prepare(_loaded(path))
        except RuntimeError as error:
            fix = open_fix(error, _fix(path))
            raise BackendError(path, f"torch_tensorrt cannot open the program ({error})", fix=fix) from error

    def _prepare(self, loaded: tuple[Any, Mapping[str, Any]]) -> None:
        program, metadata = loaded
        self._about = read_about(self._path, metadata)
        self._inputs = Inputs(self._path, self._about.inputs, CUDA)
        with ExitStack() as owned, torch.no_grad():
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._model = owned.enter_context(library.runtime.enable_cudagraphs(program.module()))
            weakref.finalize(self, owned.pop_all().close)

    @property
    def sent(self) -> int:
        """How many inputs have been sent; a read-only array that is given again is not."""
        return self._inputs.sent

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, in arrays of their own.

        Raises:
            BackendError: other names, types or sizes than the program's inputs, or it fails.
        """
        try:
            with self._lock, torch.no_grad(), torch.cuda.stream(self._stream):
                self._inputs.give(inputs)
                made = self._model(*(each.float() for each in self._inputs.tensors))
                return copies(self._path, self._about.outputs, made)  # waits for the stream
        except RuntimeError as error:
            raise BackendError(self._path, f"torch_tensorrt cannot run the program ({error})") from error

    def executed(self, inputs: Tensors) -> None:
        """Returns None: torch_tensorrt does not tell what its engines compute in 8 bits."""
        return None


def _loaded(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """The program of a file, and what is written beside it."""
    extra: dict[str, Any] = {ABOUT: ""}
    try:
        program = library.load(str(path), extra_files=extra)
    except (ValueError, OSError) as error:
        raise BackendError(
            path, f"torch_tensorrt cannot open the program ({error})", fix=_fix(path)
        ) from error
    return program, extra if extra[ABOUT] else {}


def _fix(path: Path) -> str:
    return f"make it on this machine, with these versions: flowpose compile {path.parent}"


class TorchTensorRt:
    """Opens programs of Torch-TensorRT."""

    version: str = library.__version__

    def identity(self) -> dict[str, str]:
        """Returns what a program depends on: `torch`, `torch_tensorrt`, and the GPU (`gpu_identity`).

        Raises:
            BackendError: there is no GPU.
        """
        return {"torch": torch.__version__, "torch_tensorrt": self.version, **gpu_identity()}

    def open(self, path: Path, threads: int) -> TorchTensorRtGraph:
        """Returns the program, ready to run; the number of CPU threads does not matter to it.

        Raises:
            BackendError: not a program of flowpose's, or there is no GPU that it runs on.
        """
        gpu_identity()
        return TorchTensorRtGraph(path)
