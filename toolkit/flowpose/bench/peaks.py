"""What a processor can do at best, by simple loops: products of matrices in its backends, and copies of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np

from flowpose.bench.gemm_file import code_product, float_product, quantized_product
from flowpose.runtime.backend import open_backend
from flowpose.runtime.timing import Action, alternate

ROWS, INNER, COLUMNS = (
    256,
    512,
    512,
)  # of the products: 134 million operations, 1.3 ms in fp32 on a core of an EPYC (Zen 4)
OPERATIONS = 2 * ROWS * INNER * COLUMNS
COPIED = 2 << 20  # bytes of an array: an activation's size, so caches count
Form = Callable[[int, int, int], bytes]
"""(rows, inner, columns) -> the file of a product of that size."""

FORMS: Mapping[str, Mapping[str, Form]] = MappingProxyType(
    {
        "onnxruntime": {"fp32": float_product, "int8": code_product},
        "openvino": {"fp32": float_product, "int8": quantized_product},
    }
)
"""Backend -> precision -> the form of a product that it computes in that precision."""


@dataclass(frozen=True)
class Peaks:
    """A processor at its best.

    Attributes:
        threads: CPU threads of the loops.
        rates: precision -> operations a second in a product of matrices, in the backend that is fastest.
        by: backend -> precision -> operations a second.
        bandwidth: of copies of COPIED bytes, reading and writing, GB/s of 10^9 bytes.
        n: runs of each loop, in turns; numbers are of the median.
    """

    threads: int
    rates: dict[str, float]
    by: dict[str, dict[str, float]]
    bandwidth: float
    n: int


def measure_peaks(backends: Sequence[str], *, threads: int, n: int = 15) -> Peaks:
    """Returns the best rates of this machine; all loops take turns.

    Args:
        backends: of FORMS.
        threads: CPU threads of each loop.
        n: runs of each.

    Raises:
        MissingDependency, BackendError: a backend is not installed, or cannot run a product.
    """
    with TemporaryDirectory() as folder:
        products = {
            (backend, precision): product_loop(Path(folder), backend, precision, threads)
            for backend in backends
            for precision in FORMS[backend]
        }
        actions = {" ".join(key): action for key, action in products.items()}
        timed = alternate({**actions, "copy": copy_loop(threads)}, rounds=n, warmup=2, settle=1)
    seconds = {label: timing.percentile(50) / 1e3 for label, timing in timed.items()}
    by: dict[str, dict[str, float]] = {backend: {} for backend in backends}
    for backend, precision in products:
        by[backend][precision] = OPERATIONS / seconds[f"{backend} {precision}"]
    rates = {each: max(found[each] for found in by.values()) for each in ("fp32", "int8")}
    return Peaks(threads, rates, by, 2 * COPIED * threads / seconds["copy"] / 1e9, n)


def product_loop(folder: Path, backend: str, precision: str, threads: int) -> Action:
    """Returns a product in a backend; its file is written into the folder."""
    path = folder / f"{backend}.{precision}.onnx"
    path.write_bytes(FORMS[backend][precision](ROWS, INNER, COLUMNS))
    graph = open_backend(backend).open(path, threads)
    values = np.random.default_rng(1).normal(size=(ROWS, INNER)).astype(np.float32)
    codes = FORMS[backend][precision] is code_product
    given = np.clip(values * 40 + 128, 0, 255).astype(np.uint8) if codes else values
    return lambda: graph.run({"x": given})


def copy_loop(threads: int) -> Action:
    """Returns a copy of COPIED bytes by each thread."""
    pairs = [(np.zeros(COPIED, np.uint8), np.ones(COPIED, np.uint8)) for _ in range(threads)]
    if threads == 1:
        return lambda: np.copyto(*pairs[0])
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))
