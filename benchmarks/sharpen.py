"""How sharply a source is packed and how far carried colours may be off: the shipped weights, nothing trained.

    python benchmarks/sharpen.py artifacts/people-128/finish-* --json benchmarks/results/people-128-sharpen.json \
        --table docs/ablation.md

Every row draws the recipe's val pairs by one evaluation with another `distill.sharpen` or another TOLERANCE of
flowpose.model.detail, which no training sees; scores are means against the truth, in floating point.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from page_tables import put

from flowpose.artifact import open_artifact
from flowpose.comparison import validation
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.evaluate import drawer, scores
from flowpose.model import detail
from flowpose.model.weights import load_generator
from flowpose.runtime.machine import machine
from flowpose.spec.reading import load_recipe

SHIPPED = (1.2, detail.TOLERANCE)
ROWS = (
    (0.0, 0.22), (1.0, 0.22), (0.8, 0.2), (1.0, 0.2), (1.0, 0.18), (1.2, 0.18), (0.0, 0.16), SHIPPED, (1.4, 0.16),
    (1.4, 0.14),
)  # fmt: skip
COLUMNS = ("own_lpips", "spectrum_top", "grid", "pck", "identity", "psnr")


def rows(student: Path, recipe: str) -> Iterator[dict[str, float]]:
    """Yields the scores of every pair of settings."""
    generator = load_generator(open_artifact(student)).on_grid((0.0, 1.0), "euler").eval()
    if generator.detail is None:
        sys.exit(f"{student}: carries no pixels, expected a student with distill.detail")
    pairs = validation(load_recipe(recipe), DEFAULT_ROOTS)
    for sharpen, tolerance in ROWS:
        generator.detail.sharpen, detail.TOLERANCE = sharpen, tolerance
        found = scores(drawer(generator), pairs)
        yield {
            "sharpen": sharpen, "tolerance": tolerance, "pairs": len(pairs.sources),
            **{column: float(getattr(found, column)) for column in COLUMNS},
        }  # fmt: skip


def table(found: Sequence[Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    head = ("sharpen", "tolerance", *COLUMNS)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(f"{row[name]:.3g}" for name in head) + " |" for row in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("student", type=Path, help="the folder of a distill or finish artifact")
    parser.add_argument("--recipe", default="people-128", help="whose val pairs are drawn")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="page that gets the table")
    options = parser.parse_args()
    found = []
    for row in rows(options.student, options.recipe):
        found.append(row)
        sys.stderr.write(f"{row}\n")
    key = open_artifact(options.student, verify=False).manifest.key
    report: dict[str, Any] = {
        "recipe": options.recipe, "set": "val", "reference": "truth", "key": key, "device": asdict(machine()),
        "rows": found,
    }  # fmt: skip
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.table:
        put(options.table, "sharpen.py", table(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
