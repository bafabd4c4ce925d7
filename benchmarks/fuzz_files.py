"""How many of N fuzzed pictures, recipes, targets, manifests and bundles give a result, a typed error, or a fault.

    python benchmarks/fuzz_files.py --examples 2000 --json benchmarks/results/fuzz-files.json

hypothesis spoils good files (fuzz_files_drawn.py), N of each kind. What comes out is a result or a FlowposeError;
anything else, a warning, more than SECONDS, or more memory than MEGABYTES above the start is a fault. Exits with 1 if
there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fuzz_files_drawn import TARGETS, Target, shelf
from hypothesis import HealthCheck, Phase, given, seed, settings
from reliability_tally import Tally

from flowpose.runtime.machine import machine

SEED = 7
SECONDS = 10.0  # of processor time that one example may take
# Above the start, MB; the largest PNG of 16 bits takes OpenCV 2,075.
MEGABYTES = 2500


def count(target: Target, folder: Path, examples: int) -> Tally:
    """What came of so many examples of a target."""
    tally, desk = Tally(target.name), shelf(folder)

    def run(value: Any) -> None:
        tally.take(f"{value!r:.600}", lambda: target.act(desk, value), within=SECONDS)

    chosen = settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    seed(SEED)(chosen(given(target.values)(run)))()
    return tally


def peak() -> int:
    """The most memory that this process ever had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def counts(examples: int, names: list[str], say: Callable[[str], None]) -> list[Tally]:
    """One tally a target."""
    found = []
    for name in names:
        with TemporaryDirectory() as folder:
            began, before = time.process_time(), peak()
            tally = count(TARGETS[name], Path(folder), examples)
        grown = peak() - before
        tally.further = {"cpu_seconds": round(time.process_time() - began, 1), "memory_grown_mb": grown}
        if grown > MEGABYTES:
            tally.hung += 1
            tally.faults.append(f"memory: {grown} MB")
        say(f"{name:14s} {dict(tally.outcomes)} untyped {tally.untyped} hung {tally.hung}, {tally.further}")
        found.append(tally)
    return found


@contextmanager
def quiet() -> Iterator[Callable[[str], None]]:
    """Sends what libpng and its like write on stderr nowhere, and gives a function that still says a line there."""
    with os.fdopen(os.dup(2), "w") as stderr, Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield lambda text: print(text, file=stderr, flush=True)
        finally:
            os.dup2(stderr.fileno(), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--examples", type=int, default=200, help="of each kind")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="some kinds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("error")
    with quiet() as say:
        found = counts(options.examples, options.only or list(TARGETS), say)
    report = {
        "examples": options.examples, "kinds": [tally.plain() for tally in found],
        "total": dict(sorted(sum((tally.outcomes for tally in found), Counter()).items())),
        "others": sum(tally.losses + tally.untyped + tally.hung for tally in found),
        "seed": SEED, "hypothesis": version("hypothesis"), "device": asdict(machine()),
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for tally in found:
        for text in tally.faults:
            sys.stderr.write(f"{tally.name}: {text}\n")
    sys.exit(1 if report["others"] else 0)


if __name__ == "__main__":
    main()
