"""Where the person is in a made frame: a soft mask from the frame and its pose alone; no network.

Two things tell a pixel's side. How far it is from a body drawn round the joints, in body heights, and how much its
colour differs from the backdrop's. The backdrop is what the frame shows far from the body, spread over the whole
frame: given the true backdrop instead, the mask gets no better (benchmarks/matte.py). A difference counts in units of
how noisy the frame is there, so before a busy backdrop the drawn body decides. A guided filter (He, Sun, Tang, ECCV
2010) then lays the mask's edge on the frame's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, SEEN, Pose
from flowpose.pose_formats import FORMATS

__all__ = ["Matte", "body_distance", "matte"]

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

_LIMBS = (
    # joints, their usual distance and the limb's radius over the body's height. Thicker than bare limbs: clothes
    ("shoulder", "elbow", 0.17, 0.032), ("elbow", "wrist", 0.15, 0.026), ("shoulder", "hip", 0.29, 0.05),
    ("hip", "knee", 0.245, 0.05), ("knee", "ankle", 0.24, 0.034),
    ("ankle", "big_toe", 0.0, 0.02), ("ankle", "heel", 0.0, 0.018), ("wrist", "hand_9", 0.0, 0.018),
)  # fmt: skip
_ACROSS = (("shoulder", 0.19, 0.035), ("hip", 0.1, 0.06))  # left to right
_ENDS = (("elbow", "wrist", "hand_9", 0.09, 0.026), ("knee", "ankle", "big_toe", 0.05, 0.035))
"""Hands and feet of poses that do not give them: the limb goes on beyond its end by that much."""

_NUMBER = {joint: i for i, joint in enumerate(FORMATS[CANONICAL].joints)}
_SIDES = ("left", "right")
_BONES = (
    *((_NUMBER[f"{s}_{a}"], _NUMBER[f"{s}_{b}"], long, radius) for a, b, long, radius in _LIMBS for s in _SIDES),
    *((_NUMBER[f"left_{a}"], _NUMBER[f"right_{a}"], long, radius) for a, long, radius in _ACROSS),
)  # fmt: skip
_BEYOND = tuple(
    (_NUMBER[f"{s}_{a}"], _NUMBER[f"{s}_{b}"], _NUMBER[f"{s}_{c}"], reach, radius)
    for a, b, c, reach, radius in _ENDS
    for s in _SIDES
)
_MEASURED = np.array([(a, b) for a, b, long, _ in _BONES if long])
_LENGTHS = np.array([long for _, _, long, _ in _BONES if long], np.float32)
_SHOULDERS, _HIPS, _FACE = [5, 6], [11, 12], [0, 1, 2, 3, 4]
_HEAD, _NECK, _ABOVE = (
    0.062,
    0.03,
    0.11,
)  # radii of head and neck; from the shoulders up to a head seen from behind

FAR = 0.12  # body heights; what is further from the drawn body is taken for backdrop
FEWEST = 50  # pixels from which a backdrop and its noise can be told
SHARED = 4  # bits of a pixel's fraction in OpenCV's drawing
_OPPONENT = np.array([[0.299, 0.587, 0.114], [1, -1, 0], [0, -1, 1]], np.float32)  # brightness, red, blue
_QUIET = np.array([9.0, 6.0, 6.0])  # levels^2 of each that are noise in any frame


@dataclass(frozen=True, eq=False)
class Matte:
    """The person of one frame.

    Attributes:
        alpha: f32[H,W], 0 (backdrop) to 1 (person).
        backdrop: f32[H,W,3], what the frame would show without the person, levels 0..255.
    """

    alpha: Floats
    backdrop: Floats


def matte(frame: Picture, keypoints: Floats) -> Matte:
    """Returns the person of a frame.

    Args:
        frame: u8[H,W,3].
        keypoints: f32[133,3] of coco-wholebody-133, the pose that the frame was made from, in its pixels.

    Raises:
        PoseError: no joint of the body is there.
    """
    distance = body_distance(keypoints, *frame.shape[:2])
    far = np.asarray(distance > FAR, np.float32)
    if float(far.sum()) < FEWEST:  # a person who fills the frame
        far = np.asarray(distance >= np.quantile(distance, 1 - FEWEST / distance.size), np.float32)
    backdrop = _backdrop(frame, far)
    difference = np.asarray(cv2.subtract(frame, backdrop, dtype=cv2.CV_32F), np.float32)
    logit = _logit(distance, *_colour(difference, far), backdrop)
    return Matte(_along_edges(np.asarray(1 / (1 + cv2.exp(-logit)), np.float32), frame), backdrop)


def body_distance(keypoints: Floats, height: int, width: int) -> Floats:
    """Returns f32[height,width]: how far each pixel is from a body drawn round the joints, in body heights.

    Inside the body it is below 0. `keypoints` f32[133,3] of coco-wholebody-133, x, y in pixels and a score (up to
    SEEN: missing); hands and feet that are missing are drawn beyond wrists and ankles, a head seen from behind above
    the shoulders.

    Raises:
        PoseError: wrong shape, or no joint of the body is there.
    """
    joints = len(FORMATS[CANONICAL].joints)
    if keypoints.shape != (joints, 3):
        raise PoseError("keypoints", "wrong shape", got=list(keypoints.shape), expected=f"[{joints}, 3]")
    here = keypoints[:, 2] > SEEN
    if not here[:17].any():
        raise PoseError("keypoints", "no joint of the body", expected=f"one with a score above {SEEN}")
    tall = _body_height(keypoints, here)
    body = np.zeros((height, width), np.uint8)
    _draw_limbs(body, keypoints, here, tall)
    _draw_head(body, keypoints, here, tall)
    if not body.any():  # all of it lies outside the frame
        return np.full((height, width), 1.0, np.float32)
    outside = cv2.distanceTransform(255 - body, cv2.DIST_L2, 3)
    inside = cv2.distanceTransform(body, cv2.DIST_L2, 3)
    return np.asarray((outside - inside) / np.float32(tall), np.float32)


def _body_height(keypoints: Floats, here: NDArray[np.bool_]) -> float:
    """The body's height in pixels, told from its limbs: foreshortening shortens them, so the upper quarter counts."""
    seen = here[_MEASURED].all(1)
    if not seen.any():
        return max(8.0, float(np.ptp(keypoints[here, :2], axis=0).max()))
    a, b = keypoints[_MEASURED[seen, 0], :2], keypoints[_MEASURED[seen, 1], :2]
    heights = np.sort(np.hypot(*(a - b).T) / _LENGTHS[seen])
    return max(8.0, float(heights[math.ceil(0.75 * (len(heights) - 1))]))


