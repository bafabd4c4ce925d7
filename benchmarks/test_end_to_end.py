"""Files in, files out, with a model that is loaded: reading, decoding, re-posing, encoding, writing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowpose
from flowpose import image, samples
from flowpose.pose import Pose
from flowpose.pose_files import read_poses
from flowpose.report import write_video

WARMUP = 3


@pytest.fixture
def source_file(tmp_path: Path, moving: samples.Motion) -> Path:
    return image.write(tmp_path / "source.png", moving.source)


def coco_file(path: Path, poses: tuple[Pose, ...]) -> Path:
    """COCO annotations of the poses, an image each."""
    entries = [
        {"id": i, "image_id": i, "category_id": 1, "keypoints": _triples(pose), "num_keypoints": 17}
        for i, pose in enumerate(poses)
    ]
    height, width = poses[0].size or (0, 0)
    images = [
        {"id": i, "file_name": f"{i}.png", "height": height, "width": width} for i, _ in enumerate(poses)
    ]
    path.write_text(json.dumps({"images": images, "annotations": entries}), encoding="utf-8")
    return path


def _triples(pose: Pose) -> list[float]:
    rows = pose.to("coco-17").array()
    rows[:, 2] = 2 * (rows[:, 2] > 0)
    return [float(value) for value in rows.ravel()]


def test_one_picture(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, source_file: Path, fewer: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """A PNG and a COCO file in, a PNG out; the person is encoded each time."""
    file, out = (
        coco_file(source_file.with_name("pose.json"), moving.poses[:1]),
        source_file.with_name("out.png"),
    )

    def run() -> None:
        model.forget()
        picture = image.read(source_file)
        (pose,) = read_poses(file, size=picture.shape[:2])
        image.write(out, model.session(picture).infer(pose))

    benchmark.pedantic(run, rounds=fewer, warmup_rounds=WARMUP)
    record(model)


def test_a_motion_to_a_video(
    benchmark: Any, model: flowpose.Model, moving: samples.Motion, source_file: Path, fewer: int,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """A PNG and a COCO file of 48 poses in, an MP4 out; `ms_a_frame` is a frame's share of the median."""
    file, out = (
        coco_file(source_file.with_name("motion.json"), moving.poses),
        source_file.with_name("out.mp4"),
    )

    def run() -> None:
        model.forget()
        picture = image.read(source_file)
        session = model.session(picture)
        poses = read_poses(file, size=picture.shape[:2])
        write_video(out, [session.infer(pose) for pose in poses], moving.rate)

    benchmark.pedantic(run, rounds=max(3, fewer // 40), warmup_rounds=1)
    frames = len(moving.poses)
    record(model, frames=frames, ms_a_frame=1000 * benchmark.stats.stats.median / frames)
