"""How many of N fuzzed poses, files and motions give a picture, a typed error, or a fault (which must be none).

    python benchmarks/fuzz_poses.py --examples 10000 --json benchmarks/results/fuzz-poses.json

hypothesis draws from what tests/pose/test_fuzz.py draws from (tests/pose/fuzzing.py), N of each kind; a tiny model of
two small ONNX graphs makes the pictures. Warnings count as faults. Exits with 1 if there is one, and shows the first of
each class.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from flowpose.runtime import load
from flowpose.runtime.machine import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pose.fuzzing import TARGETS, Desk, Target, outcome
from tiny_graphs import make_artifact

SEED = 6


def count(target: Target, desk: Desk, examples: int, faults: dict[str, str]) -> dict[str, int]:
    """Returns how often what came out; notes the traceback of the first fault of each kind."""
    found: Counter[str] = Counter()

    def run(value: Any) -> None:
        try:
            found[outcome(target, desk, value)] += 1
        except Exception as error:  # noqa: BLE001 - faults are what is counted here
            found[f"fault: {type(error).__name__}"] += 1
            faults.setdefault(type(error).__name__, f"{value!r:.500}\n{traceback.format_exc()}")

    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(SEED)(chosen(given(target.values)(run)))()
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--examples", type=int, default=1000, help="of each kind")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("error")
    counts, seconds, faults = {}, {}, {}
    with TemporaryDirectory() as folder:
        artifact = make_artifact(Path(folder) / "tiny", ("fp32",))
        model = load(artifact.path, backend="onnxruntime", precision="fp32", threads=1)
        for name, target in TARGETS.items():
            start = time.process_time()
            counts[name] = count(target, Desk(model, Path(folder)), options.examples, faults)
            seconds[name] = round(time.process_time() - start, 1)
            sys.stderr.write(f"{name:14s} {counts[name]} in {seconds[name]} s\n")
    total: Counter[str] = sum((Counter(each) for each in counts.values()), Counter())
    others = sum(n for name, n in total.items() if name.startswith("fault"))
    report = {
        "examples": options.examples, "kinds": counts, "total": dict(sorted(total.items())), "others": others,
        "seed": SEED, "cpu_seconds": seconds, "hypothesis": version("hypothesis"), "device": asdict(machine()),
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for text in faults.values():
        sys.stderr.write(text + "\n")
    sys.exit(1 if others else 0)


if __name__ == "__main__":
    main()
