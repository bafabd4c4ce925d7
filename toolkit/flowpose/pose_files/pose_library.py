"""`.pose` files, the binary format of the pose-format library: MediaPipe Holistic, OpenPose, COCO-WholeBody.

A file names its points, and may hold any part of them (the face's contour alone, no legs), so joints go by their names,
into the smallest format that has them all. Coordinates are pixels of the canvas in the header; a confidence of 0 is a
missing joint. Files of version 0.0 give the first person only: the library reads no other.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from flowpose.errors import MissingDependency, PoseError
from flowpose.pose import CANONICAL, FORMATS, Floats, Indices, Pose
from flowpose.pose_files.frames import KINDS, Asked, Frame, Recording, holding, named, placed
from flowpose.pose_formats import BODY_25, FACE, HOLISTIC_553, MEDIAPIPE, OPENPOSE_137, WHOLEBODY

BROKEN = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError,
    ZeroDivisionError, NotImplementedError, struct.error,
)  # fmt: skip
"""What the library raises on files that are damaged or none of its own."""

FINGERS = ("THUMB_CMC THUMB_MCP THUMB_IP THUMB_TIP", *(
    f"{finger}_MCP {finger}_PIP {finger}_DIP {finger}_TIP"
    for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
))  # fmt: skip
MEDIAPIPE_HAND = ("WRIST", *" ".join(FINGERS).split())
OPENPOSE_HAND = (
    "BASE", "T_STT", "T_BCMC", "T_MCP", "T_IP",
    *(f"{finger}_{joint}" for finger in "IMRP" for joint in ("CMC", "MCP", "PIP", "DIP")),
)  # fmt: skip
OPENPOSE_BODY = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel",
)  # fmt: skip
OPENPOSE_FACE = tuple(
    f"{part}_{i}"
    for part, first, end in (
        ("FB", 0, 17), ("FEB", 17, 27), ("FN", 27, 36), ("FE", 36, 48), ("FLO", 48, 60), ("FLI", 60, 68),
        ("FP", 68, 70),
    )
    for i in range(first, end)
)  # fmt: skip


def _hand(points: tuple[str, ...], side: str) -> dict[str, str]:
    return {point: f"{side}_hand_{i}" for i, point in enumerate(points)}


def _wholebody(suffix: str) -> dict[str, dict[str, str]]:
    hand = tuple(f"hand_{i}" for i in range(21))
    return {
        f"BODY{suffix}": {joint: joint for joint in WHOLEBODY[:23]},
        f"FACE{suffix}": {f"face-{i}": joint for i, joint in enumerate(FACE)},
        f"LEFT_HAND{suffix}": _hand(hand, "left"), f"RIGHT_HAND{suffix}": _hand(hand, "right"),
    }  # fmt: skip


HOLISTIC = {
    "POSE_LANDMARKS": {joint.upper(): joint for joint in MEDIAPIPE},
    "FACE_LANDMARKS": {str(i): joint for i, joint in enumerate(HOLISTIC_553[33:511])},
    "LEFT_HAND_LANDMARKS": _hand(MEDIAPIPE_HAND, "left"),
    "RIGHT_HAND_LANDMARKS": _hand(MEDIAPIPE_HAND, "right"),
}
OPENPOSE = {
    "pose_keypoints_2d": dict(zip(OPENPOSE_BODY, BODY_25, strict=True)),
    "face_keypoints_2d": dict(zip(OPENPOSE_FACE, OPENPOSE_137[25:95], strict=True)),
    "hand_left_keypoints_2d": _hand(OPENPOSE_HAND, "left"),
    "hand_right_keypoints_2d": _hand(OPENPOSE_HAND, "right"),
}
COMPONENTS = HOLISTIC | OPENPOSE | _wholebody("") | _wholebody("_133")
"""Component -> its points' names -> flowpose's."""


def read_pose_file(file: Path, asked: Asked) -> Recording:
    """Returns one frame a frame, at the file's rate.

    Raises:
        MissingDependency: pose-format is not installed.
        PoseError: a file that the library cannot read, or that names no point of a person that is known here.
    """
    header, body = _opened(file)
    joints, columns = _known(file, header)
    name = holding(joints)
    if name is None:
        raise PoseError(file, "no format has all these joints", got=f"{len(joints)} of several kinds")
    rows: Indices = np.array([FORMATS[name].index(joint) for joint in joints], np.intp)
    data, score = _numbers(file, body, columns)
    height, width = header.dimensions.height, header.dimensions.width
    size = (int(height), int(width)) if height > 0 and width > 0 else asked.size
    own = Asked(name, size, asked.units)
    frames = tuple(
        Frame(f"{file}: frame {i}", _people(f"{file}: frame {i}", data[i], score[i], rows, own))
        for i in range(len(data))
    )
    return Recording(frames, float(body.fps) if np.isfinite(body.fps) and body.fps > 0 else None)


def _opened(file: Path) -> tuple[Any, Any]:
    try:
        from pose_format import Pose as Library
    except ImportError as error:
        fix = "pip install 'flowpose[pose]', or pip install --no-deps pose-format"
        raise MissingDependency(file, "needs the package pose-format", fix=fix) from error
    try:
        found = Library.read(file.read_bytes())
    except OSError as error:
        raise PoseError(file, f"cannot be read ({error})", expected=KINDS) from error
    except BROKEN as error:
        raise PoseError(
            file, f"not a .pose file ({error})", expected="one of the pose-format library"
        ) from error
    return found.header, found.body


def _known(file: Path, header: Any) -> tuple[list[str], list[int]]:
    """Returns flowpose's names of the points that have one, and their columns in the body."""
    joints, columns, column = [], [], 0
    for component in header.components:
        known = COMPONENTS.get(component.name, {})
        if known and component.format[:2] != "XY":
            got = component.format
            raise PoseError(f"{file}: {component.name}", "other coordinates", got=got, expected="XY first")
        for point in component.points:
            if point in known:
                joints.append(known[point])
                columns.append(column)
            column += 1
    if not joints:
        got = ", ".join(component.name for component in header.components)[:80]
        raise PoseError(file, "names no point that is known", got=got, expected=", ".join(COMPONENTS))
    return joints, columns


def _numbers(file: Path, body: Any, columns: list[int]) -> tuple[Floats, Floats]:
    """Returns x, y f32[n,P,J,2] and scores f32[n,P,J]; 0 where a joint is missing."""
    data, score = np.ma.getdata(body.data), np.ma.getdata(body.confidence)
    if data.ndim != 4 or score.shape != data.shape[:3] or data.shape[3] < 2:
        got = f"{list(data.shape)} and {list(score.shape)}"
        raise PoseError(file, "wrong shape", got=got, expected="[frames, people, points, 2]")
    with np.errstate(over="ignore", invalid="ignore"):
        xy, kept = data[:, :, columns, :2].astype(np.float32), score[:, :, columns].astype(np.float32)
    gone = ~np.isfinite(xy).all(3) | np.isnan(kept)
    return np.where(gone[..., None], 0, xy), np.where(gone, 0, kept)


def _people(where: str, xy: Floats, score: Floats, rows: Indices, own: Asked) -> tuple[Pose, ...]:
    """The people of a frame, each at the place that is theirs in all frames; who is not there has no joint."""
    poses = []
    for each, sure in zip(xy, score, strict=True):
        joints = np.zeros((len(FORMATS[own.format or CANONICAL].joints), 3), np.float32)
        joints[rows, :2], joints[rows, 2] = each, sure
        pose = named(where, Pose.of, joints, own.format)
        poses.append(placed(where, pose, own.size, own.units == "normalised"))
    return tuple(poses)
