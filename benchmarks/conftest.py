"""What the benchmarks share: the shipped model, one person, one pose, and percentiles from the raw times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowpose
from flowpose.runtime.machine import machine
from flowpose.runtime.timing import Timing
from flowpose.spec.find import shipped

MODEL = "people-128"

Record = Callable[[Any], dict[str, float]]


@pytest.fixture(scope="session")
def shipped_model() -> str:
    if MODEL not in shipped("models"):
        pytest.skip(f"the model {MODEL} is not in this checkout (flowpose run recipes/{MODEL}.yaml makes it)")
    return MODEL


@pytest.fixture(scope="session", params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", params=["int8", "fp32"])
def model(request: pytest.FixtureRequest, shipped_model: str, backend: str) -> flowpose.Model:
    return flowpose.load(shipped_model, backend=backend, precision=request.param)


@pytest.fixture(scope="session")
def source(model: flowpose.Model) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*model.size, 3), np.uint8)


@pytest.fixture(scope="session")
def keypoints(model: flowpose.Model) -> np.ndarray:
    """f32[17,3] in pixels of the model's frame; a person is all that matters for the time."""
    height, width = model.size
    rows = np.ones((17, 3), np.float32)
    rows[:, 0], rows[:, 1] = np.linspace(0.3, 0.7, 17) * width, np.linspace(0.1, 0.9, 17) * height
    return rows


@pytest.fixture
def record(benchmark: Any) -> Record:
    """Puts n, mean, p50, p90, p95, p99 (milliseconds) and the machine into the benchmark's extra_info."""

    def put(about: Any) -> dict[str, float]:
        times = Timing(tuple(1000 * s for s in benchmark.stats.stats.data)).summary()
        found = machine()
        benchmark.extra_info.update(times, **about, cpu=found.cpu, cores=found.cores, versions=found.versions)
        return times

    return put
