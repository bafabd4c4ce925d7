"""Files as the tools of the field write them, made from one truth: coco-wholebody-133 with pixels of one canvas.

The orders stand here as literal numbers of COCO-WholeBody, taken from each tool's own description, and not from
flowpose's table, so that a slip there does not hide itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIZE = (256, 176)  # height, width

NECK, MID_HIP = -1, -2
OPENPOSE_18 = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
BODY_25 = (0, NECK, 6, 8, 10, 5, 7, 9, MID_HIP, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 17, 18, 19, 20, 21, 22)
FACE, LEFT_HAND, RIGHT_HAND = range(23, 91), range(91, 112), range(112, 133)
MEDIAPIPE = {  # landmark -> joint; the others have no joint of their own in the truth
    0: 0, 1: 65, 2: 1, 3: 68, 4: 62, 5: 2, 6: 59, 7: 3, 8: 4, 9: 77, 10: 71, 11: 5, 12: 6, 13: 7, 14: 8, 15: 9, 16: 10,
    23: 11, 24: 12, 25: 13, 26: 14, 27: 15, 28: 16, 29: 19, 30: 22, 31: 17, 32: 20,
}  # fmt: skip
KNUCKLES = {17: 108, 18: 129, 19: 96, 20: 117, 21: 93, 22: 114}  # MediaPipe Pose's pinky, index and thumb
MESH = {  # vertex of the face mesh -> joint: chin, nose, corners and lids of the eyes, mouth
    152: 31, 168: 50, 4: 53, 2: 56, 33: 59, 160: 60, 158: 61, 133: 62, 153: 63, 144: 64,
    362: 65, 385: 66, 387: 67, 263: 68, 373: 69, 380: 70, 61: 71, 0: 74, 291: 77, 17: 80, 13: 85, 14: 89,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        write: writes the poses into a folder and returns the path to read.
        joints: those of the truth that the kind carries.
        options: what `read_motion` must be told.
        off: pixels by which whole numbers may be off.
    """

    write: Callable[[Path, Sequence[Floats]], Path]
    joints: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    off: float = 0.01


def picked(rows: Floats, order: Sequence[int]) -> Floats:
    """Rows [J,3] in another order; neck and middle of the hips between two that are there."""
    between = {NECK: (5, 6), MID_HIP: (11, 12)}
    found = []
    for joint in order:
        if joint in between:
            a, b = (rows[i] for i in between[joint])
            found.append((a + b) / 2 if min(a[2], b[2]) > 0 else np.zeros(3))
        else:
            found.append(rows[joint])
    return np.array(found)


def flat(rows: Floats) -> list[float]:
    return [float(value) for value in rows.ravel()]


def write_json(folder: Path, name: str, data: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def write_lines(folder: Path, name: str, data: Sequence[Any]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(entry) + "\n" for entry in data))
    return path


def flags(rows: Floats) -> list[float]:
    return flat(np.column_stack([rows[:, :2], np.where(rows[:, 2] > 0, 2, 0)]))


