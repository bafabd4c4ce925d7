"""Market-1501 as the pose-transfer literature uses it: 128 x 64, 18 joints a picture, published pairs.

    bounding_box_<train|test>/<person>_c<camera>s<sequence>_<frame>_<box>.jpg
    market-annotation-<train|test>.csv           name:keypoints_y:keypoints_x
    market-pairs-<train|test>.csv                from,to

Names that start with -1 (false detections) or 0000 (backgrounds) are left out. A person wears the same clothes in all
pictures. Where all pictures are taken, those without both shoulders and both hips are left out, as the published pairs
do. Validation is a part of train, see `published.HELD`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flowpose.data.pictures import Pictures
from flowpose.data.published import Say, nobody, read_published
from flowpose.data.published_layout import MARKET


def read_market(
    root: Path,
    split: str,
    pairs: Literal["published", "all"],
    height: int,
    width: int,
    say: Say = nobody,
) -> Pictures:
    """The annotated pictures of a split at height x width; see `read_published`, also for the errors."""
    return read_published(MARKET, root, split, pairs, (height, width), say)
