"""The onnxruntime backends: on the CPU, and on an NVIDIA GPU by its CUDA or its TensorRT provider."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.backend import Held, Tensors, check_inputs, install_command
from flowpose.runtime.cuda_driver import gpu_identity
from flowpose.runtime.device_copies import DeviceCopies
from flowpose.runtime.executed import Executed, of_profile
from flowpose.runtime.lanes import Lanes, in_lanes

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
CACHE = "FLOWPOSE_CACHE"  # names the folder of engines that the TensorRT provider keeps; default ~/.cache/flowpose
DTYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int64)": np.dtype(np.int64),
}
Options = Mapping[str, str]
Providers = Sequence[tuple[str, Options]]
"""Providers, the one that is meant first, with their options."""

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


PLAIN = {"use_tf32": "0"}  # fp32 is fp32, as in the other backends


class OnnxRuntimeGraph:
    """A graph in an onnxruntime session."""

    def __init__(self, path: Path, threads: int, providers: Providers = ((CPU, {}),)) -> None:
        self._path, self._threads, self._providers = path, threads, providers
        self._session = _opened(path, _options(threads), providers)
        first = providers[0][0]
        if self._session.get_providers()[0] != first:  # it falls back without an error
            got = self._session.get_providers()
            raise BackendError(path, "onnxruntime took another provider", got=got, expected=first)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except FAULTS as error:
            raise _failed(self._path, error) from error
        return dict(zip(self._outputs, values, strict=True))

    def executed(self, inputs: Tensors) -> Executed:
        """Returns what one run does, from a profile: the graph is opened once more for it, and run once."""
        with TemporaryDirectory() as folder:
            options = _options(self._threads)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "run")
            session = _opened(self._path, options, self._providers)
            try:
                session.run(self._outputs, dict(inputs))
            except FAULTS as error:
                raise _failed(self._path, error) from error
            return of_profile(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


class CpuGraph(OnnxRuntimeGraph):
    """A graph on the CPU, which draws several frames at once in a second session of one thread."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        self._lock = threading.Lock()
        self._lanes: Lanes | None = None

    def run_many(self, inputs: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]:
        """Returns the outputs of each, in order; the first call with work for several threads opens the session."""
        count = in_lanes(len(inputs), self._threads)
        found = self._opened_lanes()(inputs[:count]) if count else []
        return found + [self.run(each) for each in inputs[count:]]

    def _opened_lanes(self) -> Lanes:
        with self._lock:
            if self._lanes is None:
                lane = OnnxRuntimeGraph(self._path, 1)
                self._lanes = Lanes(
                    [lane.run] * self._threads
                )  # a session runs in as many threads as call it
            return self._lanes


