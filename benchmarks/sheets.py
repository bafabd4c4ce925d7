"""A contact sheet of real poses on test people: poses placed by hand on photographs, people of the test split.

    python benchmarks/sheets.py docs/people-128-real-poses.webp

Rows are source | photograph that gave the pose | pose | student | int8. There is no truth: the person was never
photographed so. The sheets with a truth come from `flowpose evaluate --sheet`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpose import Pose, image
from flowpose.artifact import open_artifact
from flowpose.data import read
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError
from flowpose.pose_files import read_poses
from flowpose.report import draw_pose, sheet
from flowpose.runtime import load
from flowpose.runtime.loading import precisions
from flowpose.spec.find import find
from flowpose.spec.recipe import FolderData, ImageSpec

LABELS = {"fp32": "student"}  # columns that do not go by their precision
PEOPLE = 4  # test people; with four poses 16 rows


def real_folder(roots: tuple[Path, ...]) -> Path:
    """The folder of photographs with keypoints."""
    for root in roots:
        if (root / "real" / "keypoints.json").is_file():
            return root / "real"
    raise DataError("real", "no photographs with keypoints.json", expected=[str(root) for root in roots])


def photographs(folder: Path) -> tuple[list[NDArray[np.uint8]], list[Pose]]:
    """The pictures of a folder with keypoints.json, and the pose in each."""
    entries = json.loads((folder / "keypoints.json").read_text("utf-8"))
    names = {entry["id"]: entry["file_name"] for entry in entries["images"]}
    pictures = [image.read(folder / names[entry["image_id"]]) for entry in entries["annotations"]]
    return pictures, list(read_poses(folder / "keypoints.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="people-128")
    options = parser.parse_args()
    pictures, poses = photographs(real_folder(DEFAULT_ROOTS))
    have = precisions(open_artifact(find("models", options.model)).manifest)
    models = {LABELS.get(each, each): load(options.model, precision=each) for each in have}
    first = next(iter(models.values()))
    size = first.size
    people = read(FolderData(), ImageSpec(height=size[0], width=size[1]), "test", DEFAULT_ROOTS)
    fronts = [group[0] for group in people.groups[:: max(1, len(people.groups) // PEOPLE)]][:PEOPLE]
    rows = []
    for source in (people.images[number] for number in fronts):
        for photograph, pose in zip(pictures, poses, strict=True):
            drawn = draw_pose(first.keypoints(pose, size), *size)
            made = [model.infer(source, pose) for model in models.values()]
            rows.append([source, image.fit(photograph, *size), drawn, *made])
    image.write(options.file, sheet(rows, ["source", "photograph", "pose", *models]))


if __name__ == "__main__":
    main()
