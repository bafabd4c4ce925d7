"""The onnxruntime backend, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from flowpose.errors import BackendError
from flowpose.runtime.backend import Tensors

PROVIDER = "CPUExecutionProvider"
FAULTS = (
    state.EPFail,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
    ValueError,
)


class OnnxRuntimeGraph:
    """A graph in an onnxruntime session."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
        except FAULTS as error:
            raise BackendError(path, f"onnxruntime cannot open the graph ({error})") from error
        if self._session.get_providers() != [PROVIDER]:
            got = self._session.get_providers()
            raise BackendError(path, "onnxruntime took another provider", got=got, expected=PROVIDER)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except FAULTS as error:
            raise BackendError(self._path, f"onnxruntime cannot run the graph ({error})") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntime:
    """Opens graphs with onnxruntime."""

    version: str = onnxruntime.__version__

    def open(self, path: Path, threads: int) -> OnnxRuntimeGraph:
        """Returns the graph, ready to run on so many threads."""
        return OnnxRuntimeGraph(path, threads)
