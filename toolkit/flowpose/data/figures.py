"""Procedural figures: articulated dressed people drawn with OpenCV, at any size, with exact keypoints.

They need no data set: tests, CI and the tiny recipe train on them. Same seed, same picture.
Keypoints are those of coco-wholebody-133; the ones given are listed in `_keypoints`, all others have score 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.data.figure_identity import Colour, Identity, figure_identity
from flowpose.data.figure_motion import FigurePose, figure_pose, motion, skeleton
from flowpose.errors import DataError

__all__ = ["FigurePose", "Identity", "draw", "figure_identity", "figure_pose", "motion"]

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Point = tuple[float, float]
Vector = NDArray[np.float64]
SHIFT = 4  # OpenCV takes sub-pixel coordinates as integers with this many fraction bits

BODY = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
# Number, joint, and its offset towards the person's left: big toes lie inside, little toes outside.
FEET = (
    *((17, "left_toe", -1.0), (18, "left_toe", 1.0), (19, "left_heel", 0.0)),
    *((20, "right_toe", 1.0), (21, "right_toe", -1.0), (22, "right_heel", 0.0)),
)
HANDS = ("left", 91), ("right", 112)
# Points of the face in head radii: to the person's left, down, ahead; the key is the keypoint's number.
FACE: Mapping[int, tuple[float, float, float]] = {
    0: (0.0, 0.18, 1.08),
    1: (0.36, -0.08, 0.88),
    2: (-0.36, -0.08, 0.88),
    31: (0.0, 1.08, 0.72),
    50: (0.0, -0.08, 0.98),
    53: (0.0, 0.18, 1.08),
    59: (-0.5, -0.06, 0.8),
    62: (-0.22, -0.06, 0.92),
    65: (0.22, -0.06, 0.92),
    68: (0.5, -0.06, 0.8),
    71: (-0.28, 0.58, 0.86),
    74: (0.0, 0.52, 0.98),
    77: (0.28, 0.58, 0.86),
    80: (0.0, 0.68, 0.96),
}
EARS: Mapping[int, tuple[float, float, float]] = {3: (0.94, 0.05, 0.0), 4: (-0.94, 0.05, 0.0)}
# Half widths and half depths of the torso from the shoulders (0) to the hem (1), in body heights.
TORSO = (
    (0.0, 0.062, 0.045),
    (0.1, 0.104, 0.058),
    (0.35, 0.094, 0.068),
    (0.68, 0.078, 0.056),
    (1.0, 0.092, 0.066),
    (1.12, 0.094, 0.066),
)


@dataclass(frozen=True)
class _Scene:
    """A picture being drawn: `unit` is canvas pixels a body height, `joints` are in body heights."""

    canvas: Picture
    unit: float
    origin: Point
    joints: Mapping[str, Vector]
    who: Identity

    def at(self, place: Vector) -> Point:
        """Returns a place's canvas coordinates (corner origin)."""
        return self.origin[0] + self.unit * float(place[0]), self.origin[1] + self.unit * float(place[1])


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(c * factor)) for c in colour)
    return red, green, blue


def _polygon(canvas: Picture, points: list[Point], colour: Colour) -> None:
    fixed = np.round((np.array(points) - 0.5) * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], colour, cv2.LINE_8, SHIFT)


def _disc(canvas: Picture, centre: Point, radius: float, colour: Colour) -> None:
    fixed = (round((centre[0] - 0.5) * (1 << SHIFT)), round((centre[1] - 0.5) * (1 << SHIFT)))
    cv2.circle(canvas, fixed, max(1, round(radius * (1 << SHIFT))), colour, -1, cv2.LINE_8, SHIFT)


def _ellipse(canvas: Picture, centre: Point, axes: Point, colour: Colour) -> None:
    fixed = (round((centre[0] - 0.5) * (1 << SHIFT)), round((centre[1] - 0.5) * (1 << SHIFT)))
    size = (max(1, round(axes[0] * (1 << SHIFT))), max(1, round(axes[1] * (1 << SHIFT))))
    cv2.ellipse(canvas, fixed, size, 0.0, 0.0, 360.0, colour, -1, cv2.LINE_8, SHIFT)


