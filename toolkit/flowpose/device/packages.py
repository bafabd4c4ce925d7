"""This Python: is it a virtual environment, which TensorRT does it see, and is there one that it does not see?

JetPack installs TensorRT for the system's Python, where a virtual environment finds it only if it was made with
`--system-site-packages`.
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from flowpose.device.files import ROOT, listed, read

TENSORRT = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")  # pip's names; apt's package is the first
SYSTEM = "usr/lib/python3*/dist-packages"

_FOLDER = re.compile(r"python(3(?:\.\d+)?)/")


@dataclass(frozen=True)
class Python:
    """This Python.

    Attributes:
        version: as `3.10.12`.
        folder: its prefix.
        virtual: it is a virtual environment.
        sees_system: it is none, or one that sees the system's packages.
        tensorrt: version of the TensorRT that it can import; None without one.
        system_tensorrt: Python version (as `3.10`; `3` for any) -> version of the TensorRT that the system has
            installed for it, empty where that is not written beside it.
    """

    version: str
    folder: str
    virtual: bool
    sees_system: bool
    tensorrt: str | None
    system_tensorrt: dict[str, str]


def parse_venv(text: str) -> bool:
    """Returns whether the environment of a pyvenv.cfg sees the system's packages."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "include-system-site-packages":
            return value.strip().lower() == "true"
    return False


def python(root: Path = ROOT) -> Python:
    """Returns what this Python is, and which TensorRT it has and the system below `root` has."""
    virtual = sys.prefix != sys.base_prefix
    return Python(
        version=platform.python_version(),
        folder=sys.prefix,
        virtual=virtual,
        sees_system=not virtual or parse_venv(read(Path(sys.prefix), "pyvenv.cfg") or ""),
        tensorrt=tensorrt(),
        system_tensorrt=system_tensorrt(root),
    )


def tensorrt() -> str | None:
    """Returns the version of the TensorRT that this Python can import; None without one."""
    for name in TENSORRT:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def system_tensorrt(root: Path = ROOT) -> dict[str, str]:
    """Returns Python version -> version (empty: not told) of each TensorRT in the system's own package folders."""
    found: dict[str, str] = {}
    for folder in listed(root, f"{SYSTEM}/tensorrt"):
        beside = listed(root, f"{folder}-*.dist-info")
        version = beside[0].rpartition("tensorrt-")[2].removesuffix(".dist-info") if beside else ""
        python_version = _FOLDER.search(folder)
        if python_version is not None:
            found[python_version.group(1)] = version
    return found
