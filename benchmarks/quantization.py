"""Quantization methods on one student: how near each stays to it, with and without fine-tuning under quantization.

    python benchmarks/quantization.py --table docs/quantization.md \
        --json benchmarks/results/people-128-quantization.json

Every variant starts from the recipe's finished student, which is made first where it is missing, and is compared with
it on the recipe's val pairs: picture by picture, and in the scores of either against the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from page_tables import put

from flowpose.artifact import Artifact
from flowpose.comparison import Pairs, scores_of, validation
from flowpose.evaluate import drawer
from flowpose.metrics import psnr, summary
from flowpose.model.weights import load_generator
from flowpose.pipeline import Run
from flowpose.quantize import load_quantized
from flowpose.runtime.machine import machine
from flowpose.spec.reading import load_recipe

Settings = Mapping[str, Any]
COLUMNS = (
    "psnr", "psnr_low", "ssim_change", "own_lpips_change", "pck_change", "share", "kept", "seconds",
)  # fmt: skip
FLOOR = {"psnr": 36.0, "low": 30.0, "pairs": 16}


def variants(tuned: Settings) -> dict[str, Settings]:
    """Name -> what `recipe.quantize` becomes, beside its calibration and `keep`."""
    plain: dict[str, Settings] = {
        "int8, max": {"method": "int8", "algorithm": "max"},
        "int8, entropy": {"method": "int8", "algorithm": "entropy"},
        "int8, percentile 99.99": {"method": "int8", "algorithm": "percentile"},
        "int8, mse": {"method": "int8", "algorithm": "mse"},
        "int8-smoothquant": {"method": "int8-smoothquant"},
        "fp8": {"method": "fp8"},
        "int8, max, floor": {"method": "int8", "algorithm": "max", "floor": FLOOR},
        "auto": {"method": "auto", "floor": FLOOR},
    }
    trained = {f"{name} + tuning": {**plain[name], "tune": tuned} for name in ("int8, max", "int8, mse")}
    return {**plain, **trained}


def carried_out(
    options: argparse.Namespace, name: str, settings: Settings
) -> tuple[Artifact, Artifact, float]:
    """(student, quantized, seconds) of a variant."""
    base = load_recipe(options.recipe)
    own = {"calibration": base.quantize.calibration, "keep": list(base.quantize.keep), **settings}
    other = "fp8" if settings["method"] == "fp8" else "int8"
    over = [
        f"quantize={json.dumps(own)}",
        f"export.precisions=[fp32, {other}]",
        "export.opset=19",
        "gates=[]",
    ]
    run = Run(recipe=load_recipe(options.recipe, over), root=options.out, say=print)
    begun = time.perf_counter()
    done = run.stages("quantize")
    return done[-2].artifact, done[-1].artifact, time.perf_counter() - begun


def compared(student: Artifact, quantized: Artifact, pairs: Pairs) -> dict[str, float]:
    """How near the quantized student is to the student."""
    made, own = (
        drawer(each)(pairs.sources, pairs.keypoints)
        for each in (load_quantized(quantized), load_generator(student))
    )
    near = [psnr(a, b) for a, b in zip(made, own, strict=True)]
    new, old = (asdict(summary(scores_of(each, pairs))) for each in (made, own))
    measured = {m.metric: m.value for m in quantized.manifest.measurements}
    share = next(value for metric, value in measured.items() if metric in ("int8_macs", "fp8_macs"))
    return {
        "psnr": float(np.mean(near)),
        "psnr_low": float(np.percentile(near, 5)),
        **{f"{name}_change": new[name] - old[name] for name in ("ssim", "own_lpips", "pck")},
        "share": share,
        "kept": float(len(quantized.manifest.stage["kept"])),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [
        f"| {row['variant']} | " + " | ".join(_number(row[name]) for name in COLUMNS) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="people-128")
    parser.add_argument("--out", type=Path, default=Path("artifacts"))
    parser.add_argument("--iterations", type=int, default=60, help="of tuning")
    parser.add_argument("--only", nargs="*", help="variants, by name")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="a page with two marks, between which the table is put")
    options = parser.parse_args()
    optim = {"iterations": options.iterations, "batch": 8, "lr": 5e-5, "warmup": 10, "ema": 0.95}
    recipe = load_recipe(options.recipe)
    pairs = validation(recipe, Run(recipe=recipe).data)
    rows: list[dict[str, Any]] = []
    for name, settings in variants({"optim": optim}).items():
        if options.only and name not in options.only:
            continue
        student, quantized, seconds = carried_out(options, name, settings)
        found = compared(student, quantized, pairs)
        rows.append(
            {
                "variant": name, **found, "seconds": round(seconds, 1), "key": quantized.manifest.key,
                "kept_layers": quantized.manifest.stage["kept"], "settings": settings,
            }
        )  # fmt: skip
        report = {
            "recipe": options.recipe, "student": student.manifest.key, "set": f"{pairs.split}", "n": len(pairs),
            "device": asdict(machine()), "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.table:
        put(options.table, "quantization.py", table(rows))
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
