"""Which backend and precision an engine gets: a reduced precision only where it wins by a margin and its gates hold.

Only numbers and words here; nothing is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ORDER = ("fp32", "fp16", "fp8", "int8")  # each gives up more than the one before
ALONE = {True: "forced, no other precision was measured", False: "no other precision to measure"}


@dataclass(frozen=True)
class Entry:
    """A backend in a precision, and what its frames took, milliseconds."""

    backend: str
    precision: str
    p50: float
    p95: float

    @property
    def label(self) -> str:
        """Such as `int8 openvino`."""
        return f"{self.precision} {self.backend}"


@dataclass(frozen=True)
class Quality:
    """What is known of a precision's pictures.

    Attributes:
        failed: the gate that it did not pass, in words; None where all hold, or there are none.
        notes: what else should be read beside the decision, such as which gates hold.
    """

    failed: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Everything, what failed first."""
        return (*(() if self.failed is None else (self.failed,)), *self.notes)


@dataclass(frozen=True)
class Trial:
    """A candidate of a lower precision against the one that has won so far."""

    challenger: Entry
    standing: Entry
    margin: float
    quality: Quality

    @property
    def median(self) -> float:
        """How many times as fast the challenger is, by the median."""
        return self.standing.p50 / self.challenger.p50

    @property
    def tail(self) -> float:
        """The same by p95."""
        return self.standing.p95 / self.challenger.p95

    @property
    def fast(self) -> bool:
        return self.median >= self.margin and self.tail >= self.margin

    @property
    def won(self) -> bool:
        return self.fast and self.quality.failed is None

    def sentence(self) -> str:
        """`int8 openvino 8.10 ms is 1.68 times as fast as fp32 openvino: kept`, or what speaks against it."""
        only = "" if self.median >= self.margin else "only "
        text = f"{self.challenger.label} {self.challenger.p50:.2f} ms is {only}{_times(self.median)}"
        text += f" times as fast as {self.standing.label}"
        if self.median >= self.margin > self.tail:
            text += f", but only {_times(self.tail)} times by p95"
        text += "" if self.fast else f" (margin {self.margin:g})"
        text += "" if self.quality.failed is None else f", and {self.quality.failed}"
        return f"{text}: {'kept' if self.won else f'{self.standing.precision} kept'}"

    def reason(self) -> str:
        """The same for the challenger's own line of a table, with p95."""
        text = (
            f"{_times(self.median)} times as fast as {self.standing.label}, {_times(self.tail)} times by p95"
        )
        return f"{text} (margin {self.margin:g})"

    def beaten(self) -> str:
        """Why the one that stood does not any more."""
        text = f"{self.challenger.label} is {_times(self.median)} times as fast, {_times(self.tail)} times by p95"
        return f"{text} (margin {self.margin:g})"


@dataclass(frozen=True)
class Decision:
    """The entry that an engine gets, why each entry is it or is not, and the whole in a sentence."""

    chosen: Entry
    reasons: Mapping[Entry, str]
    sentence: str


def decide(
    entries: Sequence[Entry], qualities: Mapping[str, Quality], *, margin: float, forced: bool = False
) -> Decision:
    """Returns the choice among the entries.

    The fastest one (by the median) of the first precision of ORDER that is there stands at first. Then, precision after
    precision, the fastest that is at least `margin` times as fast by the median and by p95, and has no failed gate,
    takes its place.

    Args:
        entries: at least one, each backend and precision once.
        qualities: precision -> what is known of it.
        margin: 1 or more.
        forced: the precision was asked for, so others were not measured.
    """
    groups = [group for precision in ORDER if (group := _fastest_first(entries, precision))]
    standing = groups[0][0]
    reasons, sentences = _within(groups[0], standing), list[str]()
    reasons[standing] = "no reduced precision wins" if len(groups) > 1 else ALONE[forced]
    for group in groups[1:]:
        trials = [Trial(each, standing, margin, qualities[each.precision]) for each in group]
        reasons.update({trial.challenger: trial.reason() for trial in trials})
        winning = [trial for trial in trials if trial.won]
        told = (winning or trials)[0]
        sentences.append(told.sentence())
        if winning:
            reasons |= {
                standing: told.beaten(),
                **_within([each.challenger for each in winning], told.challenger),
            }
            standing = told.challenger
    sentence = "; ".join(sentences or [f"{standing.label} {standing.p50:.2f} ms: {reasons[standing]}"])
    return Decision(standing, _with_words(groups, reasons, qualities), sentence)


def _fastest_first(entries: Sequence[Entry], precision: str) -> list[Entry]:
    return sorted((each for each in entries if each.precision == precision), key=lambda each: each.p50)


def _within(group: Sequence[Entry], best: Entry) -> dict[Entry, str]:
    """Why the others of a precision do not stand for it."""
    others = [each for each in group if each is not best]
    return {each: f"{_times(each.p50 / best.p50)} times as long as {best.label}" for each in others}


def _with_words(
    groups: Sequence[Sequence[Entry]], reasons: Mapping[Entry, str], qualities: Mapping[str, Quality]
) -> dict[Entry, str]:
    """The reasons, with what is known of its pictures beside the fastest of each precision."""
    fastest = {group[0]: qualities[group[0].precision].words for group in groups}
    return {each: "; ".join((text, *fastest.get(each, ()))) for each, text in reasons.items()}


def _times(ratio: float) -> str:
    """Two digits, cut and not rounded: 1.0999 must not be shown as a margin of 1.10 that it misses."""
    return f"{math.floor(ratio * 100) / 100:.2f}"
