"""The one rule by which pictures and poses of any size are fitted into a model's frame.

Lengths are pixels; a coordinate is continuous with (0, 0) at the top left corner, so the centre of the first
pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Letterbox:
    """Where a canvas lies inside a frame: its size there and the widths of the bands at the top and on the
    left.

    Attributes:
        height, width: size of the scaled canvas, pixels of the frame.
        top, left: first row and column that the scaled canvas covers.
        scale_y, scale_x: frame pixels for each canvas pixel; they differ only by the rounding of height and
        width.
    """

    height: int
    width: int
    top: int
    left: int
    scale_y: float
    scale_x: float


def letterbox(canvas: tuple[int, int], frame: tuple[int, int]) -> Letterbox:
    """Returns the place of a canvas in a frame: largest size that keeps the proportions, centred.

    Args:
        canvas: (height, width) of the picture, each at least 1.
        frame: (height, width) of the model's frame, each at least 1.
    """
    scale = min(frame[0] / canvas[0], frame[1] / canvas[1])
    height = min(frame[0], max(1, round(canvas[0] * scale)))
    width = min(frame[1], max(1, round(canvas[1] * scale)))
    top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
    return Letterbox(height, width, top, left, height / canvas[0], width / canvas[1])
