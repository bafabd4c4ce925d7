"""Waiting for what another thread or process does: until it is there, not for a time in which it should be."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds; on a crowded machine


def until(there: Callable[[], bool]) -> None:
    """Waits for what comes soon on a quiet machine; fails where it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
