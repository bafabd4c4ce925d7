"""Measuring in a Python process of its own, which holds nothing but what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flowpose
from flowpose.errors import BackendError


def run_fresh(where: object, program: str, *arguments: Any) -> Any:
    """Returns what a program prints as JSON on its last line.

    Args:
        where: what is measured, for the error.
        program: Python source; finds the arguments as a JSON list in `sys.argv[1]`.
        arguments: what JSON can hold.

    Raises:
        BackendError: that process failed; holds the end of what it said.
    """
    folders = [str(Path(flowpose.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in folders if part)}
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise BackendError(where, "a fresh process failed", got=" ".join(last), expected="a picture")
    return json.loads(done.stdout.splitlines()[-1])