def _draw_limbs(body: Picture, keypoints: Floats, here: NDArray[np.bool_], tall: float) -> None:
    spots = _spots(keypoints[:, :2])
    for a, b, _, radius in _BONES:
        if here[a] and here[b]:
            _stroke(body, spots[a], spots[b], radius * tall)
    for a, b, c, reach, radius in _BEYOND:
        if here[a] and here[b] and not here[c]:
            along = keypoints[b, :2] - keypoints[a, :2]
            end = keypoints[b, :2] + along * (reach * tall / max(1e-3, float(np.hypot(*along))))
            _stroke(body, spots[b], _spots(end), radius * tall)
    trunk = [i for i in (*_SHOULDERS, *_HIPS) if here[i]]
    if len(trunk) > 2:
        cv2.fillConvexPoly(body, cv2.convexHull(spots[trunk]), 255, cv2.LINE_8, SHARED)


def _draw_head(body: Picture, keypoints: Floats, here: NDArray[np.bool_], tall: float) -> None:
    face, shoulders = ([i for i in part if here[i]] for part in (_FACE, _SHOULDERS))
    neck = keypoints[shoulders, :2].mean(0) if shoulders else None
    if face:
        middle = keypoints[face, :2].mean(0)
    elif neck is not None and len(shoulders) == 2:
        hips = [i for i in _HIPS if here[i]]
        up = neck - keypoints[hips, :2].mean(0) if hips else np.array([0.0, -1.0])
        middle = neck + up * (_ABOVE * tall / max(1e-3, float(np.hypot(*up))))
    else:
        return
    cv2.circle(
        body, _spots(middle).tolist(), round(_HEAD * tall * (1 << SHARED)), 255, -1, cv2.LINE_8, SHARED
    )
    if neck is not None:
        _stroke(body, _spots(middle), _spots(neck), _NECK * tall)


def _spots(xy: NDArray[np.floating]) -> NDArray[np.int32]:
    """Places as OpenCV draws them: pixel centres are whole numbers, in parts of a pixel."""
    return np.asarray(np.round((xy - 0.5) * (1 << SHARED)), np.int32)


def _stroke(body: Picture, a: NDArray[np.int32], b: NDArray[np.int32], radius: float) -> None:
    cv2.line(body, a.tolist(), b.tolist(), 255, max(1, round(2 * radius)), cv2.LINE_8, SHARED)


