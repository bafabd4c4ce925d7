"""What a check of a data set finds: every problem with its place and what mends it, notes and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError, FlowposeError

Picture = NDArray[np.uint8]
Shown = tuple[Picture, NDArray[np.float32], Picture]
"""A pair of a contact sheet: source u8[h, w, 3], the target's joints f32[133, 3] in its pixels, target."""


@dataclass(frozen=True)
class Problem:
    """One fault: the parts of an error (flowpose.errors)."""

    where: str
    what: str
    got: str
    expected: str
    fix: str


@dataclass(frozen=True)
class Checked:
    """A checked data set.

    Attributes:
        kind: deepfashion, market or people.
        path: of the set.
        taken: which of the files that are there a reader takes, a line each.
        counts: split -> what -> how many.
        published: the same numbers as published, where the set looks like the whole one.
        problems: what training would stumble over, or learn wrongly.
        notes: what is odd and does no harm.
        show: up to so many pairs for a contact sheet.
    """

    kind: str
    path: Path
    taken: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    published: Mapping[str, Mapping[str, int]]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    show: Callable[[int], Sequence[Shown]]

    def plain(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "clean": not self.problems,
            "taken": list(self.taken),
            "counts": {split: dict(numbers) for split, numbers in self.counts.items()},
            "published": {split: dict(numbers) for split, numbers in self.published.items()},
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


@dataclass
class Findings:
    """Collects faults while a set is gone through; its `tell` is what readers take."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _kept: set[Problem] = field(default_factory=set, init=False, repr=False)

    def tell(self, error: FlowposeError) -> None:
        """Keeps a fault; one that two readers meet is kept once."""
        found = Problem(
            error.where,
            error.what,
            "nothing" if error.got is None else str(error.got),
            "none of this" if error.expected is None else str(error.expected),
            error.fix or "",
        )
        if found not in self._kept:
            self._kept.add(found)
            self.problems.append(found)

    def fault(self, where: object, what: str, *, got: object, expected: object, fix: str) -> None:
        """Keeps a fault in words."""
        self.tell(DataError(where, what, got=got, expected=expected, fix=fix))

    def note(self, text: str) -> None:
        """Keeps what does no harm."""
        self.notes.append(text)


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
