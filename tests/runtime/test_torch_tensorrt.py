"""The torch-tensorrt backend where it cannot run: what is missing is named, and nothing else is hidden."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flowpose.errors import MissingDependency
from flowpose.runtime.backend import open_backend

MODULE = "flowpose.runtime.torch_tensorrt"


def stand_in(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose import does what the code does."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    for each in (MODULE, name):
        monkeypatch.delitem(sys.modules, each, raising=False)


@pytest.mark.parametrize("fault", ["ImportError", "OSError"])
def test_without_tensorrts_libraries_the_command_is_told(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "tensorrt", f"raise {fault}('libnvinfer.so.11: cannot open')", monkeypatch)
    with pytest.raises(MissingDependency, match=r"needs TensorRT's libraries.*libnvinfer.*pip install"):
        open_backend("torch-tensorrt")


def test_without_the_package_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "tensorrt", "raise ModuleNotFoundError('no', name='tensorrt')", monkeypatch)
    with pytest.raises(MissingDependency, match=r"needs the package tensorrt.*pip install"):
        open_backend("torch-tensorrt")


def test_another_failure_is_not_called_a_missing_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "tensorrt", "", monkeypatch)
    stand_in(tmp_path, "torch_tensorrt", "raise RuntimeError('out of memory')", monkeypatch)
    with pytest.raises(RuntimeError, match="out of memory"):
        open_backend("torch-tensorrt")


def test_a_library_that_is_there_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "tensorrt", "", monkeypatch)
    stand_in(tmp_path, "torch_tensorrt", "__version__ = '2.14.0'", monkeypatch)
    assert open_backend("torch-tensorrt").version == "2.14.0"
