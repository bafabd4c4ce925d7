"""The torch-tensorrt backend where it cannot run: what is missing is named, and nothing else is hidden."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flowpose.errors import BackendError, MissingDependency
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


LIBRARY = """
__version__ = '2.14.0'
def load(path, extra_files):
    extra_files['flowpose'] = {about!r}
"""


@pytest.mark.parametrize("fault", ["RuntimeError", "OutOfMemoryError"])
def test_what_fails_while_a_program_is_prepared_is_typed(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from flowpose.runtime.torch_ports import About

    stand_in(tmp_path, "tensorrt", "", monkeypatch)
    about = About((), (), "cuda", 0, torch.__version__).text()
    stand_in(tmp_path, "torch_tensorrt", LIBRARY.format(about=about), monkeypatch)
    backend = open_backend("torch-tensorrt")
    runtime = sys.modules[MODULE]

    def fail(*given: Any) -> None:
        raise getattr(torch, fault, RuntimeError)("no room")

    monkeypatch.setattr(runtime, "gpu_identity", dict)
    monkeypatch.setattr(runtime, "Inputs", fail)
    fix = "GPU's memory" if fault == "OutOfMemoryError" else "flowpose compile"
    with pytest.raises(BackendError, match=f"cannot open the program.*no room.*{fix}"):
        backend.open(tmp_path / "frame.ep", 1)
