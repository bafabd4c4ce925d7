"""The table of pose formats: names of the joints in their order, limbs to draw, and what a mirror does.

Left and right are the person's own. Joints of the same name are the same joint in every format; `SAME` holds
those that go by another name. Orders: COCO (coco-17), OpenPose (openpose-18, body-25, and its 25 + 70 + 2 x 21 of
body, face, left and right hand), COCO-WholeBody, MediaPipe Pose, MediaPipe Holistic as the pose-format library
writes it (pose, face mesh without or with irises, left hand, right hand).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SIDES = ("left", "right")
SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


@dataclass(frozen=True)
class PoseFormat:
    """One order of joints.

    Attributes:
        name: what users write.
        joints: names in order.
        limbs: pairs of joint numbers that a drawing joins.
        mirror: joint i of a mirrored person is joint mirror[i] of the person.
        guesses: its estimator also places joints that the picture does not show, however far outside.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    mirror: tuple[int, ...]
    guesses: bool = False

    def index(self, joint: str) -> int:
        """Returns the number of a joint, by its own name; ValueError if the format has none of that name."""
        return self.joints.index(joint)


COCO = ("nose", *(f"{side}_{part}" for part in SIDED for side in SIDES))

_RIGHT_ARM = ("right_shoulder", "right_elbow", "right_wrist")
_LEFT_ARM = ("left_shoulder", "left_elbow", "left_wrist")
_RIGHT_LEG = ("right_hip", "right_knee", "right_ankle")
_LEFT_LEG = ("left_hip", "left_knee", "left_ankle")
_HEAD = ("right_eye", "left_eye", "right_ear", "left_ear")
_FEET = tuple(f"{side}_{part}" for side in SIDES for part in ("big_toe", "small_toe", "heel"))

OPENPOSE_18 = ("nose", "neck", *_RIGHT_ARM, *_LEFT_ARM, *_RIGHT_LEG, *_LEFT_LEG, *_HEAD)
BODY_25 = ("nose", "neck", *_RIGHT_ARM, *_LEFT_ARM, "mid_hip", *_RIGHT_LEG, *_LEFT_LEG, *_HEAD, *_FEET)

FACE = tuple(f"face_{i}" for i in range(68))
LEFT_HAND = tuple(f"left_hand_{i}" for i in range(21))
RIGHT_HAND = tuple(f"right_hand_{i}" for i in range(21))
WHOLEBODY = (*COCO, *_FEET, *FACE, *LEFT_HAND, *RIGHT_HAND)
OPENPOSE_137 = (*BODY_25, *FACE, "right_pupil", "left_pupil", *LEFT_HAND, *RIGHT_HAND)

MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right",
    *(f"{side}_{part}" for part in (
        "shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index",
    ) for side in SIDES),
)  # fmt: skip

MESH = tuple(f"mesh_{i}" for i in range(468))
_IRISES = (
    "right_pupil", "mesh_469", "mesh_470", "mesh_471", "mesh_472",
    "left_pupil", "mesh_474", "mesh_475", "mesh_476", "mesh_477",
)  # fmt: skip
HOLISTIC_543 = (*MEDIAPIPE, *MESH, *LEFT_HAND, *RIGHT_HAND)
HOLISTIC_553 = (*MEDIAPIPE, *MESH, *_IRISES, *LEFT_HAND, *RIGHT_HAND)

FACE_IN_MESH = (
    127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356,  # outline, right ear to left
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91,  # outer lips
    78, 81, 13, 311, 308, 402, 14, 178,  # inner lips
)  # fmt: skip
"""Vertex of MediaPipe's face mesh at each of the 68 face points; all of them are on the lines that MediaPipe publishes
(face_mesh_connections.py: face oval, brows, nose, eyes, lips). Eye and mouth corners, nose and chin are the same spot;
outline and lips are the nearest vertex, since the mesh has other spacing there."""

SAME = {
    **{f"mesh_{vertex}": f"face_{i}" for i, vertex in enumerate(FACE_IN_MESH)},
    "left_eye_inner": "face_42", "left_eye_outer": "face_45",
    "right_eye_inner": "face_39", "right_eye_outer": "face_36",
    "mouth_left": "face_54", "mouth_right": "face_48",
    "left_pinky": "left_hand_17", "left_index": "left_hand_5", "left_thumb": "left_hand_2",
    "right_pinky": "right_hand_17", "right_index": "right_hand_5", "right_thumb": "right_hand_2",
    "left_foot_index": "left_big_toe", "right_foot_index": "right_big_toe",
}  # fmt: skip

BETWEEN = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}

HEAD = frozenset((*COCO[:5], *FACE))
BODY = frozenset((*COCO, *BETWEEN))

# A mirror turns the outline of the face round and swaps brows, eyes and the sides of nose and mouth (68-point
# numbering).
_FACE_MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip

