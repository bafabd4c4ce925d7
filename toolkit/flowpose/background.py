"""What stands behind a made person: what the model made, the photograph's backdrop, a colour, a picture, or nothing.

A model makes person and backdrop together, at its own size. For every background but `Made` the person is cut out of
the frame (flowpose.matte) and laid over another one, which may have the photograph's size. The backdrop's light that an
edge pixel holds is taken out by what the frame would show without the person.

What it cannot do. The photograph's person is painted over with what stands beside, row by row, so a wall and the line
of a floor go on, but a chair behind the person becomes a smear. Before a busy backdrop the drawn body decides, so loose
hair and wide clothes are cut. Shadows stay behind. And what the model did not make (a lost hand) is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import ImageError, PoseError
from flowpose.letterbox import letterbox
from flowpose.matte import Matte, body_distance, matte
from flowpose.pose import CANONICAL, Pose

__all__ = [
    "Alpha",
    "Background",
    "Colour",
    "Composer",
    "Keep",
    "Made",
    "Scene",
    "backdrop_of",
    "parse_background",
]

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Size = Literal["model", "source"]


@dataclass(frozen=True)
class Made:
    """The backdrop that the model makes."""


@dataclass(frozen=True)
class Keep:
    """The photograph's own backdrop, its person painted over."""


