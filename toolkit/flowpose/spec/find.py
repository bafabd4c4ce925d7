"""Where recipes, targets, calibration sets and shipped models lie, by name or by path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import SpecError
from .base import nearest

Kind = Literal["recipes", "targets", "calib", "models"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]

# What a shipped thing of each kind is called in an error text.
_NOUNS: dict[Kind, str] = {
    "recipes": "recipe",
    "targets": "target",
    "calib": "calibration set",
    "models": "model",
}


def shipped(kind: Kind) -> dict[str, Path]:
    """Returns the shipped things of a kind: name -> YAML file, or directory for `models`."""
    folder = _folder(kind)
    if not folder.is_dir():
        return {}
    if kind == "models":
        return {path.parent.name: path.parent for path in sorted(folder.glob("*/manifest.json"))}
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def find(kind: Kind, name_or_path: str | Path) -> Path:
    """Returns the path of a recipe, target, calibration set (a YAML file) or model (a directory).

    Args:
        kind: the folder that shipped things of this kind lie in.
        name_or_path: a path that exists, which goes first, or the name of a shipped one.

    Raises:
        SpecError: there is no such path and no shipped thing of that name; the shipped names are listed.
    """
    path = Path(name_or_path)
    there = path.is_dir() if kind == "models" else path.is_file()
    if there and name_or_path != "":
        return path
    known = shipped(kind)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    text = f"no such path, and no shipped {_NOUNS[kind]} of this name{nearest(path.stem, known)}"
    names = ", ".join(known) or "none"
    raise SpecError(name_or_path, [text], fix=f"give an existing path, or one of the shipped ones: {names}")


def _folder(kind: Kind) -> Path:
    """Returns the folder of a kind: inside the package in a wheel, at the top of a checkout."""
    inside = _PACKAGE / kind
    return inside if kind == "models" or inside.is_dir() else _CHECKOUT / kind
