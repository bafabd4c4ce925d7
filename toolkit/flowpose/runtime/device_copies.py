"""What a device holds beside the inputs of a graph: the contexts of other people, whose turn comes again."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

Value = TypeVar("Value")

LIMIT = 64 * 2**20  # bytes


class DeviceCopies(Generic[Value]):
    """Copies of read-only arrays on a device, the last used ones; for one thread at a time.

    A copy goes by the very array, not by what is in it: whoever makes one writable and changes it must give it so, or
    give another. When the array is no more, its copy is dropped as soon as another one is sent.

    Args:
        limit: bytes that they may take together; an array that is larger is sent and not held.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._copies: OrderedDict[int, tuple[weakref.ref[NDArray[Any]], int, Value]] = OrderedDict()

    def of(self, array: NDArray[Any], send: Callable[[NDArray[Any]], Value]) -> Value:
        """Returns what `send` gave for the array, now or before; what can be written to is always sent."""
        if array.flags.writeable:
            self._copies.pop(id(array), None)  # it may have been read-only, and may be so again
            return send(array)
        found = self._copies.get(id(array))
        if found is not None and found[0]() is array:
            self._copies.move_to_end(id(array))
            return found[2]
        value = send(array)
        self._drop_dead()
        self._copies[id(array)] = (weakref.ref(array), array.nbytes, value)
        self._shrink()
        return value

    def clear(self) -> None:
        """Drops all: after a failure nobody knows what is on the device."""
        self._copies.clear()

    def _drop_dead(self) -> None:
        for key in [key for key, (array, _, _) in self._copies.items() if array() is None]:
            del self._copies[key]

    def _shrink(self) -> None:
        while sum(size for _, size, _ in self._copies.values()) > self._limit:
            self._copies.popitem(last=False)
