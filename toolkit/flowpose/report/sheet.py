"""Contact sheets: pictures in rows and labelled columns, and drawings of poses to stand among them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import ImageError, PoseError
from flowpose.pose_formats import FORMATS

Bytes = NDArray[np.uint8]

CELL = 176  # least height of a cell in pixels, so that small pictures can be judged by eye
GAP = 6
HEADER = 26
PAPER, INK = (255, 255, 255), (32, 32, 36)
FONT = cv2.FONT_HERSHEY_SIMPLEX
BODY = 23  # joints of body and feet come first; those of face and hands are drawn thinner


def _check(rows: Sequence[Sequence[Bytes]], labels: Sequence[str]) -> None:
    if not rows or any(len(row) != len(labels) for row in rows):
        got = f"{len(labels)} labels and rows of {sorted({len(row) for row in rows})}"
        raise ImageError(
            "sheet", "rows and labels differ", got=got, expected="a picture for every label in every row"
        )
    for number, row in enumerate(rows):
        for picture in row:
            image.check(picture, f"sheet row {number}")


def _cell(picture: Bytes, height: int, width: int) -> Bytes:
    """Returns the picture enlarged by a whole number of times to fit, in the middle of a cell."""
    times = max(1, min(height // picture.shape[0], width // picture.shape[1]))
    large = (
        cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC) if times > 1 else picture
    )
    cell = np.full((height, width, 3), PAPER, np.uint8)
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    cell[top : top + large.shape[0], left : left + large.shape[1]] = large
    return cell


def _label(paper: Bytes, text: str, left: int, width: int) -> None:
    size = 0.48
    (wide, tall), _ = cv2.getTextSize(text, FONT, size, 1)
    size *= min(1.0, (width - 2) / max(wide, 1))
    (wide, tall), _ = cv2.getTextSize(text, FONT, size, 1)
    cv2.putText(
        paper, text, (left + (width - wide) // 2, (HEADER + tall) // 2), FONT, size, INK, 1, cv2.LINE_AA
    )


def sheet(rows: Sequence[Sequence[Bytes]], labels: Sequence[str], *, cell: int = CELL) -> Bytes:
    """Returns one picture u8[H,W,3] of all pictures u8[h,w,3] with the columns' labels (ASCII) on top.

    Pictures are enlarged by whole numbers until the tallest has `cell` pixels or more.

    Raises:
        ImageError: a row has not one picture a label, or something is not a picture.
    """
    _check(rows, labels)
    tall = max(picture.shape[0] for row in rows for picture in row)
    wide = max(picture.shape[1] for row in rows for picture in row)
    times = math.ceil(cell / tall)
    height, width = tall * times, wide * times
    paper = np.full(
        (HEADER + len(rows) * (height + GAP), GAP + len(labels) * (width + GAP), 3), PAPER, np.uint8
    )
    for column, label in enumerate(labels):
        left = GAP + column * (width + GAP)
        _label(paper, label, left, width)
        for row, pictures in enumerate(rows):
            top = HEADER + row * (height + GAP)
            paper[top : top + height, left : left + width] = _cell(pictures[column], height, width)
    return paper


def _colour(number: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(0.85 * number / count, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_pose(keypoints: NDArray[np.floating], height: int, width: int, *, threshold: float = 0.3) -> Bytes:
    """Returns the skeleton of keypoints f32[17|133,3] (x, y in pixels, score) on black, u8[height,width,3].

    Raises:
        PoseError: another shape.
    """
    if keypoints.ndim != 2 or keypoints.shape[0] not in (17, 133) or keypoints.shape[1] != 3:
        raise PoseError("draw_pose", "wrong shape", got=list(keypoints.shape), expected="[17,3] or [133,3]")
    fine = 4  # drawn at this many times the size, then averaged
    canvas = np.zeros((height * fine, width * fine, 3), np.uint8)
    spots = np.round(keypoints[:, :2] * fine - 0.5).astype(int)
    given = keypoints[:, 2] >= threshold
    thick = max(1, round(height * fine / 90))
    limbs = FORMATS["coco-17" if len(given) == 17 else "coco-wholebody-133"].limbs
    for number, (a, b) in enumerate(limbs):
        if given[a] and given[b]:
            thickness = thick if max(a, b) < BODY else max(1, thick // 3)
            cv2.line(
                canvas, spots[a].tolist(), spots[b].tolist(), _colour(number % 22, 22), thickness, cv2.LINE_AA
            )
    for joint in np.flatnonzero(given):
        radius = thick if joint < BODY else max(1, thick // 2)
        cv2.circle(canvas, spots[joint].tolist(), radius, (255, 255, 255), -1, cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