class BoundGraph(OnnxRuntimeGraph):
    """A graph whose inputs are bound to a device: a read-only array that is there is not sent again.

    Args:
        path, threads, providers: as for `OnnxRuntimeGraph`.
        device: what onnxruntime calls the device, `cuda` or `cpu`.
    """

    def __init__(self, path: Path, threads: int, providers: Providers, device: str) -> None:
        super().__init__(path, threads, providers)
        self._device, self._lock = device, threading.Lock()
        self._binding = self._session.io_binding()
        self._held, self.sent = Held(), 0
        self._copies = DeviceCopies[Any]()
        self._expected = {
            given.name: (
                DTYPES[given.type],
                tuple(side if isinstance(side, int) else None for side in given.shape),
            )
            for given in self._session.get_inputs()
        }

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, copied from the device."""
        check_inputs(self._path, self._expected, inputs)
        try:
            with self._lock, self._held.missing(inputs) as missing:
                for name, value in missing.items():
                    self._binding.bind_ortvalue_input(name, self._copies.of(value, self._send))
                for name in self._outputs:
                    self._binding.bind_output(name, self._device)
                self._session.run_with_iobinding(self._binding)
                values = [np.array(value) for value in self._binding.copy_outputs_to_cpu()]
        except FAULTS as error:
            self._copies.clear()
            raise _failed(self._path, error) from error
        return dict(zip(self._outputs, values, strict=True))

    def _send(self, value: NDArray[Any]) -> Any:
        self.sent += 1
        return onnxruntime.OrtValue.ortvalue_from_numpy(value, self._device, 0)


def _failed(path: Path, error: Exception) -> BackendError:
    return BackendError(path, f"onnxruntime cannot run the graph ({error})")


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Left alone its threads spin on after a run and take the cores from whoever runs next: a frame of OpenVINO right
    # after one of onnxruntime took 1.8 times as long (median, n = 89; two cores of an EPYC that a training shared).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _opened(path: Path, options: Any, providers: Providers) -> Any:
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[(name, dict(own)) for name, own in providers]
        )
    except FAULTS as error:
        raise BackendError(path, f"onnxruntime cannot open the graph ({error})") from error


class OnnxRuntime:
    """Opens graphs with onnxruntime on the CPU."""

    version: str = onnxruntime.__version__

    def identity(self) -> dict[str, str]:
        """Returns nothing: it runs ONNX files, on the CPU."""
        return {}

    def open(self, path: Path, threads: int) -> OnnxRuntimeGraph:
        """Returns the graph, ready to run on so many threads."""
        return CpuGraph(path, threads)


class OnnxRuntimeCuda(OnnxRuntime):
    """Opens graphs with onnxruntime's CUDA provider."""

    def __init__(self) -> None:
        _need("onnxruntime-cuda", CUDA)

    def identity(self) -> dict[str, str]:
        """Returns what its speed and its outputs depend on: the GPU (`cuda_driver.gpu_identity`)."""
        return gpu_identity()

    def open(self, path: Path, threads: int) -> BoundGraph:
        """Returns the graph on the first GPU."""
        return BoundGraph(path, threads, ((CUDA, PLAIN), (CPU, {})), "cuda")


class OnnxRuntimeTensorRt(OnnxRuntime):
    """Opens graphs with onnxruntime's TensorRT provider, which builds engines at the first run and keeps them."""

    def __init__(self) -> None:
        _need("onnxruntime-tensorrt", TENSORRT)

    def identity(self) -> dict[str, str]:
        """Returns what its speed and its outputs depend on: the GPU (`cuda_driver.gpu_identity`)."""
        return gpu_identity()

    def open(self, path: Path, threads: int) -> BoundGraph:
        """Returns the graph on the first GPU; what TensorRT refuses runs by CUDA."""
        folder = Path(os.environ.get(CACHE, Path.home() / ".cache" / "flowpose")) / "onnxruntime-tensorrt"
        content = path.read_bytes()
        # The provider knows a kept engine by names alone (of the file, its inputs and outputs), which all our models
        # share, and would run another model's weights: microsoft/onnxruntime issues 6455 and 32254.
        engines = folder / hashlib.sha256(content).hexdigest()[:16]
        engines.mkdir(parents=True, exist_ok=True)
        own = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
            # With fp16 allowed the provider would compute fp32 graphs in it, too: those in halves are computed wide.
            "trt_fp16_enable": "0",
            "trt_int8_enable": str(int(_quantized(content))),
        }
        return BoundGraph(path, threads, ((TENSORRT, own), (CUDA, PLAIN), (CPU, {})), "cuda")


def _quantized(content: bytes) -> bool:
    """Whether an ONNX file names the operator that every quantized graph has."""
    return b"DequantizeLinear" in content


def _need(name: str, provider: str) -> None:
    """The list of providers says what was compiled in, not what runs; but what is not in it cannot."""
    have = onnxruntime.get_available_providers()
    if provider not in have:
        raise MissingDependency(
            name, "this build of onnxruntime lacks the provider", got=", ".join(have), expected=provider,
            fix=install_command(name),
        )  # fmt: skip