def _capsule(canvas: Picture, a: Point, b: Point, radii: Point, colour: Colour) -> None:
    """Draws a tapered limb: a darker body and, towards the light (upper left), a lighter core."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    across = (-dy / length, dx / length) if length > 1e-6 else (1.0, 0.0)
    for share, tone in ((1.0, 0.8), (0.72, 1.0)):
        ra, rb = radii[0] * share, radii[1] * share
        offset = (share - 1.0) * 0.6
        p = (a[0] + offset * radii[0], a[1] + offset * radii[0] * 0.4)
        q = (b[0] + offset * radii[1], b[1] + offset * radii[1] * 0.4)
        paint = _shade(colour, tone)
        corners = [
            (p[0] + across[0] * ra, p[1] + across[1] * ra),
            (q[0] + across[0] * rb, q[1] + across[1] * rb),
            (q[0] - across[0] * rb, q[1] - across[1] * rb),
            (p[0] - across[0] * ra, p[1] - across[1] * ra),
        ]
        _polygon(canvas, corners, paint)
        _disc(canvas, p, ra, paint)
        _disc(canvas, q, rb, paint)


def _limb(
    scene: _Scene, a: Vector, b: Vector, radii: Point, colours: tuple[Colour, Colour], covered: float
) -> None:
    """Draws a limb in the second colour, and its first `covered` share, a little thicker, in the first."""
    unit = scene.unit
    if covered < 1.0:
        _capsule(scene.canvas, scene.at(a), scene.at(b), (radii[0] * unit, radii[1] * unit), colours[1])
    if covered > 0.0:
        share = min(covered, 1.0)
        end = a + (b - a) * share
        low = radii[0] + (radii[1] - radii[0]) * share
        _capsule(
            scene.canvas, scene.at(a), scene.at(end), (radii[0] * 1.14 * unit, low * 1.16 * unit), colours[0]
        )


def _arm_part(scene: _Scene, name: str, lower: bool) -> None:
    who, girth = scene.who, scene.who.body.girth
    shoulder, elbow, wrist, fingers = (
        scene.joints[f"{name}_{p}"] for p in ("shoulder", "elbow", "wrist", "fingers")
    )
    sleeve = who.accent if who.pattern == "two-tone" else who.top
    if lower:
        _limb(scene, wrist, fingers, (0.017, 0.012), (who.skin, who.skin), 0.0)
        _limb(scene, elbow, wrist, (0.024 * girth, 0.017 * girth), (sleeve, who.skin), who.sleeves - 1.0)
    else:
        _limb(scene, shoulder, elbow, (0.031 * girth, 0.024 * girth), (sleeve, who.skin), who.sleeves)


def _leg_part(scene: _Scene, name: str, lower: bool) -> None:
    who, girth = scene.who, scene.who.body.girth
    hip, knee, ankle, heel, toe = (
        scene.joints[f"{name}_{p}"] for p in ("hip", "knee", "ankle", "heel", "toe")
    )
    covered = who.legs if who.bottom in ("trousers", "shorts") else 0.0
    colours = (who.bottom_colour, who.skin)
    if lower:
        _limb(scene, heel, toe, (0.02, 0.015), (who.shoes, who.shoes), 0.0)
        _limb(scene, knee, ankle, (0.035 * girth, 0.021 * girth), colours, covered - 1.0)
        _limb(scene, ankle, heel, (0.021, 0.02), (who.shoes, who.shoes), 0.0)
    else:
        _limb(scene, hip, knee, (0.052 * girth, 0.036 * girth), colours, covered)


def _widths(scene: _Scene, half_width: float, half_depth: float) -> float:
    """Returns the half width on the canvas of an upright ellipse that turns with the shoulders."""
    left = scene.joints["left_shoulder"] - scene.joints["right_shoulder"]
    length = math.hypot(float(left[0]), float(left[2]))
    cos, sin = float(left[0]) / length, float(left[2]) / length
    return math.hypot(half_width * cos, half_depth * sin) * scene.unit


def _slabs(scene: _Scene, rows: list[tuple[Vector, float]], colours: list[Colour]) -> None:
    """Draws stacked slabs; `rows` are middles and half widths (canvas pixels), one more than `colours`."""
    for share, tone in ((1.0, 0.82), (0.74, 1.0)):
        for (top, wide), (low, wide_low), colour in zip(rows, rows[1:], colours, strict=False):
            a, b = scene.at(top), scene.at(low)
            shift, shift_low = (share - 1.0) * 0.45 * wide, (share - 1.0) * 0.45 * wide_low
            corners = [
                (a[0] + shift - wide * share, a[1]),
                (a[0] + shift + wide * share, a[1]),
                (b[0] + shift_low + wide_low * share, b[1] + 1.0),
                (b[0] + shift_low - wide_low * share, b[1] + 1.0),
            ]
            _polygon(scene.canvas, corners, _shade(colour, tone))


def _torso(scene: _Scene) -> None:
    who, joints = scene.who, scene.joints
    broad, girth = who.body.shoulders / 0.1, who.body.girth
    stations = np.array(TORSO)
    count = 2 * who.bands if who.pattern == "stripes" else 10
    rows: list[tuple[Vector, float]] = []
    for share in np.linspace(0.0, TORSO[-1][0], count + 1):
        wide, deep = (float(np.interp(share, stations[:, 0], stations[:, column])) for column in (1, 2))
        wide *= broad if share < 0.3 else girth
        rows.append(
            (joints["neck"] * (1.0 - share) + joints["pelvis"] * share, _widths(scene, wide, deep * girth))
        )
    colours = [who.accent if who.pattern == "stripes" and band % 2 else who.top for band in range(count)]
    if who.pattern == "two-tone":
        colours[:3] = [who.accent] * 3
    _slabs(scene, rows, colours)
    if who.pattern in ("emblem", "open"):
        _front_mark(scene)


def _front_mark(scene: _Scene) -> None:
    """Draws what only the chest shows, so that front and back differ: an emblem, or an open jacket."""
    who, joints = scene.who, scene.joints
    left = joints["left_shoulder"] - joints["right_shoulder"]
    left = left / np.sqrt(left @ left)
    ahead = np.array((-left[2], 0.0, left[0]))
    if ahead[2] < 0.15:
        return
    rows = (0.22, 0.5) if who.pattern == "emblem" else (0.0, 1.05)
    half = left * (0.042 if who.pattern == "emblem" else 0.024)
    corners: list[Point] = []
    for share, sides in ((rows[0], (-1, 1)), (rows[1], (1, -1))):
        middle = joints["neck"] * (1.0 - share) + joints["pelvis"] * share + ahead * 0.06
        corners += [scene.at(middle + half * side) for side in sides]
    _polygon(scene.canvas, corners, who.accent)


def _skirt(scene: _Scene) -> None:
    who, joints = scene.who, scene.joints
    knees = [joints["left_knee"], joints["right_knee"]]
    middle = (knees[0] + knees[1]) / 2
    spread = abs(float(knees[0][0] - knees[1][0])) / 2 * scene.unit
    rows: list[tuple[Vector, float]] = []
    for share in np.linspace(-0.25, 1.0, 6):
        along = share * who.legs
        flare = max(0.0, float(along))
        wide = _widths(scene, 0.088 + 0.03 * flare, 0.066 + 0.035 * flare) * who.body.girth
        rows.append((middle * along, max(wide, spread * flare + 0.05 * scene.unit)))
    _slabs(scene, rows, [who.bottom_colour] * 5)


def _place(scene: _Scene, spot: tuple[float, float, float]) -> Vector:
    """Returns a point of the head in body heights; `spot` is in head radii: to its left, down, ahead."""
    turned = scene.joints["left"] * spot[0] + scene.joints["ahead"] * spot[2] + np.array((0.0, spot[1], 0.0))
    return np.asarray(scene.joints["head"] + scene.who.body.head * turned, np.float64)


def _back_hair(scene: _Scene) -> None:
    who, radius = scene.who, scene.who.body.head
    shade = _shade(who.hair, 0.9)
    if who.hair_style == "long":
        top, low = scene.at(_place(scene, (0.0, 0.0, -0.35))), scene.at(_place(scene, (0.0, 1.75, -0.55)))
        _capsule(scene.canvas, top, low, (1.0 * radius * scene.unit, 0.8 * radius * scene.unit), shade)
    if who.hair_style == "bun":
        _disc(scene.canvas, scene.at(_place(scene, (0.0, -0.75, -0.85))), 0.45 * radius * scene.unit, shade)


def _neck(scene: _Scene) -> None:
    width = 0.03 * scene.unit
    _capsule(
        scene.canvas,
        scene.at(scene.joints["neck"]),
        scene.at(scene.joints["head"]),
        (width, width),
        scene.who.skin,
    )


def _head(scene: _Scene) -> None:
    who, size = scene.who, scene.who.body.head * scene.unit
    facing = float(scene.joints["ahead"][2])
    x, y = scene.at(scene.joints["head"])
    crown = who.accent if who.hair_style == "cap" else who.hair
    for ear in EARS.values():
        if who.hair_style != "long" and _faces(scene, ear):
            _disc(scene.canvas, scene.at(_place(scene, ear)), 0.2 * size, _shade(who.skin, 0.85))
    _ellipse(scene.canvas, (x, y - 0.06 * size), (0.95 * size, 1.06 * size), _shade(crown, 0.85))
    _ellipse(scene.canvas, (x - 0.12 * size, y - 0.16 * size), (0.74 * size, 0.86 * size), crown)
    if facing > -0.55:
        _face(scene, x, y, size, facing)


def _face(scene: _Scene, x: float, y: float, size: float, facing: float) -> None:
    who, side = scene.who, float(scene.joints["ahead"][0])
    width = 0.62 + 0.18 * facing
    centre = (x + side * (0.9 - width) * size, y + 0.24 * size)
    _ellipse(scene.canvas, centre, (width * size, 0.84 * size), _shade(who.skin, 0.9))
    _ellipse(
        scene.canvas, (centre[0] - 0.06 * size, centre[1]), ((width - 0.12) * size, 0.76 * size), who.skin
    )
    dark = (40, 30, 30)
    for number in (1, 2):
        spot = _place(scene, FACE[number])
        if _faces(scene, FACE[number]):
            ex, ey = scene.at(spot)
            _ellipse(scene.canvas, (ex, ey), (0.14 * size, 0.12 * size), dark)
            _ellipse(scene.canvas, (ex, ey - 0.26 * size), (0.22 * size, 0.06 * size), _shade(who.hair, 0.8))
    if _faces(scene, FACE[0]):
        nose = scene.at(_place(scene, FACE[0]))
        _ellipse(scene.canvas, nose, (0.12 * size, 0.16 * size), _shade(who.skin, 0.8))
        mouth = scene.at(_place(scene, (0.0, 0.6, 0.92)))
        _ellipse(scene.canvas, mouth, ((0.1 + 0.2 * max(facing, 0.0)) * size, 0.09 * size), (176, 70, 70))


def _faces(scene: _Scene, spot: tuple[float, float, float]) -> bool:
    """Tells whether a point of the head lies on the side that the viewer sees."""
    return float((_place(scene, spot) - scene.joints["head"])[2]) > -0.12 * scene.who.body.head


def _parts(scene: _Scene) -> list[tuple[float, Callable[[], None]]]:
    """Returns the depth and the drawing of every part; nearer ones have greater depth."""
    joints = scene.joints
    body = float(joints["neck"][2] + joints["pelvis"][2]) / 2
    head, ahead = float(joints["head"][2]), float(joints["ahead"][2])
    parts: list[tuple[float, Callable[[], None]]] = [
        (body, partial(_torso, scene)),
        (body - 0.005, partial(_neck, scene)),
        (head + 0.02, partial(_head, scene)),
        (head - 0.09 * ahead + 0.01, partial(_back_hair, scene)),
    ]
    for name in ("left", "right"):
        z = {
            p: float(joints[f"{name}_{p}"][2])
            for p in ("shoulder", "elbow", "fingers", "hip", "knee", "ankle")
        }
        behind = 0.1 if z["ankle"] < z["knee"] - 0.1 else -1e-3
        parts += [
            ((z["shoulder"] + z["elbow"]) / 2 + 0.012, partial(_arm_part, scene, name, False)),
            ((z["elbow"] + z["fingers"]) / 2 + 0.016, partial(_arm_part, scene, name, True)),
            (body - 0.2 + z["hip"] / 2, partial(_leg_part, scene, name, False)),
            (body - 0.2 + z["hip"] / 2 - behind, partial(_leg_part, scene, name, True)),
        ]
    if scene.who.bottom in ("skirt", "dress"):
        parts.append((body - 0.05, partial(_skirt, scene)))
    return sorted(parts, key=lambda part: part[0])


def _backdrop(who: Identity, height: int, width: int, feet: Point, unit: float) -> Picture:
    share = np.linspace(0.0, 1.0, height)[:, None, None]
    rows = np.array(who.sky) * (1.0 - share) + np.array(who.floor) * share
    canvas = np.repeat(np.round(rows).astype(np.uint8), width, axis=1)
    _ellipse(canvas, feet, (0.17 * unit, 0.025 * unit), _shade(who.floor, 0.86))
    return canvas


def _keypoints(scene: _Scene, supersampling: int, height: int, width: int) -> Floats:
    """Returns f32[133,3] in pixels of the final picture; those outside it and of covered faces score 0."""
    joints = scene.joints
    sides = ("left", "right")
    spots = {
        5 + 2 * i + j: joints[f"{side}_{part}"] for i, part in enumerate(BODY) for j, side in enumerate(sides)
    }
    left = joints["left_hip"] - joints["right_hip"]
    left = left / np.sqrt(left @ left)
    for number, key, towards in FEET:
        spots[number] = joints[key] + left * (0.012 * towards)
    for name, first in HANDS:
        wrist, tip, palm = (joints[f"{name}_{p}"] for p in ("wrist", "fingers", "palm"))
        across = palm / max(1e-6, float(np.sqrt(palm @ palm)))
        spots[first] = wrist
        for finger in range(5):
            reach = 0.7 if finger == 0 else 1.0
            spots[first + 4 + 4 * finger] = wrist + (tip - wrist) * reach + across * (0.007 * (finger - 2))
    spots.update({number: _place(scene, spot) for number, spot in FACE.items() if _faces(scene, spot)})
    spots.update({number: _place(scene, spot) for number, spot in EARS.items() if _faces(scene, spot)})
    out = np.zeros((133, 3), np.float32)
    for number, spot in spots.items():
        x, y = (value / supersampling for value in scene.at(spot))
        if 0.0 <= x < width and 0.0 <= y < height:
            out[number] = (x, y, 1.0)
    return out


def draw(identity: Identity, pose: FigurePose, height: int, width: int) -> tuple[Picture, Floats]:
    """Returns the picture u8[height,width,3] and its keypoints f32[133,3] (x, y in pixels, score 0 or 1).

    The centre of the first pixel is (0.5, 0.5). Body joints inside the picture score 1, covered or not.

    Raises:
        DataError: a side is under 16 pixels.
    """
    if height < 16 or width < 16:
        raise DataError("figures", "picture too small", got=f"{height}x{width}", expected="16 a side or more")
    supersampling = 3 if height <= 160 else 2
    joints = skeleton(pose, identity.body)
    unit = pose.scale * height * supersampling
    soles = (joints[f"{side}_{part}"] for side in ("left", "right") for part in ("heel", "toe"))
    lowest = max(float(sole[1]) for sole in soles) + 0.018
    origin = (pose.x * width * supersampling, pose.ground * height * supersampling - lowest * unit)
    feet = (origin[0], origin[1] + lowest * unit - 0.01 * unit)
    canvas = _backdrop(identity, height * supersampling, width * supersampling, feet, unit)
    scene = _Scene(canvas, unit, origin, joints, identity)
    for _, paint in _parts(scene):
        paint()
    picture = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(picture, np.uint8), _keypoints(scene, supersampling, height, width)
