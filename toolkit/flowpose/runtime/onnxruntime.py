"""The onnxruntime backend, on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from flowpose.errors import BackendError
from flowpose.runtime.backend import Tensors
from flowpose.runtime.executed import Executed, of_profile

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
        self._path, self._threads = path, threads
        self._session = _opened(path, _options(threads))
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

    def executed(self, inputs: Tensors) -> Executed:
        """Returns what one run does, from a profile: the graph is opened once more for it, and run once."""
        with TemporaryDirectory() as folder:
            options = _options(self._threads)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "run")
            session = _opened(self._path, options)
            try:
                session.run(self._outputs, dict(inputs))
            except FAULTS as error:
                raise BackendError(self._path, f"onnxruntime cannot run the graph ({error})") from error
            return of_profile(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Left alone its threads spin on after a run and take the cores from whoever runs next: a frame of OpenVINO right
    # after one of onnxruntime took 1.8 times as long (median, n = 89; two cores of an EPYC that a training shared).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _opened(path: Path, options: Any) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
    except FAULTS as error:
        raise BackendError(path, f"onnxruntime cannot open the graph ({error})") from error


class OnnxRuntime:
    """Opens graphs with onnxruntime."""

    version: str = onnxruntime.__version__

    def open(self, path: Path, threads: int) -> OnnxRuntimeGraph:
        """Returns the graph, ready to run on so many threads."""
        return OnnxRuntimeGraph(path, threads)
