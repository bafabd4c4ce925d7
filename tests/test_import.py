"""A clean interpreter shows what importing flowpose loads: nothing heavy, and no PyTorch to run a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_graphs import make_artifact

import flowpose

HEAVY = ("torch", "onnx", "yaml", "onnxruntime", "openvino", "cv2", "pydantic", "numpy")
NEVER = ("torch", "onnx", "yaml", "diffusers", "modelopt")

RUN = """
import json, sys
import numpy as np
import flowpose, flowpose.runtime
model = flowpose.load(sys.argv[1], backend=sys.argv[2], threads=1)
rows = np.zeros((17, 3)); rows[:, :2] = np.linspace(2, 15, 34).reshape(17, 2); rows[:, 2] = 1
frame = model.infer(np.zeros((24, 16, 3), np.uint8), rows)
assert frame.shape == (24, 16, 3)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def clean(code: str, *arguments: str) -> list[str]:
    source = str(Path(flowpose.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
    return list(json.loads(done.stdout))


def test_importing_flowpose_loads_nothing_heavy() -> None:
    loaded = clean("import flowpose, sys, json; flowpose.__version__; print(json.dumps(list(sys.modules)))")
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_running_a_model_loads_no_torch_onnx_or_yaml(backend: str, tmp_path: Path) -> None:
    tiny = make_artifact(tmp_path / "tiny", ("fp32",))
    loaded = clean(RUN, str(tiny.path), backend)
    assert backend in loaded
    assert not set(NEVER) & set(loaded)


def test_a_picture_of_the_right_size_needs_no_opencv(tmp_path: Path) -> None:
    tiny = make_artifact(tmp_path / "tiny", ("fp32",))
    assert "cv2" not in clean(RUN, str(tiny.path), "onnxruntime")


def test_the_public_names_are_there() -> None:
    for name in flowpose.__all__:
        assert getattr(flowpose, name) is not None
    assert set(flowpose.__all__) <= set(dir(flowpose))
    with pytest.raises(AttributeError, match="lod"):
        _ = flowpose.lod
