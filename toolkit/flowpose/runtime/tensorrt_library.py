"""TensorRT's Python module: the only place that finds it missing or too old, and its messages.

The module has no stubs, so that everything of it is Any. Names and signatures of 10.3 and 11.4 are recorded in
tests/runtime/tensorrt_api.json.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.backend import install_command
from flowpose.runtime.machine import machine_arch

try:
    import tensorrt
except ImportError as error:  # not installed, or installed without libnvinfer
    what = f"needs the package tensorrt ({error})"
    raise MissingDependency("tensorrt", what, fix=install_command("tensorrt")) from error

trt: Any = tensorrt

# JetPack 6.2's; the one before, 10.2.0, is known to be broken (ultralytics refuses it by name).
FIRST = (10, 3)
KEPT = 5  # error messages in the text of an error


class Log(tensorrt.ILogger):  # type: ignore[misc]
    """Takes TensorRT's messages and keeps the last errors: a call that fails returns None, and only they say why."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=KEPT)

    def log(self, severity: Any, msg: str) -> None:
        """Takes a message; called by TensorRT from any thread."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self._errors.append(msg.strip())

    def errors(self) -> str:
        """Returns the last errors, `no reason given` when there was none."""
        return "; ".join(self._errors) or "no reason given"


def version() -> str:
    """Returns TensorRT's full version; BackendError when this code does not work with it."""
    found = str(trt.__version__)
    if tuple(int(part) for part in found.split(".")[:2]) < FIRST:
        on_a_board = (
            "flash JetPack 6.2 or later, and take its own: sudo apt-get install nvidia-jetpack (not pip)"
        )
        fix = on_a_board if machine_arch() == "aarch64" else "pip install 'tensorrt>=10.3'"
        raise BackendError("tensorrt", "is too old", got=found, expected="10.3 or later", fix=fix)
    return found
