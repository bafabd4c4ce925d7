"""TensorRT and the CUDA runtime without either: what is built and run is computed by onnxruntime, for real.

`installed()` puts both modules where the real ones would be; `faults` of the machine that it gives makes things go
wrong. What flowpose has imported of them is forgotten before and after.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from fake_tensorrt import cuda_runtime, tensorrt
from fake_tensorrt.machine import Machine, reset

FAKED = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime")
USERS = ("flowpose.runtime.cuda", "flowpose.runtime.tensorrt", "flowpose.compile.tensorrt")  # begins of names


def taken() -> dict[str, ModuleType]:
    """Modules that are or use the faked ones, taken out of sys.modules."""
    names = [name for name in sys.modules if name in FAKED or name.startswith(USERS)]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def installed() -> Iterator[Machine]:
    """The fake machine; TensorRT's version is the one that it has when flowpose's modules are imported."""
    before, machine = taken(), reset()
    tensorrt.__version__ = machine.version
    cuda, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    cuda.__path__, bindings.__path__ = [], []
    cuda.bindings, bindings.runtime = bindings, cuda_runtime
    sys.modules.update(zip(FAKED, (tensorrt, cuda, bindings, cuda_runtime), strict=True))
    try:
        yield machine
    finally:
        taken()
        sys.modules.update(before)