@dataclass(frozen=True)
class Colour:
    """One colour: red, green, blue, 0..255 each."""

    rgb: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture u8[h,w,3] of any size, scaled to cover and cut at its longer side, evenly at both ends."""

    picture: Picture


@dataclass(frozen=True)
class Alpha:
    """Nothing: frames get a fourth channel, 255 where the person is."""


Background = Made | Keep | Colour | Scene | Alpha
WORDS: Mapping[str, Background] = MappingProxyType({"made": Made(), "keep": Keep(), "alpha": Alpha()})


def parse_background(text: str) -> Background:
    """Returns the background that a command line names: made, keep, alpha, #rrggbb, or a picture's file.

    Raises:
        ImageError: none of these, or a file that is no picture.
    """
    if text in WORDS:
        return WORDS[text]
    if text.startswith("#"):
        if re.fullmatch("#[0-9a-fA-F]{6}", text) is None:
            raise ImageError("--background", "no colour", got=f"'{text}'", expected="#rrggbb, as #00ff00")
        red, green, blue = bytes.fromhex(text[1:])
        return Colour((red, green, blue))
    if not Path(text).is_file():
        expected = f"{', '.join(WORDS)}, #rrggbb, or a picture's file"
        raise ImageError("--background", "no such background", got=f"'{text}'", expected=expected)
    return Scene(image.read(text))


def _kept(background: Keep, source: Picture, pose: Pose | None, size: tuple[int, int]) -> Picture:
    if pose is None:
        raise PoseError("pose", "the photograph's own pose is needed to take its person out", got="none")
    return image.fit(backdrop_of(source, pose), *size)


def _covering(background: Scene, source: Picture, pose: Pose | None, size: tuple[int, int]) -> Picture:
    picture = image.check(background.picture, "background")
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(b, round(a * scale)) for a, b in zip(picture.shape[:2], size, strict=True))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    large = cv2.resize(picture, (width, height), interpolation=way)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.array(large[top : top + size[0], left : left + size[1]], np.uint8)


Behind = Callable[[Any, Picture, Pose | None, tuple[int, int]], Picture | None]
BEHIND: Mapping[type, Behind] = MappingProxyType(
    {
        Made: lambda background, source, pose, size: None,
        Keep: _kept,
        Colour: lambda background, source, pose, size: np.full((*size, 3), background.rgb, np.uint8),
        Scene: _covering,
        Alpha: lambda background, source, pose, size: None,
    }
)
"""Kind of background -> what makes u8[h,w,3] of it, of the photograph and its pose; None: nothing is laid behind."""


class Composer:
    """Puts made frames of one person before a background: `composer(frame, keypoints)`.

    Args:
        source: u8[h,w,3], the photograph.
        size: (height, width) of the model's frames.
        background: which.
        pose: the photograph's own pose, on its canvas; `Keep` needs it.
        out: frames of the `model`'s size, or of the `source`'s: cut out of the bands that fitting added, and enlarged.

    Raises:
        ImageError: a wrong picture.
        PoseError: no pose where one is needed, or one that shows no body.
    """

    def __init__(
        self, source: Picture, size: tuple[int, int], background: Background, *, pose: Pose | None = None,
        out: Size = "model",
    ) -> None:  # fmt: skip
        picture = image.check(source, "source")
        canvas = (picture.shape[0], picture.shape[1])
        self.background, self.size = background, canvas if out == "source" else size
        box = letterbox(canvas, size)
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        self._inner = (rows, columns) if out == "source" else (slice(None), slice(None))
        self._behind = BEHIND[type(background)](background, picture, pose, self.size)

    def __call__(self, frame: Picture, keypoints: Floats) -> Picture:
        """Returns u8[h,w,3], for `Alpha` u8[h,w,4] (not premultiplied).

        Args:
            frame: u8[H,W,3] of the model's size.
            keypoints: f32[133,3] of coco-wholebody-133 that it was made from, in its pixels.

        Raises:
            PoseError: no joint of the body is there.
        """
        if isinstance(self.background, Made):
            return _resized(np.ascontiguousarray(frame[self._inner]), self.size)
        cut = matte(frame, keypoints)
        parts = (np.ascontiguousarray(part[self._inner]) for part in (_front(frame, cut), cut.alpha))
        front, alpha = (_resized(part, self.size) for part in parts)
        return _clear(front, alpha) if self._behind is None else _over(front, alpha, self._behind)


def _resized(part: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if part.shape[:2] == size:
        return part
    way = cv2.INTER_AREA if size[0] < part.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=way), part.dtype)


def _front(frame: Picture, cut: Matte) -> Floats:
    """f32[H,W,3]: the person alone, multiplied by alpha, levels 0..255."""
    alpha = cut.alpha[..., None]
    return np.asarray(np.clip(frame - (1 - alpha) * cut.backdrop, 0, 255 * alpha), np.float32)


def _over(front: Floats, alpha: Floats, behind: Picture) -> Picture:
    """The person laid over a picture; only the box that holds the person is computed."""
    made = np.array(behind, np.uint8)
    left, top, width, height = cv2.boundingRect(np.asarray(alpha > 1 / 512, np.uint8))
    box = (slice(top, top + height), slice(left, left + width))
    share = 1 - np.clip(alpha[box], 0, 1)[..., None]
    made[box] = np.clip(np.round(front[box] + share * behind[box]), 0, 255)
    return made


def _clear(front: Floats, alpha: Floats) -> Picture:
    """u8[h,w,4], colours not multiplied by alpha."""
    share = np.clip(alpha, 0, 1)[..., None]
    colours = np.clip(np.round(front / np.maximum(share, 1 / 255)), 0, 255)
    return np.asarray(np.concatenate([colours, np.round(255 * share)], axis=2), np.uint8)


WORKING = 384  # pixels of the longer side at which the photograph's person is looked for
SURE = 0.03  # body heights round the drawn body that are painted over in any case
SPREAD = 4  # backdrops change less from left to right than from top to bottom: walls, floors
LEVELS = 7  # of halving; the widest reaches over the whole picture


def backdrop_of(source: Picture, pose: Pose) -> Picture:
    """Returns u8[h,w,3]: the photograph without its person, who is painted over with what stands beside.

    Args:
        source: u8[h,w,3].
        pose: the person's, in pixels of the photograph where it has no canvas of its own.

    Raises:
        ImageError: a wrong picture.
        PoseError: a pose that shows no body.
    """
    picture = image.check(source, "source")
    canvas = (picture.shape[0], picture.shape[1])
    scale = min(1.0, WORKING / max(canvas))
    size = (max(1, round(canvas[0] * scale)), max(1, round(canvas[1] * scale)))
    small = _resized(picture, size)
    placed = Pose(pose.format, pose.xy, pose.score, pose.size or canvas).fit(*size)
    keypoints = placed.to(CANONICAL).array()
    cut = (matte(small, keypoints).alpha > 1 / 3) | (body_distance(keypoints, *size) < SURE)
    hole = _grown(cut, round(max(2.0, size[0] / 100)))
    painted = _painted(small, hole)
    soft = cv2.GaussianBlur(_grown(hole > 0, 2).astype(np.float32), (0, 0), 1.5)
    share = np.clip(_resized(soft, canvas), 0, 1)[..., None]
    return np.asarray(np.round(share * _resized(painted, canvas) + (1 - share) * picture), np.uint8)


def _grown(mask: NDArray[np.bool_], radius: int) -> Picture:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), np.uint8)


def _painted(picture: Picture, hole: Picture) -> Floats:
    """f32[h,w,3]: the picture, its hole filled from beside: from near where something near is known, else from far."""
    size = (picture.shape[0], picture.shape[1])
    known = (hole == 0).astype(np.float32)
    colours = picture * known[..., None]
    filled, done = np.zeros_like(colours), np.zeros_like(known)
    for level in range(LEVELS):
        small = (max(2, size[1] >> level), max(2, size[0] >> level))
        parts = (cv2.resize(part, small, interpolation=cv2.INTER_AREA) for part in (colours, known))
        sums, weights = (cv2.resize(cv2.GaussianBlur(p, (0, 0), SPREAD, sigmaY=1), size[::-1]) for p in parts)
        share = (1 - done) * np.clip(weights / 0.15, 0, 1)
        filled += sums / np.maximum(weights, 1e-6)[..., None] * share[..., None]
        done += share
    filled /= np.maximum(done, 1e-6)[..., None]
    return np.where(hole[..., None] > 0, filled, picture).astype(np.float32)
