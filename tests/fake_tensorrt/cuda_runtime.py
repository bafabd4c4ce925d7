"""A fake `cuda.bindings.runtime`: the GPU's memory is the process's, copies copy, recordings are replayed.

Parameters bear the names of the real bindings; tests/runtime/test_tensorrt_names.py compares them.
"""

from __future__ import annotations

import ctypes
import enum
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fake_tensorrt.machine import MACHINE, Queue

cudaHostAllocDefault, cudaHostAllocMapped, cudaStreamNonBlocking = 0, 2, 1


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorNoKernelImageForDevice = 209
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class Handle:
    """What the bindings wrap a pointer in."""

    def __init__(self) -> None:
        self.value = next(MACHINE.handles)

    def __int__(self) -> int:
        return self.value


OK, INVALID = cudaError_t.cudaSuccess, cudaError_t.cudaErrorInvalidValue


def counted(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Counts calls, and returns the planted error with as many Nones as the function has values."""

    @functools.wraps(function)
    def called(*arguments: Any) -> tuple[Any, ...]:
        MACHINE.calls[function.__name__] += 1
        if function.__name__ in MACHINE.faults:
            if function.__name__ == "cudaStreamEndCapture":
                MACHINE.queues[int(arguments[0])].recorded = None
            return (
                cudaError_t[MACHINE.faults[function.__name__]],
                *[None] * VALUES.get(function.__name__, 0),
            )
        return function(*arguments)

    return called


VALUES = {
    "cudaMemGetInfo": 2, "cudaGraphGetNodes": 2, "cudaGetDevice": 1, "cudaGetDeviceProperties": 1, "cudaMalloc": 1,
    "cudaDriverGetVersion": 1, "cudaHostAlloc": 1, "cudaHostGetDevicePointer": 1, "cudaStreamCreateWithFlags": 1,
    "cudaStreamEndCapture": 1, "cudaGraphInstantiate": 1,
}  # fmt: skip


@counted
def cudaMemGetInfo():
    return OK, MACHINE.free_mb << 20, MACHINE.total_mb << 20


@counted
def cudaGetDevice():
    return OK, 0


@counted
def cudaGetDeviceProperties(device):
    major, minor = MACHINE.sm
    found = SimpleNamespace(
        name=MACHINE.name.encode(), major=major, minor=minor, integrated=MACHINE.integrated
    )
    found.multiProcessorCount = MACHINE.sms
    return OK, found


@counted
def cudaDriverGetVersion():
    return OK, MACHINE.driver


@counted
def cudaHostAlloc(size, flags):
    block = (ctypes.c_uint8 * size)(*[77] * min(size, 64))  # not zero: nobody may rely on it
    MACHINE.pinned[ctypes.addressof(block)] = block
    if flags & cudaHostAllocMapped:
        MACHINE.mapped.add(ctypes.addressof(block))
    return OK, ctypes.addressof(block)


@counted
def cudaHostGetDevicePointer(pHost, flags):
    return (OK, pHost) if pHost in MACHINE.mapped else (INVALID, None)


@counted
def cudaFreeHost(ptr):
    MACHINE.mapped.discard(ptr)
    return (OK,) if MACHINE.pinned.pop(ptr, None) is not None else (INVALID,)


@counted
def cudaMalloc(size):
    block = (ctypes.c_uint8 * size)(*[99] * min(size, 64))
    MACHINE.device[ctypes.addressof(block)] = block
    return OK, ctypes.addressof(block)


@counted
def cudaFree(devPtr):
    return (OK,) if MACHINE.device.pop(devPtr, None) is not None else (INVALID,)


@counted
def cudaMemcpyAsync(dst, src, count, kind, stream):
    way, to_gpu, of_gpu = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: ("up", True, False),
        cudaMemcpyKind.cudaMemcpyDeviceToHost: ("down", False, True),
        cudaMemcpyKind.cudaMemcpyDeviceToDevice: ("across", True, True),
    }[kind]
    to, of = MACHINE.bytes_at(dst, count, gpu=to_gpu), MACHINE.bytes_at(src, count, gpu=of_gpu)
    if to is None or of is None:
        return (INVALID,)
    MACHINE.copied.append(f"{way} {count}")

    def copy() -> None:
        to[:] = of

    MACHINE.queues[int(stream)].put(copy)
    return (OK,)


@counted
def cudaStreamCreateWithFlags(flags):
    made = Handle()
    MACHINE.queues[int(made)] = Queue()
    return OK, made


@counted
def cudaStreamSynchronize(stream):
    if MACHINE.queues[int(stream)].recorded is not None:
        return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
    MACHINE.queues[int(stream)].drain()
    return (OK,)


@counted
def cudaStreamDestroy(stream):
    return (OK,) if MACHINE.queues.pop(int(stream), None) is not None else (INVALID,)


@counted
def cudaStreamBeginCapture(stream, mode):
    MACHINE.queues[int(stream)].recorded = []
    return (OK,)


@counted
def cudaStreamEndCapture(stream):
    queue, made = MACHINE.queues[int(stream)], Handle()
    if queue.recorded is None:
        return INVALID, None
    MACHINE.graphs[int(made)], queue.recorded = queue.recorded, None
    return OK, made


@counted
def cudaGraphGetNodes(graph, numNodes=0):
    return OK, [], len(MACHINE.graphs[int(graph)])


@counted
def cudaGraphInstantiate(graph, flags):
    made = Handle()
    MACHINE.launchable[int(made)] = list(MACHINE.graphs[int(graph)])
    return OK, made


@counted
def cudaGraphDestroy(graph):
    return (OK,) if graph is not None and MACHINE.graphs.pop(int(graph), None) is not None else (INVALID,)


@counted
def cudaGraphExecDestroy(graphExec):
    return (OK,) if MACHINE.launchable.pop(int(graphExec), None) is not None else (INVALID,)


@counted
def cudaGraphLaunch(graphExec, stream):
    for work in MACHINE.launchable[int(graphExec)]:
        MACHINE.queues[int(stream)].put(work)
    return (OK,)
