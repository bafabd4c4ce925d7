"""flowpose's own wheel, built from the checkout that this package is run from."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from .errors import ArtifactError, MissingDependency

CHECKOUT = Path(__file__).resolve().parents[2]
_LATEST = 5  # lines of the builder that an error shows


def build_wheel(into: Path) -> Path:
    """Returns flowpose's wheel, built by hatchling into a folder; equal sources give equal bytes.

    Raises:
        ArtifactError: this flowpose was installed from a wheel, so there is nothing to build from; or it fails.
        MissingDependency: hatchling is not installed.
    """
    if not (CHECKOUT / "pyproject.toml").is_file():
        fix = "give the wheel that it was installed from: --wheel FILE; or leave it out: --no-wheel"
        raise ArtifactError(CHECKOUT, "is no checkout of flowpose, no wheel can be built", fix=fix)
    if find_spec("hatchling") is None:
        fix = "pip install hatchling, give a wheel with --wheel FILE, or leave it out with --no-wheel"
        raise MissingDependency("wheel", "building flowpose's wheel needs the package hatchling", fix=fix)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    made = sorted(into.glob("flowpose-*.whl"))
    if done.returncode or len(made) != 1:
        last = " / ".join((done.stdout + done.stderr).strip().splitlines()[-_LATEST:])
        fix = f"cd {CHECKOUT} && hatchling build -t wheel shows more"
        raise ArtifactError(into, f"hatchling built no wheel ({last})", fix=fix)
    return made[0]
