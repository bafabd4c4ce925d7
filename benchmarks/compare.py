"""Compares two stored runs of the benchmarks by ratio: python benchmarks/compare.py OLD.json NEW.json.

Takes what `make bench` writes (pytest-benchmark's JSON with all times) and what `flowpose bench --raw --json` prints.
For each benchmark that both have it gives the new median over the old one, and a 95 % interval: both runs are drawn
anew in blocks of neighbouring samples, since neighbours share what disturbs them. `slower` and `faster` are said where
the whole interval lies beyond the margin, `same` otherwise. Two runs are two processes at two times: what differs
between them by itself, the margin must cover.

Two models are compared, too, since that may be what is asked; that they are two is said below the table.

The status is 1 where something is slower, 2 where the runs cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

RESAMPLES, LEVEL, SEED = 2000, 0.95, 0
MARGIN = 0.05
SAME_MACHINE = ("cpu", "cores", "arch")  # what must agree

Floats = NDArray[np.float64]


class NotComparable(Exception):
    """Two files that say nothing of each other: another machine, another kind of file, nothing in common."""


@dataclass(frozen=True)
class Stored:
    """A stored run.

    Attributes:
        machine: that it says.
        keys: of the models that were measured; none where the run was stored without.
        times: name -> durations, any unit.
        verdict: its own.
    """

    machine: Mapping[str, Any]
    keys: frozenset[str]
    times: Mapping[str, Floats]
    verdict: str


@dataclass(frozen=True)
class Compared:
    """A benchmark of both runs: medians (ms), new over old with its interval, samples of either."""

    name: str
    old_ms: float
    new_ms: float
    ratio: float
    low: float
    high: float
    n: tuple[int, int]
    verdict: Literal["slower", "faster", "same"]


def read_run(path: Path) -> Stored:
    """Returns a stored run; NotComparable if the file is none, or was written without its samples."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NotComparable(f"{path}: cannot be read ({error})") from error
    if "benchmarks" in data and "flowpose" in data:
        times = {b["fullname"]: np.array(b["stats"].get("data", ())) * 1e3 for b in data["benchmarks"]}
        own = data["flowpose"]
        keys = {own["key"]} if "key" in own else set()
    elif "schema_version" in data:
        times = {f"{s['label']} {s['stage']}": np.array(s.get("ms", ())) for s in data["stages"]}
        own, keys = data, {each["key"] for each in data.get("models", {}).values()}
    else:
        raise NotComparable(f"{path}: neither of `make bench` nor of `flowpose bench --raw --json`")
    if not times or not all(len(each) for each in times.values()):
        raise NotComparable(f"{path}: holds no samples (flowpose bench --raw --json keeps them)")
    return Stored(own["machine"], frozenset(keys), times, str(own["verdict"]["kind"]))


def check_machines(old: Stored, new: Stored) -> None:
    """Raises NotComparable where the runs are of different machines."""
    differ = [
        f"{name} {old.machine[name]} and {new.machine[name]}"
        for name in SAME_MACHINE
        if old.machine[name] != new.machine[name]
    ]
    if differ:
        raise NotComparable(f"two machines: {'; '.join(differ)} (--force compares all the same)")


def compare(old: Stored, new: Stored, margin: float = MARGIN) -> list[Compared]:
    """Returns every benchmark that both runs have, in the new one's order; NotComparable if there is none."""
    names = [name for name in new.times if name in old.times]
    if not names:
        raise NotComparable("the runs have no benchmark in common")
    return [compared(name, old.times[name], new.times[name], margin) for name in names]


def compared(name: str, old: Floats, new: Floats, margin: float) -> Compared:
    """Returns a benchmark's ratio of medians, its interval and what that says."""
    rng = np.random.default_rng(SEED)
    ratios = medians(new, rng) / medians(old, rng)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    before, after = float(np.median(old)), float(np.median(new))
    verdict: Literal["slower", "faster", "same"] = "same"
    if low > 1 + margin:
        verdict = "slower"
    elif high < 1 / (1 + margin):
        verdict = "faster"
    return Compared(
        name, before, after, after / before, float(low), float(high), (len(old), len(new)), verdict
    )


def medians(values: Floats, rng: np.random.Generator) -> Floats:
    """Returns the medians of RESAMPLES runs that are drawn from one, in blocks of the root of its length.

    A block may begin anywhere and goes on at the start when it passes the end (the circular block bootstrap).
    """
    n = len(values)
    length = max(1, math.isqrt(n))
    starts = rng.integers(0, n, (RESAMPLES, math.ceil(n / length)))
    rows = (starts[:, :, None] + np.arange(length)) % n
    found: Floats = np.median(values[rows.reshape(RESAMPLES, -1)[:, :n]], axis=1)
    return found


def show(rows: Sequence[Compared], old: Stored, new: Stored) -> None:
    """Prints the table, what only one run has, and versions that differ."""
    made = Table(
        box=None, pad_edge=False, caption_justify="left", caption="new over old, medians, 95 % interval"
    )
    made.add_column("benchmark", overflow="fold")
    for head in ("old ms", "new ms", "ratio", "interval", "n", "verdict"):
        made.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.name, f"{row.old_ms:.4g}", f"{row.new_ms:.4g}", f"{row.ratio:.3f}", f"{row.low:.3f} to {row.high:.3f}",
            f"{row.n[0]}, {row.n[1]}", row.verdict,
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(made, markup=False)
    for text in notes(old, new):
        console.print(text, markup=False)


def notes(old: Stored, new: Stored) -> list[str]:
    """Returns what a reader must know beside the table."""
    found = models(old, new)
    found += [f"verdict of the {which} run: {run.verdict}" for which, run in (("old", old), ("new", new))]
    for which, one, other in (("old", old, new), ("new", new, old)):
        only = [name for name in one.times if name not in other.times]
        found += [f"only in the {which} run: {', '.join(only)}"] if only else []
    before, after = old.machine.get("versions", {}), new.machine.get("versions", {})
    found += [
        f"{tool}: {before.get(tool, 'none')} and {after.get(tool, 'none')}"
        for tool in dict.fromkeys((*before, *after))
        if before.get(tool) != after.get(tool)
    ]
    return found


def models(old: Stored, new: Stored) -> list[str]:
    """Returns what is to be said of the models: nothing where both runs are known to be of the same."""
    if old.keys and old.keys == new.keys:
        return []
    told = [", ".join(sorted(each.keys)) or "not stored" for each in (old, new)]
    return [
        f"{'two models' if old.keys and new.keys else 'perhaps two models'}: keys {told[0]} and {told[1]}"
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the status of the process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--margin", type=float, default=MARGIN, help="share that counts as the same (0.05)")
    parser.add_argument("--force", action="store_true", help="compare runs of different machines")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args(arguments)
    try:
        old, new = read_run(given.old), read_run(given.new)
        if not given.force:
            check_machines(old, new)
        rows = compare(old, new, given.margin)
    except NotComparable as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.json:
        document = {"rows": [asdict(row) for row in rows], "notes": notes(old, new)}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        show(rows, old, new)
    return int(any(row.verdict == "slower" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
