"""A thin layer over NVIDIA's cuda.bindings.runtime: memory, streams, recorded work, and what the GPU is.

Nothing else imports those bindings. Every return code is checked: BackendError names the call. All names used here are
the same in cuda-bindings 12.9 and 13.5 (tests/runtime/tensorrt_api.json); the device in use is the process's own.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import BackendError, MissingDependency

INSTALL = "pip install 'cuda-bindings>=12.8,<13' where the driver has CUDA 12 (JetPack 6), else 'cuda-bindings>=13,<14'"

try:
    from cuda.bindings import runtime
except ImportError as error:
    raise MissingDependency("tensorrt", f"needs the package cuda-bindings ({error})", fix=INSTALL) from error

FIXES = {
    "cudaErrorMemoryAllocation": "close what else uses the GPU's memory",
    "cudaErrorInsufficientDriver": f"a driver that is as new as the bindings: {INSTALL}",
    "cudaErrorNoDevice": "a machine with an NVIDIA GPU, and a user in the group `video` (Jetson)",
    "cudaErrorNoKernelImageForDevice": "a build of TensorRT for this GPU",
}
"""Name of a CUDA error -> what mends it."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: as the driver has it, `Orin`.
        sm: compute capability, `8.7`.
        sms: multiprocessors that are switched on; a Jetson's power mode changes it.
        integrated: whether it shares the CPU's memory.
        driver: newest CUDA that the driver runs, `12.6`.
        free_mb, total_mb: its memory, MB.
    """

    name: str
    sm: str
    sms: int
    integrated: bool
    driver: str
    free_mb: int
    total_mb: int


def gpu() -> Gpu:
    """Returns the GPU in use; BackendError when there is none or no driver for it."""
    free, total = _call("cudaMemGetInfo")
    found = _call("cudaGetDeviceProperties", _call("cudaGetDevice"))
    driver = int(_call("cudaDriverGetVersion"))  # 12060 is 12.6
    return Gpu(
        name=found.name.decode().strip("\0 "),
        sm=f"{found.major}.{found.minor}",
        sms=int(found.multiProcessorCount),
        integrated=bool(found.integrated),
        driver=f"{driver // 1000}.{driver % 1000 // 10}",
        free_mb=int(free) >> 20,
        total_mb=int(total) >> 20,
    )


class Memory:
    """Memory of a discrete GPU that is freed with the object.

    Attributes:
        address: where the GPU finds it.
    """

    def __init__(self, size: int) -> None:
        self.address = int(_call("cudaMalloc", size))
        weakref.finalize(self, _freed, self.address)


def _freed(address: int) -> None:
    with suppress(BackendError):  # a GPU that is lost, or a process at its end
        _call("cudaFree", address)


class Buffer:
    """Memory of one tensor: `host`, an array, and `address`, where the GPU finds it.

    On an integrated GPU both are the same page-locked memory and nothing is ever copied; a discrete GPU has memory of
    its own, and `upload` and `download` put a copy into a stream.

    Args:
        shape, dtype: of the array.
        integrated: whether the GPU shares the CPU's memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[Any], *, integrated: bool) -> None:
        self._integrated, self._bytes = integrated, math.prod(shape) * np.dtype(dtype).itemsize
        flags = runtime.cudaHostAllocMapped if integrated else runtime.cudaHostAllocDefault
        self._pinned = int(_call("cudaHostAlloc", self._bytes, flags))
        try:
            self.address = self._on_the_gpu()
        except BackendError:
            _call("cudaFreeHost", self._pinned)
            raise
        self.raw: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * self._bytes).from_address(self._pinned)
        )
        self.host: NDArray[Any] = self.raw.view(dtype).reshape(shape)

    def _on_the_gpu(self) -> int:
        if self._integrated:
            return int(_call("cudaHostGetDevicePointer", self._pinned, 0))
        return int(_call("cudaMalloc", self._bytes))

    def upload(self, stream: Stream) -> None:
        """Queues the copy of `host` to the GPU."""
        if not self._integrated:
            self._copy(self.address, self._pinned, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def download(self, stream: Stream) -> None:
        """Queues the copy of the GPU's memory to `host`."""
        if not self._integrated:
            self._copy(self._pinned, self.address, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def copied(self, stream: Stream) -> Memory:
        """Returns memory that a copy of what the GPU has here is queued for; on a discrete GPU."""
        memory = Memory(self._bytes)
        self._copy(memory.address, self.address, runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)
        return memory

    def take(self, memory: Memory, stream: Stream) -> None:
        """Queues the copy of such memory back to here."""
        self._copy(self.address, memory.address, runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)

    def _copy(self, to: int, of: int, kind: Any, stream: Stream) -> None:
        _call("cudaMemcpyAsync", to, of, self._bytes, kind, stream.handle)

    def close(self) -> None:
        """Frees the memory; `host` must not be touched any more."""
        if not self._integrated:
            _call("cudaFree", self.address)
        _call("cudaFreeHost", self._pinned)


class Stream:
    """A queue of work for the GPU that waits for no other queue.

    Attributes:
        handle: what the bindings take; `int(handle)` is what TensorRT takes.
    """

    def __init__(self) -> None:
        self.handle: Any = _call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)

    def synchronize(self) -> None:
        """Waits until everything in the queue is done; raises what failed on the way."""
        _call("cudaStreamSynchronize", self.handle)

    def record(self, work: Callable[[], None]) -> Recording:
        """Returns what `work` puts into this stream, recorded as a CUDA graph instead of being run.

        Raises:
            BackendError: the work cannot be recorded, or it recorded nothing: launching that would do nothing.
        """
        # Another thread may allocate meanwhile; only this one is held to what may be recorded.
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call("cudaStreamBeginCapture", self.handle, mode)
        worked = False
        try:
            work()
            worked = True
        finally:
            code, graph = runtime.cudaStreamEndCapture(self.handle)  # always, or the stream records for ever
            if not worked and code == runtime.cudaError_t.cudaSuccess:
                _call("cudaGraphDestroy", graph)
        _check("cudaStreamEndCapture", code)
        return Recording(graph)

    def close(self) -> None:
        """Gives the stream back."""
        _call("cudaStreamDestroy", self.handle)


class Recording:
    """Recorded work that is launched as a whole.

    Args:
        graph: a `cudaGraph_t`, which is used up.
    """

    def __init__(self, graph: Any) -> None:
        try:
            _, steps = _call("cudaGraphGetNodes", graph, 0)
            if steps == 0:
                raise BackendError("CUDA", "the recorded graph is empty", got="0 steps")
            self._launchable = _call("cudaGraphInstantiate", graph, 0)
        finally:
            _call("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Puts the recorded work into a stream."""
        _call("cudaGraphLaunch", self._launchable, stream.handle)

    def close(self) -> None:
        """Frees the recording."""
        _call("cudaGraphExecDestroy", self._launchable)


def _call(function: str, *arguments: Any) -> Any:
    """What a function of the CUDA runtime gives besides its return code: a value, or several in a tuple."""
    code, *values = getattr(runtime, function)(*arguments)
    _check(function, code)
    return values[0] if len(values) == 1 else tuple(values)


def _check(function: str, code: Any) -> None:
    if code != runtime.cudaError_t.cudaSuccess:
        raise BackendError("CUDA", f"{function} failed", got=code.name, fix=FIXES.get(code.name))