# The vertices of the mesh on the middle line. Of the others the right half comes first, and the left half follows in
# the same order from 248 on: read off the canonical face model (canonical_face_model.obj), whose halves are equal.
_MESH_MIDDLE = (
    0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197, 199, 200,
)  # fmt: skip
_MESH_RIGHT = tuple(i for i in range(248) if i not in _MESH_MIDDLE)
_MESH_MIRROR = {
    **{i: i for i in _MESH_MIDDLE},
    **dict(zip(_MESH_RIGHT, range(248, 468), strict=True)), **dict(zip(range(248, 468), _MESH_RIGHT, strict=True)),
    469: 476, 470: 475, 471: 474, 472: 477, 474: 471, 475: 470, 476: 469, 477: 472,
}  # fmt: skip

_BODY_LIMBS = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    *((f"{s}_{a}", f"{s}_{b}") for s in SIDES for a, b in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"),
        ("eye", "ear"),
        ("ankle", "heel"), ("ankle", "big_toe"), ("ankle", "foot_index"), ("big_toe", "small_toe"))),
    ("nose", "left_eye"), ("nose", "right_eye"), ("nose", "neck"), ("neck", "mid_hip"),
)  # fmt: skip

_FACE_LINES = (range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36))
_FACE_LOOPS = (range(36, 42), range(42, 48), range(48, 60), range(60, 68))


def _hand_limbs(side: str) -> list[tuple[str, str]]:
    chains = [(0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17)]
    return [(f"{side}_hand_{a}", f"{side}_hand_{b}") for chain in chains for a, b in pairwise(chain)]


def _face_limbs() -> list[tuple[str, str]]:
    lines = [tuple(line) for line in _FACE_LINES] + [(*loop, loop[0]) for loop in _FACE_LOOPS]
    return [(f"face_{a}", f"face_{b}") for line in lines for a, b in pairwise(line)]


def _mirrored(joint: str) -> str:
    if joint.startswith("face_"):
        return f"face_{_FACE_MIRROR[int(joint[5:])]}"
    if joint.startswith("mesh_"):
        return f"mesh_{_MESH_MIRROR[int(joint[5:])]}"
    if "left" in joint:
        return joint.replace("left", "right")
    return joint.replace("right", "left")


def _format(name: str, joints: tuple[str, ...], *, guesses: bool = False) -> PoseFormat:
    number = {joint: i for i, joint in enumerate(joints)}
    drawn = {
        SAME[joint]: i for joint, i in number.items() if joint.startswith("mesh_") and joint in SAME
    } | number
    pairs = (*_BODY_LIMBS, *_face_limbs(), *_hand_limbs("left"), *_hand_limbs("right"))
    limbs = tuple((drawn[a], drawn[b]) for a, b in pairs if a in drawn and b in drawn)
    return PoseFormat(name, joints, limbs, tuple(number[_mirrored(joint)] for joint in joints), guesses)


FORMATS = {
    "coco-17": _format("coco-17", COCO),
    "openpose-18": _format("openpose-18", OPENPOSE_18),
    "body-25": _format("body-25", BODY_25),
    "openpose-137": _format("openpose-137", OPENPOSE_137),
    "coco-wholebody-133": _format("coco-wholebody-133", WHOLEBODY),
    "mediapipe-33": _format("mediapipe-33", MEDIAPIPE, guesses=True),
    "mediapipe-holistic-543": _format("mediapipe-holistic-543", HOLISTIC_543, guesses=True),
    "mediapipe-holistic-553": _format("mediapipe-holistic-553", HOLISTIC_553, guesses=True),
}

CANONICAL = "coco-wholebody-133"  # the format that models take


@dataclass(frozen=True, eq=False)
class Conversion:
    """How one format's joints become another's.

    Attributes:
        rows: joint of the source for each of the target; 0 where it has none.
        have: f32, 1 where the source has the joint.
        others: further joints of the source for each of the target, for where the ones before are missing.
        between: joints of the target that lie between two of the source.
        trims: the source guesses joints that lie far outside, the target does not.
    """

    rows: NDArray[np.intp]
    have: NDArray[np.float32]
    others: tuple[NDArray[np.intp], ...]
    between: tuple[tuple[int, int, int], ...]
    trims: bool


@lru_cache
def conversion(source: str, target: str) -> Conversion:
    """Returns how joints of one format of FORMATS become another's; worked out once for each pair."""
    joints, wanted = FORMATS[source].joints, FORMATS[target].joints
    found = [_candidates(joint, joints) for joint in wanted]
    filled = [rows or [0] for rows in found]
    table = [np.array([rows[min(k, len(rows) - 1)] for rows in filled]) for k in range(max(map(len, filled)))]
    between = [
        (row, *(joints.index(end) for end in BETWEEN[joint]))
        for row, joint in enumerate(wanted)
        if joint in BETWEEN and not found[row]
    ]
    have = np.array([bool(rows) for rows in found], np.float32)
    trims = FORMATS[source].guesses and not FORMATS[target].guesses
    return Conversion(table[0], have, tuple(table[1:]), tuple((row, a, b) for row, a, b in between), trims)


def _candidates(joint: str, joints: tuple[str, ...]) -> list[int]:
    """Which of the joints are this one, best first: by its name, by its name in coco-wholebody-133, by another.

    Of those by another name the finer part's is first: it comes later in every format.
    """
    meant = SAME.get(joint, joint)
    same = [i for i, other in enumerate(joints) if SAME.get(other, other) == meant]
    return sorted(same, key=lambda i: (joints[i] != joint, joints[i] != meant, -i))
