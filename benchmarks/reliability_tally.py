"""What came of the cases of a fault: how many were tried, what came out, what was lost, which errors were untyped.

A case is a function that returns a word for what came out. `Lost` says that something which was whole is gone, or
differs from what an undisturbed run makes; any other error that is no FlowposeError counts as untyped.
"""

from __future__ import annotations

import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flowpose.errors import FlowposeError

FAULTS = ("losses", "untyped", "hung")
SHOWN = 5  # faults whose texts are kept
SLOWER = 60  # times as long as its processor time something may take, on cores that others use too


class Lost(AssertionError):
    """Something whole is gone or changed, or a leftover was taken for something whole."""


class Hung(BaseException):
    """A case took longer than it may; not an Exception, so that no handler takes it for another error."""


class Skipped(Exception):
    """This machine cannot try the fault; says why."""


@dataclass
class Tally:
    """The counts of one kind of fault.

    Attributes:
        name: of the fault, as the table says it.
        outcomes: what came out -> how often.
        losses, untyped, hung: how often; faults are the texts of the first ones.
        skipped: why the fault was not tried here.
        further: other figures.
    """

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    losses: int = 0
    untyped: int = 0
    hung: int = 0
    faults: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        return self.outcomes.total() + self.losses + self.untyped + self.hung

    @property
    def clean(self) -> bool:
        return not (self.losses or self.untyped or self.hung)

    def take(self, case: str, act: Callable[[], str], *, within: float = 0) -> str:
        """Runs a case, counts what came out and returns it; `within` seconds where the case is short."""
        try:
            with limited(within):
                found = act()
        except FlowposeError as error:
            found = type(error).__name__
            if not error.where or not error.what:
                return self._fault("untyped", case, "an error that does not say where and what")
        except Skipped as why:
            self.skipped.append(f"{case}: {why}")
            return "skipped"
        except Lost as error:
            return self._fault("losses", case, str(error))
        except Hung:
            return self._fault(
                "hung", case, f"more than {within} s of processor time, or {SLOWER} times that"
            )
        except Exception:  # noqa: BLE001 - what nobody foresaw is what is counted here
            return self._fault("untyped", case, traceback.format_exc(limit=-6))
        self.outcomes[found] += 1
        return found

    def _fault(self, kind: str, case: str, text: str) -> str:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.faults) < SHOWN:
            self.faults.append(f"{kind}: {case}: {text}")
        return kind

    def plain(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {
            "fault": self.name, "tried": self.tried, "losses": self.losses, "untyped": self.untyped, "hung": self.hung,
            "outcomes": dict(sorted(self.outcomes.items())), "skipped": self.skipped, **self.further,
        }  # fmt: skip


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Hung in the block when it computes longer, or takes SLOWER times as long; 0 is no limit.

    In the main thread only. Processor time, since on a crowded machine a second is no measure; the clock, since what
    waits computes nothing.
    """
    if not seconds:
        yield
        return

    def late(*_: object) -> NoReturn:
        raise Hung

    before = [signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, SLOWER * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])