def _backdrop(frame: Picture, far: Floats) -> Floats:
    """f32[H,W,3]: what the frame shows far from the body, spread over it; levels."""
    height, width = far.shape
    coarse = (max(4, width // 8), max(4, height // 8))
    kept = cv2.resize(frame * far[..., None], coarse, interpolation=cv2.INTER_AREA)
    share = cv2.resize(far, coarse, interpolation=cv2.INTER_AREA)
    mean = kept.sum((0, 1)) / share.sum()
    kept, share = cv2.GaussianBlur(kept, (0, 0), 1.6), cv2.GaussianBlur(share, (0, 0), 1.6)
    spread = (kept + 0.02 * mean) / (share + 0.02)[..., None]
    return np.asarray(cv2.resize(spread.astype(np.float32), (width, height)), np.float32)


def _colour(difference: Floats, far: Floats) -> tuple[Floats, Floats, Floats]:
    """f32[H,W] each: the difference in brightness (signed) and in colour, in units of the backdrop's noise, and the
    first in levels.
    """
    planes = cv2.split(cv2.transform(difference, _OPPONENT))
    noise = np.array([float((plane * plane * far).sum()) for plane in planes]) / float(far.sum())
    scale = (1 / (noise + _QUIET)).astype(np.float32)
    bright = planes[0] * np.sqrt(scale[0])
    bright = 0.5 * (bright + cv2.blur(bright, (3, 3)))  # single pixels of noise are nobody
    colour = cv2.sqrt(planes[1] * planes[1] * scale[1] + planes[2] * planes[2] * scale[2])
    return np.asarray(bright, np.float32), np.asarray(colour, np.float32), np.asarray(planes[0], np.float32)


# Logistic regression on pixels of people val at 128x88: true pictures and frames of people-128, 40 people in six poses
# each (benchmarks/matte.py).
WEIGHTS = (-6.21, 2.09, 0.57, -4.45, 2.96, 5.34, -0.48)
# The middle of trunk and thighs is the person whatever its colour, a white shirt before a white wall too; the masks
# that the weights were fitted to are told by colour, but for the middles of limbs, so they teach this too little.
SOLID = np.float32(2.5)  # log odds
DEEP = 0.03  # body heights below the drawn body's surface, from which on it counts; in full 0.02 deeper
SHADE = 0.3  # a shadow takes at most this share of the backdrop's light


def terms(
    distance: Floats, bright: Floats, colour: Floats, levels: Floats, backdrop: Floats
) -> tuple[Floats, ...]:
    """Returns what WEIGHTS, after its first, are multiplied with, f32[H,W] each; see `_logit`."""
    shadow = (levels < 0) & (levels > -SHADE * cv2.transform(backdrop, _OPPONENT[:1]))
    outside = np.clip(distance, 0, 0.3) * 10
    found = (
        np.minimum(cv2.log(1 + cv2.magnitude(bright, colour)), 3),
        cv2.log(1 + colour),
        outside,
        cv2.sqrt(outside),
        np.clip(-distance, 0, 0.06) * 20,
        cv2.log(1 + np.minimum(np.abs(bright), 12)) * shadow,
    )
    return tuple(np.asarray(term, np.float32) for term in found)


def _logit(distance: Floats, bright: Floats, colour: Floats, levels: Floats, backdrop: Floats) -> Floats:
    """f32[H,W]: log odds of person against backdrop."""
    found = np.full(distance.shape, WEIGHTS[0], np.float32)
    for weight, term in zip(WEIGHTS[1:], terms(distance, bright, colour, levels, backdrop), strict=True):
        found += np.float32(weight) * term
    return np.asarray(found + SOLID * np.clip((-distance - DEEP) * 50, 0, 1), np.float32)


RADIUS = 1 / 128  # of the guided filter, frame heights
SMOOTH = 1e-3  # its regularisation, for brightness in 0..1
CRISP = 1.8  # the filter widens edges; this takes it back


def _along_edges(alpha: Floats, frame: Picture) -> Floats:
    """The mask filtered so that its edge follows the frame's brightness."""
    side = 2 * max(1, round(RADIUS * frame.shape[0])) + 1
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) * np.float32(1 / 255)

    def mean(plane: Floats) -> Floats:
        return np.asarray(cv2.blur(plane, (side, side)), np.float32)

    middle, at = mean(guide), mean(alpha)
    spread = mean(guide * guide) - middle * middle
    slope = (mean(guide * alpha) - middle * at) / (spread + np.float32(SMOOTH))
    found = mean(slope) * guide + mean(at - slope * middle)
    return np.asarray(np.clip((found - 0.5) * CRISP + 0.5, 0, 1), np.float32)


def canonical(keypoints: Floats, format: str) -> Floats:
    """Returns f32[133,3]: joints of any format in that of `matte`."""
    return keypoints if format == CANONICAL else Pose.of(keypoints, format).to(CANONICAL).array()
