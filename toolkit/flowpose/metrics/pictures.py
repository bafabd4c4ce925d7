"""What the metrics take: pictures u8[H,W,3]."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import ImageError


def check(where: str, *pictures: NDArray[np.uint8]) -> None:
    """Raises ImageError unless all pictures are u8[H,W,3] of one size and not empty."""
    for picture in pictures:
        image.check(picture, where)
    if len({picture.shape for picture in pictures}) > 1:
        raise ImageError(where, "sizes differ", got=[list(p.shape) for p in pictures], expected="one size")


def grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the luma f32[H,W] (0..255) of an RGB picture."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)
