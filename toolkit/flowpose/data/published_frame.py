"""Padded and unpadded frames: whether pictures and joints are of the frame that they are said to be of.

A set's frame may be padded to a square by plain columns on either side (DeepFashion: 40 beside 176). Annotations of the
padded square are 40 larger in x, and nothing in a file says which it is but its name.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.image import Picture

Misfit = Literal["padded", "unpadded", "swapped"]
Floats = NDArray[np.float32]

NECK, HIPS = 1, (8, 11)  # of openpose-18
OFF = 20.0  # pixels by which the middle of all people may lie beside the middle of the frame
SIDEWAYS = 0.7  # share of people that lie rather than stand, above which x and y are swapped
FEW = 5  # people, below which nothing is said of all
PLAIN = 24  # levels of 255 by which a padded column may differ from its median; JPEG rings
PLAINS = 0.9  # share of the columns' pixels that are so
SQUARE = 0.02  # share by which the sides of a square may differ


def outside(joints: Floats, frame: tuple[int, int]) -> NDArray[np.bool_]:
    """bool[n, J]: joints that are given and lie outside the frame; of joints f32[n, J, 3] in its pixels."""
    x, y, score = joints[..., 0], joints[..., 1], joints[..., 2]
    inside: NDArray[np.bool_] = (x >= 0) & (x < frame[1]) & (y >= 0) & (y < frame[0])
    return (score > 0) & ~inside


def misfit(joints: Floats, frame: tuple[int, int], padding: int) -> Misfit | None:
    """What all people's joints f32[n, 18, 3], in pixels of the frame, tell of a mix-up; None where nothing does.

    `padded`: x still has the padding; `unpadded`: the padding was taken from an x that had none; `swapped`: x and y.
    People stand in the middle of their frame, and upright, and a file that is right has hardly a joint outside.
    """
    people = joints[(joints[..., 2] > 0).any(1)]
    if len(people) < FEW:
        return None
    if _sideways(people) > SIDEWAYS:
        return "swapped"
    beyond = outside(people, frame)
    if not padding or not beyond.any():
        return None
    x = np.where(people[..., 2] > 0, people[..., 0], np.nan)
    off = float(np.median(np.nanmean(x, axis=1))) - frame[1] / 2
    if off > OFF and (x >= frame[1]).any():
        return "padded"
    return "unpadded" if off < -OFF and (x < 0).any() else None


def _sideways(people: Floats) -> float:
    """The share of people whose hips lie more beside their neck than below it; 0 where too few show both."""
    whole = people[(people[:, [NECK, *HIPS], 2] > 0).all(1)]
    if len(whole) < FEW:
        return 0.0
    spine = np.abs(whole[:, HIPS, :2].mean(1) - whole[:, NECK, :2])
    return float((spine[:, 0] > spine[:, 1]).mean())


def is_square(picture: Picture) -> bool:
    """Whether a picture's sides are equal."""
    height, width = picture.shape[:2]
    return bool(abs(height - width) <= SQUARE * width)


def unpadded(picture: Picture, frame: tuple[int, int], padding: int, where: str) -> Picture:
    """The picture without the plain columns that make a square of it; another one as it is.

    Raises:
        ImageError: a square whose outer columns are not plain: it was squeezed, or cut, and no rule says how.
    """
    if not padding or not is_square(picture):
        return picture
    wide = picture.shape[1]
    edge = round(wide * padding / (frame[1] + 2 * padding))
    for columns in (picture[:, : edge * 3 // 4], picture[:, wide - edge * 3 // 4 :]):
        ways = np.abs(columns.astype(np.int16) - np.median(columns, axis=(0, 1)).astype(np.int16)).max(2)
        if (ways <= PLAIN).mean() < PLAINS:
            got, expected = f"{wide} x {picture.shape[0]}", f"plain columns of {edge} pixels on either side"
            fix = f"take the padded pictures, or those of {frame[1]} x {frame[0]}'s proportions"
            raise ImageError(
                where, "a square picture that is not padded", got=got, expected=expected, fix=fix
            )
    return np.ascontiguousarray(picture[:, edge : wide - edge])
