"""Plain data of a small recipe and a small target, as a YAML file gives them, for tests to damage."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def recipe_data() -> dict[str, Any]:
    optim = {"iterations": 20, "batch": 4, "warmup": 2}
    return {
        "format": 1,
        "name": "small",
        "data": {"source": "figures", "identities": 4, "pictures": 2},
        "image": {"height": 64, "width": 48},
        "autoencoder": {"latents": 4, "widths": [8, 8, 16, 16], "optim": dict(optim)},
        "model": {"size": "micro"},
        "train": {"optim": dict(optim)},
        "distill": {"method": "trajectory", "intervals": 4, "optim": dict(optim)},
        "quantize": {"method": "int8", "calibration": "tiny"},
    }


@pytest.fixture
def target_data() -> dict[str, Any]:
    return {
        "format": 1,
        "name": "board",
        "backends": ["onnxruntime"],
        "precisions": ["fp32", "int8"],
        "threads": 2,
        "software": {"onnxruntime": ">=1.20,<2"},
    }
