"""Poses and motions of the procedural figures: joint angles, their skeleton, smooth paths between them.

Body axes: x to the person's left, y down, z to where the person faces; lengths are in body heights.
Camera axes: x right, y down, z towards the viewer. At yaw 0 the person faces the viewer; positive yaw shows
more of the person's left side, as in the people set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError

Vectors = NDArray[np.float64]

# Angles in radians, in the order of FigurePose.angles. Left is the person's own.
ANGLES = (
    "yaw",  # of the whole body, see above
    "head_yaw",  # of the head against the body
    "lean_side",  # of the spine, to the person's left
    "lean_front",
    "left_abduction",  # upper arm: 0 hangs, pi/2 points to the side, above pi/2 is raised
    "left_flexion",  # upper arm: 0 in the plane of the body, pi/2 points forward
    "left_elbow",  # 0 is a straight arm
    "left_twist",  # where the forearm goes: 0 forward, pi/2 inward, -pi/2 outward
    "right_abduction",
    "right_flexion",
    "right_elbow",
    "right_twist",
    "left_hip",  # thigh: positive is forward
    "left_spread",
    "left_knee",  # positive is bent
    "right_hip",
    "right_spread",
    "right_knee",
)
INDEX = {name: i for i, name in enumerate(ANGLES)}


@dataclass(frozen=True)
class FigurePose:
    """Joint angles of a figure and its place in the picture.

    Attributes:
        angles: radians, in the order of `ANGLES`.
        scale: one body height as a share of the picture's height.
        x: the hips' horizontal place as a share of the picture's width.
        ground: the floor's vertical place as a share of the picture's height; above 1 cuts the legs.
    """

    angles: tuple[float, ...]
    scale: float = 0.84
    x: float = 0.5
    ground: float = 0.95

    def __getitem__(self, name: str) -> float:
        return self.angles[INDEX[name]]


@dataclass(frozen=True)
class Proportions:
    """Lengths of a figure's parts in body heights: the head's radius, half widths of shoulders and hips."""

    head: float = 0.072
    neck: float = 0.045
    torso: float = 0.285
    shoulders: float = 0.1
    hips: float = 0.05
    upper_arm: float = 0.15
    forearm: float = 0.135
    hand: float = 0.065
    thigh: float = 0.235
    shin: float = 0.225
    foot: float = 0.085
    girth: float = 1.0


def _hanging(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(0.06, 0.35), rng.uniform(-0.3, 0.3), rng.uniform(0.0, 0.7), rng.uniform(-0.3, 0.6))


def _on_hip(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(0.6, 0.95), rng.uniform(-0.35, 0.1), rng.uniform(1.5, 2.0), rng.uniform(1.2, 1.7))


def _sideways(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(0.7, 1.7), rng.uniform(-0.2, 0.4), rng.uniform(0.0, 0.9), rng.uniform(-0.8, 0.5))


def _raised(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(1.7, 2.8), rng.uniform(-0.1, 0.4), rng.uniform(0.0, 1.3), rng.uniform(-0.3, 1.5))


def _waving(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(0.7, 1.4), rng.uniform(-0.2, 0.3), rng.uniform(1.2, 2.0), rng.uniform(-2.6, -1.7))


def _forward(rng: np.random.Generator) -> tuple[float, ...]:
    return (rng.uniform(0.05, 0.35), rng.uniform(0.5, 1.7), rng.uniform(0.1, 1.4), rng.uniform(-0.2, 1.2))


ARMS: tuple[tuple[float, Callable[[np.random.Generator], tuple[float, ...]]], ...] = (
    (0.34, _hanging),
    (0.14, _on_hip),
    (0.16, _sideways),
    (0.12, _raised),
    (0.10, _waving),
    (0.14, _forward),
)


def _arm(rng: np.random.Generator) -> tuple[float, ...]:
    shares = np.array([share for share, _ in ARMS])
    return ARMS[int(rng.choice(len(ARMS), p=shares / shares.sum()))][1](rng)


def _yaw(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.66:
        return float(np.clip(rng.normal(0.0, 0.5), -1.05, 1.05))
    if kind < 0.86:
        return float(rng.choice((-1.0, 1.0)) * rng.uniform(1.05, 2.0))
    return float(math.pi + rng.uniform(-0.9, 0.9))


def _legs(rng: np.random.Generator) -> tuple[float, ...]:
    if rng.random() < 0.55:  # standing
        left, right = rng.uniform(-0.1, 0.15, 2)
        return (
            left,
            rng.uniform(0.02, 0.2),
            rng.uniform(0, 0.15),
            right,
            rng.uniform(0.02, 0.2),
            rng.uniform(0, 0.15),
        )
    return walking(rng.uniform(0.0, 2 * math.pi), rng.uniform(0.3, 0.6))


def walking(phase: float, stride: float) -> tuple[float, ...]:
    """Returns the six leg angles at a phase (radians) of a walk whose thighs swing by +-stride radians."""
    out: list[float] = []
    for own in (phase, phase + math.pi):
        knee = (
            0.12 + 1.6 * stride * max(0.0, math.cos(own)) ** 2
        )  # the knee bends while its leg swings forward
        out += [stride * math.sin(own) + 0.25 * knee, 0.04, knee]
    return tuple(out)


def figure_pose(rng: np.random.Generator) -> FigurePose:
    """Returns a random standing, walking or gesturing pose, framed whole (4 of 5) or cut at knees or hips."""
    head = (float(rng.normal(0.0, 0.25)), float(rng.normal(0.0, 0.05)), float(rng.normal(0.02, 0.05)))
    angles = (_yaw(rng), *head, *_arm(rng), *_arm(rng), *_legs(rng))
    if rng.random() < 0.8:
        frame = (rng.uniform(0.78, 0.9), rng.uniform(0.45, 0.55), rng.uniform(0.92, 0.97))
    else:
        scale = float(rng.uniform(1.15, 1.6))
        frame = (scale, rng.uniform(0.45, 0.55), 0.04 + rng.uniform(0.0, 0.05) + scale * 0.98)
    return FigurePose(tuple(float(a) for a in angles), *(float(f) for f in frame))


def motion(seed: int, frames: int, fps: float) -> tuple[FigurePose, ...]:
    """Returns `frames` poses of one smooth motion: gestures of a second each while turning and stepping.

    Raises:
        DataError: frames or fps is not positive.
    """
    if frames < 1 or fps <= 0:
        raise DataError(
            "motion", "not a motion", got=f"{frames} frames at {fps} fps", expected="both above 0"
        )
    rng = np.random.default_rng((seed, 0x6D6F))
    count = math.ceil(frames / fps) + 2
    keys = np.array([figure_pose(rng).angles for _ in range(count)])
    keys[:, INDEX["yaw"]] = np.cumsum(np.r_[rng.normal(0, 0.4), rng.normal(0.0, 0.5, count - 1)])
    stride, pace, phase = rng.uniform(0.15, 0.45), rng.uniform(0.6, 1.0), rng.uniform(0, 2 * math.pi)
    scale = float(rng.uniform(0.78, 0.88))
    out: list[FigurePose] = []
    for seconds in np.arange(frames) / fps:
        at = int(seconds)
        share = 0.5 - 0.5 * math.cos(math.pi * (seconds - at))  # no speed at the keys, so no jerk there
        angles = keys[at] + (keys[at + 1] - keys[at]) * share
        angles[INDEX["left_hip"] :] = walking(phase + 2 * math.pi * pace * seconds, stride)
        out.append(FigurePose(tuple(angles.tolist()), scale))
    return tuple(out)


def _turned(direction: Vectors, towards: Vectors, angle: float) -> Vectors:
    """Returns `direction` turned by `angle` towards the part of `towards` at right angles to it."""
    side = towards - direction * float(direction @ towards)
    length = float(np.sqrt(side @ side))
    if length < 1e-6:
        return direction
    return direction * math.cos(angle) + side * (math.sin(angle) / length)


def _arm_joints(
    pose: FigurePose, body: Proportions, name: str, side: float, shoulder: Vectors
) -> list[Vectors]:
    lift, flexion = pose[f"{name}_abduction"], pose[f"{name}_flexion"]
    elbow, twist = pose[f"{name}_elbow"], pose[f"{name}_twist"]
    down = math.cos(lift)
    upper = np.array((side * math.sin(lift), down * math.cos(flexion), abs(down) * math.sin(flexion)))
    upper /= np.sqrt(upper @ upper)
    goal = np.array((-side * math.sin(twist), -0.35, max(math.cos(twist), -0.3)))
    fore = _turned(upper, goal, elbow)
    at = shoulder + upper * body.upper_arm
    wrist = at + fore * body.forearm
    return [shoulder, at, wrist, wrist + fore * body.hand, np.cross(fore, upper + goal)]


def _leg_joints(pose: FigurePose, body: Proportions, name: str, side: float, hip: Vectors) -> list[Vectors]:
    swing, spread, knee = pose[f"{name}_hip"], pose[f"{name}_spread"], pose[f"{name}_knee"]
    thigh = np.array(
        (side * math.sin(spread), math.cos(spread) * math.cos(swing), math.cos(spread) * math.sin(swing))
    )
    shin = _turned(thigh, np.array((0.0, -0.2, -1.0)), knee)
    at = hip + thigh * body.thigh
    ankle = at + shin * body.shin
    ahead = _turned(shin, np.array((side * 0.3, 0.0, 1.0)), math.pi / 2 - 0.12)
    heel = ankle + shin * 0.03 - ahead * 0.02
    return [hip, at, ankle, heel, heel + ahead * body.foot]


def skeleton(pose: FigurePose, body: Proportions) -> dict[str, Vectors]:
    """Returns the joints in camera axes and body heights, the middle of the hips at the origin.

    Keys: pelvis, neck, head (centre of the skull); left_ and right_ shoulder, elbow, wrist, fingers, hip,
    knee, ankle, heel, toe, palm (a direction across the fingers); ahead and left (unit vectors of the head).
    """
    spine = np.array((math.sin(pose["lean_side"]), -1.0, math.sin(pose["lean_front"])))
    spine /= np.sqrt(spine @ spine)
    neck = spine * body.torso
    joints = {"pelvis": np.zeros(3), "neck": neck, "head": neck + spine * (body.neck + body.head)}
    for name, side in (("left", 1.0), ("right", -1.0)):
        shoulder = neck + np.array((side * body.shoulders, 0.025 - side * spine[0] * body.shoulders, 0.0))
        arm = _arm_joints(pose, body, name, side, shoulder)
        joints.update(
            {
                f"{name}_{p}": v
                for p, v in zip(("shoulder", "elbow", "wrist", "fingers", "palm"), arm, strict=True)
            }
        )
        leg = _leg_joints(pose, body, name, side, np.array((side * body.hips, 0.0, 0.0)))
        joints.update(
            {f"{name}_{p}": v for p, v in zip(("hip", "knee", "ankle", "heel", "toe"), leg, strict=True)}
        )
    turn = pose["head_yaw"]
    joints["ahead"] = np.array((-math.sin(turn), 0.0, math.cos(turn)))
    joints["left"] = np.array((math.cos(turn), 0.0, math.sin(turn)))
    cos, sin = math.cos(pose["yaw"]), math.sin(pose["yaw"])
    camera = np.array(((cos, 0.0, -sin), (0.0, 1.0, 0.0), (sin, 0.0, cos)))
    turned = np.stack(list(joints.values())) @ camera.T
    return dict(zip(joints, turned, strict=True))
