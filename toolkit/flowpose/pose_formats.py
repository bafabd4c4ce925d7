"""The table of pose formats: names of the joints in their order, limbs to draw, and what a mirror does.

Left and right are the person's own. Joints of the same name are the same joint in every format; `SAME` holds
the few that go by another name. Orders: COCO (coco-17), OpenPose (openpose-18, body-25), COCO-WholeBody,
MediaPipe Pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

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
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    mirror: tuple[int, ...]

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

MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right",
    *(f"{side}_{part}" for part in (
        "shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index",
    ) for side in SIDES),
)  # fmt: skip

SAME = {
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
    if "left" in joint:
        return joint.replace("left", "right")
    return joint.replace("right", "left")


def _format(name: str, joints: tuple[str, ...]) -> PoseFormat:
    number = {joint: i for i, joint in enumerate(joints)}
    pairs = (*_BODY_LIMBS, *_face_limbs(), *_hand_limbs("left"), *_hand_limbs("right"))
    limbs = tuple((number[a], number[b]) for a, b in pairs if a in number and b in number)
    return PoseFormat(name, joints, limbs, tuple(number[_mirrored(joint)] for joint in joints))


FORMATS = {
    "coco-17": _format("coco-17", COCO),
    "openpose-18": _format("openpose-18", OPENPOSE_18),
    "body-25": _format("body-25", BODY_25),
    "coco-wholebody-133": _format("coco-wholebody-133", WHOLEBODY),
    "mediapipe-33": _format("mediapipe-33", MEDIAPIPE),
}

CANONICAL = "coco-wholebody-133"  # the format that models take
