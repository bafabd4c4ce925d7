"""The OpenVINO backend, on the CPU."""

from __future__ import annotations

import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from flowpose.errors import BackendError
from flowpose.runtime.backend import Tensors, check_inputs
from flowpose.runtime.executed import Executed, of_openvino


class OpenVinoGraph:
    """A compiled model with one inference request; a lock keeps threads apart, a request holds one run."""

    def __init__(self, path: Path, threads: int, precision_hint: str) -> None:
        options: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision_hint,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Weights kept in a byte are only kept so: by default their layers' inputs are rounded to 8 bits as well.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        self._path, self._lock = path, threading.Lock()
        try:
            self._request = openvino.Core().compile_model(str(path), "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise BackendError(path, f"openvino cannot open the graph ({error})") from error
        outputs = self._request.model_outputs
        self._outputs = [output.get_any_name() for output in outputs]
        self._expected = {
            given.get_any_name(): (np.dtype(given.get_element_type().to_dtype()), _sides(given))
            for given in self._request.model_inputs
        }

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, copied out of the request's own memory."""
        check_inputs(self._path, self._expected, inputs)
        try:
            with self._lock:
                values = self._request.infer(dict(inputs), share_inputs=True)
                found = [np.array(value) for value in values.to_tuple()]
        except RuntimeError as error:
            raise BackendError(self._path, f"openvino cannot run the graph ({error})") from error
        return dict(zip(self._outputs, found, strict=True))

    def executed(self, inputs: Tensors) -> Executed:
        """Returns what the graph became when it was compiled; the inputs do not matter."""
        return of_openvino(self._request.get_compiled_model())


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
