"""The first GPU as NVIDIA's driver tells it, for backends whose own library does not say what it runs on.

The driver brings libcuda, so this needs no package. It counts GPUs as CUDA does (CUDA_VISIBLE_DEVICES), and makes no
context: none of the GPU's memory is taken. Numbers are those of NVIDIA's cuda.h.
"""

from __future__ import annotations

import ctypes
from typing import Any

from flowpose.errors import BackendError
from flowpose.runtime.machine import driver_identity

LIBRARY = "libcuda.so.1"
SMS, MAJOR, MINOR = 16, 75, 76  # CUdevice_attribute: multiprocessors, compute capability
FIX = "NVIDIA's driver and a GPU that it sees: try nvidia-smi"


def gpu_identity() -> dict[str, str]:
    """Returns what results of a GPU depend on.

    The keys: `gpu`, its name; `sm`, `8.7`; `sms`, multiprocessors switched on; `cuda`, the newest that the driver runs;
    `driver`, its version, where the kernel tells it.

    Raises:
        BackendError: no driver, or no GPU for it.
    """
    cuda = _library()
    gpu, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(gpu), 0)
    _call(cuda, "cuDeviceGetName", name, len(name), gpu)
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))  # 12060 is 12.6
    sms, major, minor = (_attribute(cuda, each, gpu) for each in (SMS, MAJOR, MINOR))
    return {
        "gpu": name.value.decode(),
        "sm": f"{major}.{minor}",
        "sms": str(sms),
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        **driver_identity(),
    }


def _library() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendError("CUDA", f"no driver of NVIDIA ({error})", fix=FIX) from error


def _attribute(cuda: Any, attribute: int, gpu: ctypes.c_int) -> int:
    found = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(found), attribute, gpu)
    return found.value


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    code = getattr(cuda, function)(*arguments)
    if code:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(name))
        raise BackendError("CUDA", f"{function} failed", got=(name.value or b"%d" % code).decode(), fix=FIX)