def coco_images(n: int) -> list[dict[str, Any]]:
    return [
        {"id": i + 7, "file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in range(n)
    ]


def coco(count: int) -> Callable[[Path, Sequence[Floats]], Path]:
    def write(folder: Path, poses: Sequence[Floats]) -> Path:
        entries = [
            {"id": i, "image_id": i + 7, "category_id": 1, "iscrowd": 0, "num_keypoints": int((p[:count, 2] > 0).sum()),
             "keypoints": flags(p[:count])}
            for i, p in enumerate(poses)
        ]  # fmt: skip
        return write_json(folder, "coco.json", {"images": coco_images(len(poses)), "annotations": entries})

    return write


def coco_wholebody(folder: Path, poses: Sequence[Floats]) -> Path:
    entries = [
        {"image_id": i + 7, "category_id": 1, "keypoints": flags(p[:17]), "foot_kpts": flags(p[17:23]),
         "face_kpts": flat(p[23:91]), "lefthand_kpts": flat(p[91:112]), "righthand_kpts": flat(p[112:])}
        for i, p in enumerate(poses)
    ]  # fmt: skip
    return write_json(folder, "wholebody.json", {"images": coco_images(len(poses)), "annotations": entries})


def coco_results(poses: Sequence[Floats]) -> list[dict[str, Any]]:
    return [
        {"image_id": i + 7, "category_id": 1, "keypoints": flat(p[:17] * [1, 1, 0.75]), "score": 0.9}
        for i, p in enumerate(poses)
    ]


def openpose_people(rows: Floats, order: Sequence[int], *, whole: bool = False) -> list[dict[str, Any]]:
    person = {"person_id": [-1], "pose_keypoints_2d": flat(picked(rows, order))}
    face = np.concatenate([rows[23:91], np.zeros((2, 3))])
    for key, part in (("face", face), ("hand_left", rows[91:112]), ("hand_right", rows[112:])):
        person[f"{key}_keypoints_2d"] = flat(part) if whole else []
        person[f"{key}_keypoints_3d"] = []
    return [person]


def openpose(order: Sequence[int], *, whole: bool = False) -> Callable[[Path, Sequence[Floats]], Path]:
    def write(folder: Path, poses: Sequence[Floats]) -> Path:
        for i, rows in enumerate(poses):
            people = openpose_people(rows, order, whole=whole)
            write_json(folder, f"clip_{i:012d}_keypoints.json", {"version": 1.3, "people": people})
        return folder

    return write


def openpose_lines(folder: Path, poses: Sequence[Floats]) -> Path:
    frames = [{"people": openpose_people(p, BODY_25), "time": 0.1 * i} for i, p in enumerate(poses)]
    return write_lines(folder, "openpose.jsonl", frames)


def controlnet(folder: Path, poses: Sequence[Floats]) -> Path:
    frames = []
    for rows in poses:
        people = openpose_people(rows, OPENPOSE_18, whole=True)
        people[0]["face_keypoints_2d"] = people[0]["face_keypoints_2d"][: 68 * 3]
        if not rows[91:112, 2].any():
            people[0]["hand_left_keypoints_2d"] = None
        frames.append({"people": people, "canvas_height": SIZE[0], "canvas_width": SIZE[1]})
    return write_json(folder, "controlnet.json", frames)


def landmark(row: Floats, *, seen: bool) -> dict[str, float]:
    found = {"x": float(row[0] / SIZE[1]), "y": float(row[1] / SIZE[0]), "z": -0.1}
    return found | {"visibility": float(row[2])} if seen else found


def body_landmarks(rows: Floats) -> list[dict[str, float]]:
    joints = MEDIAPIPE | KNUCKLES
    return [landmark(rows[joints[i]], seen=True) for i in range(33)]


def mesh_landmarks(rows: Floats, count: int) -> list[dict[str, float | None]] | None:
    """The face, if it is there: MediaPipe gives the whole mesh or none, so a missing joint is null here."""
    if not rows[23:91, 2].any():
        return None
    marks: list[dict[str, float | None]] = [{"x": None, "y": None, "z": None} for _ in range(count)]
    for vertex, joint in MESH.items():
        if rows[joint, 2] > 0:
            marks[vertex] = dict(landmark(rows[joint], seen=False))
    return marks


def hand_landmarks(rows: Floats) -> list[dict[str, float | None]] | None:
    if not rows[:, 2].any():
        return None
    return [landmark(r, seen=False) if r[2] > 0 else {"x": None, "y": None, "z": None} for r in rows]  # type: ignore[misc]


def mediapipe_pose(folder: Path, poses: Sequence[Floats]) -> Path:
    """The JavaScript Tasks interface, a line a frame: a list of people."""
    frames = [
        {"timestampMs": 1000 + 40 * i, "landmarks": [body_landmarks(p)], "worldLandmarks": []}
        for i, p in enumerate(poses)
    ]
    return write_lines(folder, "pose.jsonl", frames)


def mediapipe_lists(folder: Path, poses: Sequence[Floats]) -> Path:
    return write_json(folder, "lists.json", [body_landmarks(p) for p in poses])


def holistic_js(folder: Path, poses: Sequence[Floats]) -> Path:
    frames = [
        {"poseLandmarks": body_landmarks(p), "faceLandmarks": mesh_landmarks(p, 478),
         "leftHandLandmarks": hand_landmarks(p[91:112]), "rightHandLandmarks": hand_landmarks(p[112:])}
        for p in poses
    ]  # fmt: skip
    data = {"frames": frames, "fps": 25, "height": SIZE[0], "width": SIZE[1]}
    return write_json(folder, "holistic.json", data)


def holistic_python(folder: Path, poses: Sequence[Floats]) -> Path:
    """Protobuf's dump: a table with the list as `landmark`."""
    frames = []
    for p in poses:
        parts = {
            "pose_landmarks": body_landmarks(p), "face_landmarks": mesh_landmarks(p, 468),
            "left_hand_landmarks": hand_landmarks(p[91:112]), "right_hand_landmarks": hand_landmarks(p[112:]),
        }  # fmt: skip
        frames.append(
            {key: {"landmark": part} for key, part in parts.items() if part} | {"time": len(frames) / 5}
        )
    return write_lines(folder, "holistic.jsonl", frames)


def whole_numbers(rows: Floats) -> NDArray[np.int64]:
    """The 18 joints as pixel numbers (x, y), -1 missing."""
    body = picked(rows, OPENPOSE_18)
    return np.where(body[:, 2:] > 0, np.floor(body[:, :2]), -1).astype(np.int64)


def deepfashion_csv(folder: Path, poses: Sequence[Floats]) -> Path:
    lines = ["name:keypoints_y:keypoints_x"]
    for i, rows in enumerate(poses):
        xy = whole_numbers(rows)
        lines.append(
            f"fashionWOMENTees_Tanksid{i:08d}01_1front.jpg: {xy[:, 1].tolist()}: {xy[:, 0].tolist()}"
        )
    (folder / "fasion-resize-annotation-test.csv").write_text("\n".join(lines) + "\n")
    return folder / "fasion-resize-annotation-test.csv"


def deepfashion_padded(folder: Path, poses: Sequence[Floats]) -> Path:
    lines = ["name:keypoints_y:keypoints_x"]
    for i, rows in enumerate(poses):
        xy = whole_numbers(rows)
        x = np.where(xy[:, 0] == -1, -1, xy[:, 0] + 40)
        lines.append(f"fashionMENPantsid{i:08d}01_3back.jpg: {xy[:, 1].tolist()}: {x.tolist()}")
    (folder / "fasion-annotation-test.csv").write_text("\n".join(lines) + "\n")
    return folder / "fasion-annotation-test.csv"


def deepfashion_txt(folder: Path, poses: Sequence[Floats]) -> Path:
    for i, rows in enumerate(poses):
        xy = whole_numbers(rows).astype(float)
        xy[xy[:, 0] >= 0, 0] += 40
        np.savetxt(folder / f"{i:04d}_1_front.txt", xy)  # 1.250000000000000000e+02 3.700000000000000000e+01
    return folder


def columns_csv(folder: Path, poses: Sequence[Floats]) -> Path:
    """A column a coordinate, as TensorFlow's pose examples name them."""
    names = [
        "NOSE", "LEFT_EYE", "RIGHT_EYE", "LEFT_EAR", "RIGHT_EAR", "LEFT_SHOULDER", "RIGHT_SHOULDER", "LEFT_ELBOW",
        "RIGHT_ELBOW", "LEFT_WRIST", "RIGHT_WRIST", "LEFT_HIP", "RIGHT_HIP", "LEFT_KNEE", "RIGHT_KNEE", "LEFT_ANKLE",
        "RIGHT_ANKLE",
    ]  # fmt: skip
    lines = [",".join(["time", *(f"{name}_{axis}" for name in names for axis in ("x", "y", "score"))])]
    for i, rows in enumerate(poses):
        cells = [f"{x},{y},{s}" if s > 0 else ",," for x, y, s in rows[:17]]
        lines.append(f"{i * 0.05:.3f}," + ",".join(cells))
    (folder / "motion.csv").write_text("\n".join(lines) + "\n")
    return folder / "motion.csv"


def pose_components(names: Sequence[tuple[str, Sequence[str], str]]) -> list[Any]:
    from pose_format.pose_header import PoseHeaderComponent

    return [PoseHeaderComponent(name, list(points), [], [], form) for name, points, form in names]


def save_pose(
    path: Path, names: Sequence[tuple[str, Sequence[str], str]], data: Floats, score: Floats
) -> Path:
    """data [n,P,J,D], score [n,P,J]; 25 frames a second."""
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderDimensions

    header = PoseHeader(0.2, PoseHeaderDimensions(SIZE[1], SIZE[0], 0), pose_components(names))
    with path.open("wb") as file:
        Pose(header, NumPyPoseBody(25, data.astype(np.float32), score.astype(np.float32))).write(file)
    return path


def pose_openpose(folder: Path, poses: Sequence[Floats]) -> Path:
    """The library's own components for OpenPose."""
    from pose_format.utils.openpose import OpenPose_Components as Components

    order = [(each.name, each.points, each.format) for each in Components]
    rows = np.stack(
        [np.concatenate([picked(p, BODY_25), p[23:91], np.zeros((2, 3)), p[91:112], p[112:]]) for p in poses]
    )[:, None]
    return save_pose(folder / "openpose.pose", order, rows[..., :2], rows[..., 2])


def pose_mediapipe(folder: Path, poses: Sequence[Floats]) -> Path:
    """As the library's `pose` command writes MediaPipe: here a part of the points, and none of the world's."""
    fingers = [
        f"{f}_{j}"
        for f in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
        for j in ("MCP", "PIP", "DIP", "TIP")
    ]
    hand = ["WRIST", "THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP", *fingers]
    body = {"NOSE": 0, "LEFT_EYE": 1, "RIGHT_EYE": 2, "LEFT_EAR": 3, "RIGHT_EAR": 4, "LEFT_SHOULDER": 5,
            "RIGHT_SHOULDER": 6, "LEFT_ELBOW": 7, "RIGHT_ELBOW": 8, "LEFT_WRIST": 9, "RIGHT_WRIST": 10, "LEFT_HIP": 11,
            "RIGHT_HIP": 12, "LEFT_KNEE": 13, "RIGHT_KNEE": 14, "LEFT_ANKLE": 15, "RIGHT_ANKLE": 16, "LEFT_HEEL": 19,
            "RIGHT_HEEL": 22, "LEFT_FOOT_INDEX": 17, "RIGHT_FOOT_INDEX": 20}  # fmt: skip
    mesh = {str(vertex): joint for vertex, joint in sorted(MESH.items())}
    names = [
        ("POSE_LANDMARKS", list(body), "XYZC"), ("FACE_LANDMARKS", list(mesh), "XYZC"),
        ("LEFT_HAND_LANDMARKS", hand, "XYZC"), ("RIGHT_HAND_LANDMARKS", hand, "XYZC"),
    ]  # fmt: skip
    order = [*body.values(), *mesh.values(), *LEFT_HAND, *RIGHT_HAND]
    rows = np.stack([p[order] for p in poses])[:, None]
    data = np.concatenate([rows[..., :2], np.zeros((*rows.shape[:-1], 1))], axis=-1)
    return save_pose(folder / "mediapipe.pose", names, data, rows[..., 2])


def npz(order: Sequence[int], name: str) -> Callable[[Path, Sequence[Floats]], Path]:
    def write(folder: Path, poses: Sequence[Floats]) -> Path:
        rows = np.stack([picked(p, order) for p in poses])
        np.savez(folder / "poses.npz", keypoints=rows, format=name, size=SIZE, rate=15)
        return folder / "poses.npz"

    return write


def npy_nan(folder: Path, poses: Sequence[Floats]) -> Path:
    rows = np.stack([np.where(p[:17, 2:] > 0, p[:17, :2], np.nan) for p in poses])
    np.save(folder / "poses.npy", rows)
    return folder / "poses.npy"


BODY, FEET, ALL = tuple(range(17)), tuple(range(23)), tuple(range(133))
LANDMARKS = tuple(sorted(MEDIAPIPE.values()))
HOLISTIC = tuple(sorted({*LANDMARKS, *MESH.values(), *LEFT_HAND, *RIGHT_HAND}))
PARTIAL = tuple(sorted({*BODY, 17, 19, 20, 22, *MESH.values(), *LEFT_HAND, *RIGHT_HAND}))
GIVEN = {"size": SIZE}

KINDS = {
    "COCO annotations, 17": Kind(coco(17), BODY),
    "COCO annotations, 133 in one list": Kind(coco(133), ALL),
    "COCO-WholeBody annotations": Kind(coco_wholebody, ALL),
    "COCO results": Kind(lambda folder, poses: write_json(folder, "results.json", coco_results(poses)), BODY, GIVEN),
    "COCO results, JSON lines": Kind(
        lambda folder, poses: write_lines(folder, "results.jsonl", coco_results(poses)), BODY, GIVEN
    ),
    "OpenPose 18": Kind(openpose(OPENPOSE_18), BODY, GIVEN),
    "OpenPose BODY_25": Kind(openpose(BODY_25), FEET, GIVEN),
    "OpenPose body, face, hands": Kind(openpose(BODY_25, whole=True), ALL, GIVEN),
    "OpenPose, JSON lines": Kind(openpose_lines, FEET, GIVEN),
    "ControlNet": Kind(controlnet, (*BODY, *FACE, *LEFT_HAND, *RIGHT_HAND)),
    "MediaPipe Pose, Tasks in JavaScript": Kind(mediapipe_pose, LANDMARKS, GIVEN),
    "MediaPipe Pose, lists": Kind(mediapipe_lists, LANDMARKS, GIVEN),
    "MediaPipe Holistic, JavaScript": Kind(holistic_js, HOLISTIC),
    "MediaPipe Holistic, Python": Kind(holistic_python, HOLISTIC, GIVEN),
    "DeepFashion CSV": Kind(deepfashion_csv, BODY, off=0.51),
    "DeepFashion CSV, padded": Kind(deepfashion_padded, BODY, {"format": "deepfashion-18-padded"}, off=0.51),
    "DeepFashion pose texts": Kind(deepfashion_txt, BODY, off=0.51),
    "CSV with columns": Kind(columns_csv, BODY, GIVEN),
    ".pose of OpenPose": Kind(pose_openpose, ALL),
    ".pose of MediaPipe": Kind(pose_mediapipe, PARTIAL),
    "NumPy, openpose-18": Kind(npz(OPENPOSE_18, "openpose-18"), BODY),
    "NumPy, body-25": Kind(npz(BODY_25, "body-25"), FEET),
    "NumPy, coco-wholebody-133": Kind(npz(ALL, "coco-wholebody-133"), ALL),
    "NumPy, NaN for missing": Kind(npy_nan, BODY, GIVEN),
}  # fmt: skip
