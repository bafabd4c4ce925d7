"""The scripts that try faults by the hundred are in benchmarks/; these tests run the same code a few times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALONE = "FLOWPOSE_TEST_ALONE"
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test marked `alone` runs in a new process: it limits its memory, which other tests' threads do not survive."""
    if pyfuncitem.get_closest_marker("alone") is None or ALONE in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", pyfuncitem.nodeid]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, ALONE: "1"}, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)
    return True
