"""Does a backend compute here? A list of what a library could use is no answer: only a run tells.

Libraries were seen that list a GPU for which they hold no kernels; they fail, or return zeros, when something is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.backend import BACKENDS, ONNX, Backend, open_backend

GRAPH = Path(__file__).with_name("kernel.onnx")
"""f32[1,3,8,8] -> 3 x 3 convolution with stride 2 and 4 channels -> relu -> product with f32[4,1] -> f32[1,4,4,1]."""

INPUT, OUTPUT = "x", "y"
EXPECTED = (
    -0.2265625, 0.75, 0.328125, 0.0, 0.515625, 0.75, 0.0, -0.2265625,
    -0.046875, -0.2265625, 0.9921875, 0.25, 0.7578125, -0.0234375, -0.6796875, 0.90625,
)  # fmt: skip
Make = Callable[[str, Path], Path]
"""Builds what a backend opens of the graph in a folder, and returns the file; raises as `BUILDERS`' functions do."""

NOT_RUN = "not run: --build builds and runs it"
ATOL = 1e-3  # all numbers of the graph are small multiples of 1/64, which half precision holds exactly


@dataclass(frozen=True)
class KernelCheck:
    """What came of running the graph with a backend.

    Attributes:
        backend: a name of BACKENDS.
        ok: the result is right; None where the backend opens only what was built for it, and nothing was.
        seconds: to open the graph and run it once, without building; None where that did not happen.
        text: the library's version, or what is wrong and what mends it.
    """

    backend: str
    ok: bool | None
    seconds: float | None
    text: str


def check(name: str, make: Make | None = None) -> KernelCheck:
    """Returns whether a backend computes a small graph rightly on this machine, now.

    Args:
        name: of BACKENDS.
        make: builds the graph for a backend that opens no ONNX files; None: such a one is only asked for its GPU.

    Raises:
        BackendError: no backend of that name.
    """
    if name not in BACKENDS:
        raise BackendError(
            "backend", "unknown backend", got=f"'{name}'", expected="one of " + ", ".join(BACKENDS)
        )
    try:
        backend = open_backend(name)
        backend.identity()  # a library may be there without the GPU that it needs
        if BACKENDS[name].suffix != ONNX and make is None:
            return KernelCheck(name, None, None, f"{backend.version}; {NOT_RUN}")
        found, seconds = _run(name, backend, make)
    except (BackendError, MissingDependency) as error:
        return KernelCheck(name, False, None, str(error).removeprefix(f"{name}: "))
    except (ImportError, OSError) as error:  # a library of the system that the package needs
        return KernelCheck(name, False, None, f"cannot be loaded ({error})")
    fault = wrong(found.get(OUTPUT))
    return KernelCheck(name, not fault, seconds, fault or backend.version)


def _run(name: str, backend: Backend, make: Make | None) -> tuple[dict[str, NDArray[Any]], float]:
    """What the graph gives, and the seconds that it took to open and run it."""
    with TemporaryDirectory(prefix="flowpose-doctor-") as folder:
        file = GRAPH if BACKENDS[name].suffix == ONNX or make is None else make(name, Path(folder))
        start = perf_counter()
        return backend.open(file, 1).run({INPUT: kernel_input()}), perf_counter() - start


def check_all(make: Make | None = None) -> tuple[KernelCheck, ...]:
    """Returns the check of each backend, in the order of BACKENDS; `make` as for `check`."""
    return tuple(check(name, make) for name in BACKENDS)


def kernel_input() -> NDArray[np.float32]:
    """Returns the graph's input, f32[1,3,8,8]: multiples of 1/8 in -5/8..5/8."""
    steps = np.arange(3 * 8 * 8, dtype=np.int64) * 7 % 11 - 5
    return (steps / 8).astype(np.float32).reshape(1, 3, 8, 8)


def wrong(found: NDArray[np.float32] | None) -> str:
    """Returns what is wrong with a result of the graph; empty if nothing is."""
    expected = np.array(EXPECTED, np.float32).reshape(1, 4, 4, 1)
    if found is None or found.shape != expected.shape:
        return f"gave {'nothing' if found is None else list(found.shape)}, expected {list(expected.shape)}"
    if not found.any():
        return "gave zeros"
    off = float(np.abs(found - expected).max())  # NaN where the result has one, and NaN is not <= anything
    return "" if off <= ATOL else f"gave numbers that are up to {off:.3g} off, expected at most {ATOL:g}"
