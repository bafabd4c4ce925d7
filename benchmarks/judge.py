"""What the judge's pose accuracy is worth on real people: photographs whose joints were placed by hand.

    python benchmarks/judge.py benchmarks/results/judge-photographs.json

Every figure called `pck` in this project is the judge's; this one says how far to trust it outside rendered pictures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from sheets import photographs, real_folder

from flowpose import image
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.metrics import Judge, calibrate
from flowpose.runtime.machine import machine

SIZES = ((128, 88), (256, 176))


def measured(folder: Path, size: tuple[int, int], judge: Judge) -> dict[str, object]:
    """PCK@0.1 and mean error of the judge on a folder's photographs, fitted into height x width."""
    found, given = photographs(folder)
    pictures = [image.fit(picture, *size) for picture in found]
    poses = [pose.fit(*size).array() for pose in given]
    right, wrong = (calibrate(pictures, each, judge) for each in (poses, poses[1:] + poses[:1]))
    return {"height": size[0], "width": size[1], "own_joints": asdict(right), "other_joints": asdict(wrong)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("json", type=Path)
    options = parser.parse_args()
    folder, judge = real_folder(DEFAULT_ROOTS), Judge()
    rows = [measured(folder, size, judge) for size in SIZES]
    report = {"set": "real", "reference": "joints placed by hand", "rows": rows, "device": asdict(machine())}
    options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
