"""What the requests of the API are computed by: a picture of a photo and a pose, and a motion on the model's frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from flowpose import image, samples
from flowpose.errors import PoseError
from flowpose.pose import Pose
from flowpose.pose_motion import Motion, retarget
from flowpose.runtime import Model
from flowpose.serve.settings import Limits
from flowpose.serve.uploads import Upload, motion_of, picture_of, pose_of

__all__ = ["Output", "drawn", "motion_table", "on_frame", "own_of", "sample_motion", "told_motion"]

Output = Literal["png", "jpeg", "webp"]
RATE = 15.0  # poses a second of motions whose times are all the same


@dataclass(frozen=True, eq=False)
class Told:
    """Poses on the model's frame, in its format; None where nobody is."""

    poses: tuple[Pose | None, ...]
    times: tuple[float, ...]


def drawn(
    model: Model,
    photo: Upload,
    pose: Upload,
    format: str | None,
    number: int,
    output: Output,
    quality: int,
    limits: Limits,
) -> bytes:
    """Returns a picture file: the person of the photo in the pose.

    Raises:
        FlowposeError: what reading the photo or the pose, or drawing, raises.
    """
    picture = picture_of(photo, limits)
    found = pose_of(pose, format, (picture.shape[0], picture.shape[1]), number, limits)
    frame = model.infer(picture, found)
    return image.encode(frame, f".{output}", quality)


def told_motion(
    model: Model, uploads: Sequence[Upload], format: str | None, own: Pose | None, limits: Limits
) -> Told:
    """Returns the motion of a client's files on the model's frame.

    Args:
        own: the photo's own pose on the frame: the motion gets its proportions, size and place; None: as it is.

    Raises:
        FlowposeError: what reading the files raises, or a first pose that is none of its canvas.
    """
    return _fitted(model, motion_of(uploads, format, model.size, limits), own)


def sample_motion(model: Model) -> Told:
    """Returns the shipped motion on the model's frame."""
    motion = samples.motion()
    times = tuple(i / motion.rate for i in range(len(motion.poses)))
    return _fitted(model, Motion(motion.poses, times), None)


def motion_table(model: Model, told: Told) -> dict[str, Any]:
    """Returns a motion as JSON has it: `size` (height, width), `format`, `times`, and a row of 3 J numbers a pose."""
    rows = [
        None if pose is None else [round(float(value), 2) for value in pose.array().ravel()]
        for pose in told.poses
    ]
    return {
        "format": model.manifest.pose.format, "size": list(model.size),
        "times": [round(time, 4) for time in told.times], "poses": rows,
    }  # fmt: skip


def own_of(text: str | None, model: Model) -> Pose | None:
    """Returns the photo's own pose in a request: rows of joints in the model's format, pixels of its frame.

    Raises:
        PoseError: not such rows.
    """
    if text is None:
        return None
    try:
        rows = np.asarray(json.loads(text), object)
    except (ValueError, RecursionError) as error:
        raise PoseError("own", f"not JSON ({error})", expected="[[x, y, score], ...]") from error
    try:
        return Pose.of(rows, model.manifest.pose.format, model.size).check()
    except PoseError as error:
        raise error.at("own") from error


def _fitted(model: Model, motion: Motion, own: Pose | None) -> Told:
    size = model.size
    sized = [pose if pose.size is not None else replace(pose, size=size) for pose in motion.poses]
    first = next((i for i, pose in enumerate(sized) if pose.seen.any()), 0)
    sized[first].check(f"pose {first}")  # coordinates in 0..1 and other canvases show in one pose as in all
    poses: Sequence[Pose] = sized if own is None else retarget(sized, own)
    last = motion.times[-1]
    times = motion.times if last > 0 else tuple(i / RATE for i in range(len(poses)))
    return Told(tuple(on_frame(model, pose) for pose in poses), times)


def on_frame(model: Model, pose: Pose) -> Pose | None:
    """Returns a pose on the model's frame, in its format; None where nothing of it would be drawn."""
    found = pose.fit(*model.size).inside().to(model.manifest.pose.format)
    return found if found.seen.any() else None
