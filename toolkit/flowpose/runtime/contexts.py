"""Contexts kept by their pictures' content, in a bounded amount of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import FlowposeError

Context = NDArray[np.float32]

KEEP_MB = 64.0
"""MB of 2^20 bytes. A context of people-128 has 1.5 and one of people-256 1.8: 41 or 35 people. One of the paper's
DiT-B at 256 x 176 has 13.4, of its DiT-L at 512 x 352 137: a model keeps one in any case unless it is told not to."""


@dataclass(frozen=True)
class Kept:
    """How many contexts are kept, and their bytes."""

    n: int
    bytes: int


class Contexts:
    """The contexts that were used last; safe for threads, and two that want the same one make it once.

    Args:
        limit: bytes that all of them may take together. One that is larger is made and not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._made: OrderedDict[bytes, Context] = OrderedDict()
        self._making: set[bytes] = set()

    @property
    def kept(self) -> Kept:
        """What is kept now."""
        with self._changed:
            return Kept(len(self._made), self._bytes())

    def limit(self, limit: int) -> None:
        """Sets how many bytes may be kept, and drops what is too much: the one used longest ago first."""
        with self._changed:
            self._limit = limit
            self._shrink()

    def get(self, key: bytes, make: Callable[[], Context]) -> Context:
        """Returns the read-only context of a key: the kept one, else what `make` gives, which is kept."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._making)
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            self._making.add(key)
        context = None
        try:
            context = make()
            context.flags.writeable = False
            return context
        finally:
            self._done(key, context)

    def clear(self) -> None:
        """Drops all."""
        with self._changed:
            self._made.clear()

    def _done(self, key: bytes, context: Context | None) -> None:
        """Ends the making of a key; None where it failed: whoever waits for the key tries himself then."""
        with self._changed:
            self._making.discard(key)
            if context is not None and context.nbytes <= self._limit:
                self._made[key] = context
                self._shrink()
            self._changed.notify_all()

    def _bytes(self) -> int:
        return sum(context.nbytes for context in self._made.values())

    def _shrink(self) -> None:
        while self._bytes() > self._limit:
            self._made.popitem(last=False)


def bytes_of(mb: float) -> int:
    """Returns the bytes of an amount of MB; FlowposeError where it is less than 0 or no number."""
    if not mb >= 0:
        raise FlowposeError("keep_mb", "not an amount of memory", got=mb, expected="MB, 0 or more")
    return round(min(mb, 1e12) * 2**20)
