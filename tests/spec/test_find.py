from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from flowpose.errors import SpecError
from flowpose.spec import find as finding
from flowpose.spec.find import Kind, find, shipped


def test_a_shipped_file_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("targets", "cpu").name == "cpu.yaml"
    assert find("calib", "people-128").is_file()


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu").write_text("format: 1")
    monkeypatch.chdir(tmp_path)
    assert find("targets", "cpu") == Path("cpu")


def test_a_directory_is_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("targets", "cpu").name == "cpu.yaml"


def test_a_model_is_a_directory(tmp_path: Path) -> None:
    assert find("models", tmp_path) == tmp_path


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SpecError) as caught:
        find("targets", "cpuu")
    assert "cpuu: 1 problem" in str(caught.value)
    assert "no shipped target of this name (did you mean 'cpu'?)" in str(caught.value)
    assert "Fix: give an existing path, or one of the shipped ones: cpu, cpu-arm64" in str(caught.value)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("name", ["", "../cpu", "no/such/place.yaml", "qqqq"])
def test_no_name_reaches_outside_the_shipped_folders(
    kind: Kind, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError):
        find(kind, name)


def test_a_wheel_has_the_files_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "inside.yaml").write_text("format: 1")
    monkeypatch.setattr(finding, "_PACKAGE", tmp_path)
    assert find("recipes", "inside") == tmp_path / "recipes" / "inside.yaml"


def test_shipped_models_are_the_directories_with_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "empty"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models" / "whole" / "manifest.json").write_text("{}")
    monkeypatch.setattr(finding, "_PACKAGE", tmp_path)
    assert shipped("models") == {"whole": tmp_path / "models" / "whole"}


def test_nothing_shipped_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_PACKAGE", tmp_path)
    with pytest.raises(SpecError, match="shipped ones: none"):
        find("models", "people-128")
