"""The TensorRT backend: runs engines that `flowpose.compile.tensorrt_build` made, on this machine's NVIDIA GPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import BackendError
from flowpose.runtime.backend import Held, Tensors, check_inputs
from flowpose.runtime.cuda import Buffer, Memory, Recording, Stream, gpu
from flowpose.runtime.device_copies import DeviceCopies
from flowpose.runtime.executed import Executed
from flowpose.runtime.machine import driver_identity
from flowpose.runtime.tensorrt_layers import of_engine
from flowpose.runtime.tensorrt_library import Log, trt, version

DTYPES: Mapping[str, type[Any]] = {"UINT8": np.uint8, "FLOAT": np.float32}
"""TensorRT's name of a type -> NumPy's: those that source and frame graphs take and give."""

PATTERN = 0xA5  # a byte that outputs are filled with to see whether a replay writes them
BY_HAND = "TensorRt(graph=False) queues the layers of every run anew"


class TensorRtGraph:
    """An engine with memory of its own on the GPU; a lock keeps threads apart.

    Everything is done once here that a run can do without: memory, addresses, a first run, and the recording of the
    layers as a CUDA graph, which a run launches as a whole.
    """

    def __init__(self, path: Path, *, graph: bool) -> None:
        self._path, self._lock, self._log = path, threading.Lock(), Log()
        machine = gpu()  # first: without a GPU TensorRT gives no reason
        self._engine = _deserialized(path, self._log)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            fix = "close what else uses the GPU's memory"
            raise BackendError(path, f"has no room to run in ({self._log.errors()})", fix=fix)
        self._held, self._integrated = Held(), machine.integrated
        self._copies = DeviceCopies[Memory]()
        self._recording: Recording | None = None
        owned = ExitStack()
        self._closed = weakref.finalize(self, owned.close)
        try:
            self._prepare(owned, machine.integrated, graph)
        except BackendError:
            # What failed first says more: freeing fails too where the GPU is lost.
            with suppress(BackendError):
                self._closed()
            raise

    def _prepare(self, owned: ExitStack, integrated: bool, graph: bool) -> None:
        self._stream = owned.enter_context(closing(Stream()))
        buffers = _buffers(self._path, self._engine, owned, integrated)
        self._inputs, self._outputs = buffers[trt.TensorIOMode.INPUT], buffers[trt.TensorIOMode.OUTPUT]
        self._expected = {name: (each.host.dtype, each.host.shape) for name, each in self._inputs.items()}
        self._connect()
        self._first_run()
        if graph:
            self._recording = owned.enter_context(closing(self._recorded()))
            self._check_replay(self._recording)

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, in arrays of their own.

        An input that cannot be written to and is the very array that was given last time is on the GPU already and is
        not uploaded again; whoever makes it writable and changes it must give another array. A discrete GPU keeps such
        arrays of earlier runs, too (`DeviceCopies`): people may take turns.

        Raises:
            BackendError: other names, dtypes or shapes than the engine's, or the GPU failed.
        """
        with self._lock:
            self._check_open()
            check_inputs(self._path, self._expected, inputs)
            try:
                with self._held.missing(inputs) as missing:
                    for name, value in missing.items():
                        self._give(self._inputs[name], value)
                    self._launch()
                    self._fetch()
            except BackendError:
                self._copies.clear()
                raise
            return {name: buffer.host.copy() for name, buffer in self._outputs.items()}

    def executed(self, inputs: Tensors) -> Executed | None:
        """Returns what the engine consists of, None if it was built without the details; the inputs do not matter."""
        with self._lock:
            self._check_open()
            inspector = self._engine.create_engine_inspector()
            return of_engine(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Frees the GPU's memory, as the end of the object does; it cannot run any more."""
        with self._lock:
            self._closed()
            self._copies.clear()
            self._context = self._engine = None

    def _give(self, buffer: Buffer, value: NDArray[Any]) -> None:
        """Queues what brings an array into an input's memory."""
        sent = False

        def send(array: NDArray[Any]) -> Memory:
            nonlocal sent
            sent = True
            self._upload(buffer, array)
            return buffer.copied(self._stream)

        if (
            self._integrated or value.flags.writeable
        ):  # an integrated GPU reads the CPU's memory: nothing to keep
            self._upload(buffer, value)
            return
        memory = self._copies.of(value, send)
        if not sent:
            buffer.take(memory, self._stream)

    def _upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        np.copyto(buffer.host, array)
        buffer.upload(self._stream)

    def _check_open(self) -> None:
        if not self._closed.alive:
            raise BackendError(self._path, "the engine is closed", fix="open it again")

    def _connect(self) -> None:
        for name, buffer in {**self._inputs, **self._outputs}.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise BackendError(self._path, f"takes no memory for '{name}' ({self._log.errors()})")

    def _first_run(self) -> None:
        """Runs once on zeros: what TensorRT puts off until then must not be recorded."""
        for buffer in self._inputs.values():
            buffer.raw.fill(0)
            buffer.upload(self._stream)
        self._enqueue()
        self._fetch()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise BackendError(self._path, f"TensorRT cannot run the engine ({self._log.errors()})")

    def _launch(self) -> None:
        if self._recording is None:
            self._enqueue()
        else:
            self._recording.launch(self._stream)

    def _fetch(self) -> None:
        for buffer in self._outputs.values():
            buffer.download(self._stream)
        self._stream.synchronize()

    def _recorded(self) -> Recording:
        """The layers as a CUDA graph."""
        try:
            return self._stream.record(self._enqueue)
        except BackendError as error:
            what = f"cannot be recorded as a CUDA graph ({error})"
            raise BackendError(self._path, what, fix=BY_HAND) from error

    def _check_replay(self, recording: Recording) -> None:
        """Launches the recording once to see that it writes every output."""
        first = {name: buffer.raw.copy() for name, buffer in self._outputs.items()}
        for buffer in self._outputs.values():
            buffer.raw.fill(PATTERN)
            buffer.upload(self._stream)
        recording.launch(self._stream)
        self._fetch()
        stale = [
            name
            for name, buffer in self._outputs.items()
            if (buffer.raw == PATTERN).all() and not (first[name] == PATTERN).all()
        ]
        if stale:
            what = "a replay of its CUDA graph leaves outputs as they were"
            raise BackendError(self._path, what, got=", ".join(stale), fix=BY_HAND)


def _deserialized(path: Path, log: Log) -> Any:
    """The engine of a file. It holds code for the GPU: only files whose origin is known belong here."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(path, f"cannot be read ({error.strerror})") from error
    try:
        library = trt.Runtime(log)
    except TypeError as error:  # what pybind11 makes of a null pointer
        raise BackendError(path, f"TensorRT does not start ({log.errors()})") from error
    engine = library.deserialize_cuda_engine(data)
    if engine is None:
        what = f"TensorRT {trt.__version__} cannot read the engine ({log.errors()})"
        fix = f"make it on this machine, with this version: flowpose compile {path.parent}"
        raise BackendError(path, what, fix=fix)
    return engine


def _buffers(path: Path, engine: Any, owned: ExitStack, integrated: bool) -> dict[Any, dict[str, Buffer]]:
    """TensorIOMode -> name -> memory of every tensor that goes in or out."""
    found: dict[Any, dict[str, Buffer]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        dtype, shape = engine.get_tensor_dtype(name).name, tuple(engine.get_tensor_shape(name))
        if dtype not in DTYPES:
            raise BackendError(path, f"type of '{name}'", got=dtype, expected=" or ".join(DTYPES))
        if any(length < 1 for length in shape):
            raise BackendError(path, f"shape of '{name}'", got=list(shape), expected="fixed lengths")
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BackendError(path, f"'{name}' is not in the GPU's memory", got="a shape", expected="values")
        buffer = owned.enter_context(closing(Buffer(shape, DTYPES[dtype], integrated=integrated)))
        found[engine.get_tensor_mode(name)][name] = buffer
    return found


class TensorRt:
    """Opens engines with TensorRT.

    Args:
        graph: whether runs replay a CUDA graph; without one every layer is queued anew, which costs the CPU time.
    """

    version: str = trt.__version__

    def __init__(self, graph: bool = True) -> None:
        version()
        self._graph = graph

    def identity(self) -> dict[str, str]:
        """Returns what an engine depends on besides its graph and the power mode.

        The keys: `tensorrt`, its full version; `gpu`; `sm`, `8.7`; `sms`, multiprocessors switched on; `cuda`, the
        newest that the driver runs; `driver`, its version, where the kernel tells it.

        Raises:
            BackendError: no GPU, or no driver for it.
        """
        found = gpu()
        machine = {"gpu": found.name, "sm": found.sm, "sms": str(found.sms), "cuda": found.driver}
        return {"tensorrt": self.version, **machine, **driver_identity()}

    def open(self, path: Path, threads: int) -> TensorRtGraph:
        """Returns the engine of a file, ready to run; the number of CPU threads does not matter to it.

        Raises:
            BackendError: no GPU, a file of another TensorRT or GPU or cut short, tensors of other types than
                uint8 and float32, no memory, or runs that cannot be recorded as a CUDA graph.
        """
        return TensorRtGraph(path, graph=self._graph)
