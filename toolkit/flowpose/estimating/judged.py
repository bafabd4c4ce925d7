"""The judge as an estimator: 17 joints of one person, from the small network that ships with flowpose.

It was made to measure pictures of rendered people at 128x88, so it is a first try and no whole-body estimator: no
hands, no face but eyes, ears and nose, one person who fills the picture's height. Of joints placed by hand on four
photographs of one man it found 94 % within 0.1 of the box's diagonal (benchmarks/results/judge-photographs.json).
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.estimating import LEAST, EstimatorOptions
from flowpose.letterbox import letterbox
from flowpose.metrics.judge import HEIGHT, WIDTH, Judge
from flowpose.pose import Pose

__all__ = ["JudgedEstimator"]


@final
class JudgedEstimator:
    """Finds one person; of a picture that is wider than high the middle square is looked at."""

    def __init__(self, options: EstimatorOptions) -> None:
        self._judge = Judge(threads=options.threads or 1)
        self._least = LEAST if options.least is None else options.least

    def find(self, picture: NDArray[np.uint8]) -> tuple[Pose, ...]:
        """Returns one pose of coco-17, or none where no joint is sure enough."""
        given = image.check(picture)
        height, width = given.shape[:2]
        side = max(0, (width - height) // 2)
        part = given[:, side : width - side]
        box = letterbox((height, part.shape[1]), (HEIGHT, WIDTH))
        joints = self._judge.view(image.fit(part, HEIGHT, WIDTH)).keypoints
        xy = (joints[:, :2] - (box.left, box.top)) / (box.scale_x, box.scale_y) + (side, 0)
        score = np.where(joints[:, 2] < self._least, 0, np.clip(joints[:, 2], 0, 1)).astype(np.float32)
        return (Pose("coco-17", xy.astype(np.float32), score, (height, width)),) if score.any() else ()
