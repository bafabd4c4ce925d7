"""The OpenVINO backend, on the CPU."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from flowpose.errors import BackendError
from flowpose.runtime.backend import Held, Tensors, check_inputs
from flowpose.runtime.executed import Executed, of_openvino
from flowpose.runtime.lanes import Lanes, in_lanes

Options = Mapping[str, str | int]


class Request:
    """An inference request, for one run at a time; it reads inputs where they lie.

    OpenVINO's own `infer(inputs)` copies a read-only array on every run: the context of a person, 1.5 MB of people-128.
    """

    def __init__(self, path: Path, compiled: Any) -> None:
        self._path, self._request = path, compiled.create_infer_request()
        self._outputs = [output.get_any_name() for output in self._request.model_outputs]
        self._expected = {
            given.get_any_name(): (np.dtype(given.get_element_type().to_dtype()), _sides(given))
            for given in self._request.model_inputs
        }
        self._held = Held()
        self._read: dict[str, NDArray[Any]] = {}  # what the request reads must stay

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, copied out of the request's memory."""
        check_inputs(self._path, self._expected, inputs)
        try:
            with self._held.missing(inputs) as missing:
                for name, value in missing.items():
                    self._read[name] = np.ascontiguousarray(value)
                    self._request.set_tensor(name, _in_place(self._read[name]))
                self._request.infer(share_outputs=True)
                return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}
        except RuntimeError as error:
            raise BackendError(self._path, f"openvino cannot run the graph ({error})") from error


def _in_place(array: NDArray[Any]) -> Any:
    """OpenVINO's view of an array; it takes no read-only one as it is, though a run writes no input."""
    if not array.flags.writeable:
        memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
        array = np.ctypeslib.as_array(memory).view(array.dtype).reshape(array.shape)
    return openvino.Tensor(array, shared_memory=True)


class OpenVinoGraph:
    """A compiled model with one request, in whose runs all threads share; a lock keeps callers apart.

    Several frames at once are drawn by a second one, with a stream of one thread and a request for each of them.
    """

    def __init__(self, path: Path, threads: int, precision_hint: str) -> None:
        self._path, self._threads, self._hint = path, threads, precision_hint
        self._compiled = _compiled(path, threads, precision_hint, {"PERFORMANCE_HINT": "LATENCY"})
        self._request = Request(path, self._compiled)
        self._lock, self._lanes_lock = threading.Lock(), threading.Lock()
        self._lanes: Lanes | None = None

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, in arrays of their own."""
        with self._lock:
            return self._request.run(inputs)

    def run_many(self, inputs: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]:
        """Returns the outputs of each, in order; the first call with work for several threads compiles for it."""
        count = in_lanes(len(inputs), self._threads)
        found = self._opened_lanes()(inputs[:count]) if count else []
        return found + [self.run(each) for each in inputs[count:]]

    def executed(self, inputs: Tensors) -> Executed:
        """Returns what the graph became when it was compiled; the inputs do not matter."""
        return of_openvino(self._compiled)

    def _opened_lanes(self) -> Lanes:
        with self._lanes_lock:
            if self._lanes is None:
                options: Options = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self._threads}
                compiled = _compiled(self._path, self._threads, self._hint, options)
                self._lanes = Lanes([Request(self._path, compiled).run for _ in range(self._threads)])
            return self._lanes


def _compiled(path: Path, threads: int, precision_hint: str, options: Options) -> Any:
    fixed: Options = {
        "INFERENCE_PRECISION_HINT": precision_hint,
        "INFERENCE_NUM_THREADS": threads,
        # Weights kept in a byte are only kept so: by default their layers' inputs are rounded to 8 bits as well.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    try:
        return openvino.Core().compile_model(str(path), "CPU", {**fixed, **options})
    except RuntimeError as error:
        raise BackendError(path, f"openvino cannot open the graph ({error})") from error


def _sides(given: Any) -> tuple[int | None, ...]:
    """The shape of an input, None for a side that is open."""
    return tuple(None if side.is_dynamic else side.get_length() for side in given.get_partial_shape())


class OpenVino:
    """Opens graphs with OpenVINO.

    Args:
        precision_hint: arithmetic of what is not quantized. Left alone OpenVINO takes bf16 on CPUs that have
            it (5 % off, relative); `f32` computes what the graph says.
    """

    version: str = metadata.version("openvino")

    def __init__(self, precision_hint: str = "f32") -> None:
        self._hint = precision_hint

    def identity(self) -> dict[str, str]:
        """Returns nothing: it runs ONNX files."""
        return {}

    def open(self, path: Path, threads: int) -> OpenVinoGraph:
        """Returns the graph, ready to run on so many threads."""
        return OpenVinoGraph(path, threads, self._hint)
