"""Where the person is in a picture, told from the joints that it should show."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import PoseError
from flowpose.metrics.pose import LEAST, checked

MARGIN = 0.08  # of the joints' box diagonal: half a trunk's width, and the top of a head above its eyes


def person_mask(keypoints: NDArray[np.floating], height: int, width: int) -> NDArray[np.bool_]:
    """Returns bool[height,width]: the convex hull of the given joints, widened by 8 % of their box's diagonal.

    `keypoints` f32[17|133,3] are x, y in the picture's pixels and a score; joints with a score of 0 are not
    given. All joints of the pose count, hands and feet too, as far as it has them.

    Raises:
        PoseError: a wrong shape, a value that is not finite, fewer than two given joints, or a hull that lies
            outside the picture.
    """
    points = checked("keypoints of the mask", keypoints)
    given = points[points[:, 2] > 0, :2]
    if len(given) < LEAST:
        raise PoseError("mask", "too few joints", got=len(given), expected="2 or more with a score")
    margin = max(1, math.ceil(MARGIN * float(np.hypot(*(given.max(0) - given.min(0))))))
    near = np.clip(given, -margin, np.array([width, height]) + margin)
    # The canvas has a band of the margin's width on every side: a joint outside widens into the picture.
    canvas = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
    hull = cv2.convexHull(np.floor(near).astype(np.int32) + margin)
    cv2.fillConvexPoly(canvas, hull, 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    mask = np.asarray(cv2.dilate(canvas, disc), bool)[margin : margin + height, margin : margin + width]
    if not mask.any():
        raise PoseError("mask", "the person is outside the picture", expected=f"joints in {height} x {width}")
    return mask
