"""The files that the pages say a reader has, made of the samples that ship and of drawn figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from docs.blocks import ROOT
from drawn_sets import make_deepfashion
from pose.writers import BODY_25, openpose, pose_openpose

from flowpose import image, samples
from flowpose.pose import Pose
from flowpose.report import write_video

FRAMES = 4
CHECKOUT = ("recipes", "targets", "calib")  # what commands only read


def photo(path: Path) -> None:
    """A photo of another size and shape than any model's."""
    picture = samples.source("sweater")
    image.write(path, picture[:, 8:].repeat(3, axis=0).repeat(3, axis=1))


def moved() -> tuple[Pose, ...]:
    return samples.motion().poses[:: 48 // FRAMES][:FRAMES]


def rows() -> list[np.ndarray]:
    return [np.column_stack([pose.xy, pose.score]) for pose in moved()]


def openpose_frames() -> list[dict[str, object]]:
    """Frames as OpenPose writes them, each with its time and canvas."""
    found = []
    for i, pose in enumerate(moved()):
        body = pose.to("body-25")
        numbers = np.column_stack([body.xy, body.score]).round(2).ravel().tolist()
        canvas = {"canvas_height": 256, "canvas_width": 176}
        found.append({"people": [{"pose_keypoints_2d": numbers}], "time": round(i / 4, 3), **canvas})
    return found


def json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(frame) + "\n" for frame in openpose_frames()))


def one_document(path: Path) -> None:
    path.write_text(json.dumps({"frames": openpose_frames()}))


def pose_file(path: Path) -> None:
    pose_openpose(path.parent, rows()).rename(path)


def folder_of_frames(path: Path) -> None:
    path.mkdir()
    openpose(BODY_25)(path, rows())


def film(path: Path) -> None:
    """Two seconds of a person as a phone films them: wider than high."""
    person = samples.source("skirt").repeat(2, axis=0).repeat(2, axis=1)
    backdrop = np.repeat(person[:, :1], 280, axis=1)
    write_video(path, [np.concatenate([backdrop, person, backdrop], axis=1)] * FRAMES, 4)


def photos(path: Path) -> None:
    """A folder a person, some pictures in each, as somebody collects them."""
    for pair in samples.pairs():
        for name, picture in (
            ("front", pair.source),
            (f"pose-{len(list(path.glob(f'{pair.name}/*')))}", pair.truth),
        ):
            image.write(path / pair.name / f"{name}.jpg", picture)


MAKERS: dict[str, Callable[[Path], object]] = {
    "photo.jpg": photo,
    "my-photo.jpg": photo,
    "motion.jsonl": json_lines,
    "my-poses.json": one_document,
    "poses.json": one_document,
    "dance.pose": pose_file,
    "frames/": folder_of_frames,
    "dance.mp4": film,
    "photos/": photos,
    "../shared/data/people/deepfashion-format": lambda path: make_deepfashion(path, ("test",)),
}
"""A name that pages use -> what makes it."""


def lay_out(folder: Path, page: str) -> Path:
    """A folder that looks like a checkout, with the files that a page's text names in it."""
    here = folder / "flowpose"
    here.mkdir()
    for name in CHECKOUT:
        (here / name).symlink_to(ROOT / name)
    for name, make in MAKERS.items():
        if name in page:
            path = here / name.rstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            make(Path(str(path)).resolve() if ".." in name else path)
    return here
