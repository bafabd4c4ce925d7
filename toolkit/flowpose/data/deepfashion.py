"""DeepFashion In-shop as its users have it, in the split of the pose-transfer literature.

    img_highres/<MEN|WOMEN>/<category>/id_<8 digits>/<NN>_<V>_<view>.jpg   or img/ (256 x 256, padded), or
    train/, test/ or train_highres/, test_highres/ of flat names
    fasion-resize-annotation-<train|test>.csv    name:keypoints_y:keypoints_x    of pictures of 256 x 176
    fasion-annotation-<train|test>.csv           the same of pictures padded to 256 x 256
    pose/<same tree>/<NN>_<V>_<view>.txt         18 lines x y, padded too
    fasion-resize-pairs-<train|test>.csv         from,to
    <train|test>_pairs.txt                       target,source[,source...], paths, no header
    <train|test>_pairs.json                      [{source_image, target_image}, ...], paths
    <train|test>.lst                             flat names

"fasion" is the originals' spelling; "fashion" is read too. Flat names are paths run together,
`fashionMENPantsid0000000501_3back.jpg`. An annotation has 18 joints in the order of openpose-18, y before x, -1
missing. Padded pictures and joints lose 40 columns on either side. Pictures of any other size are stretched to
256 x 176's proportions, as those who use `img_highres` do (its own differ by about a hundredth), then fitted.

`NN` tells the outfits of one id apart. Validation is a part of train, see `HELD`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flowpose.data.pictures import Pictures
from flowpose.data.published import HELD, Say, nobody, read_published
from flowpose.data.published_layout import DEEPFASHION

__all__ = ["HELD", "read_deepfashion"]


def read_deepfashion(
    root: Path,
    split: str,
    pairs: Literal["published", "all"],
    height: int,
    width: int,
    say: Say = nobody,
) -> Pictures:
    """The annotated pictures of a split at height x width; see `read_published`, also for the errors."""
    return read_published(DEEPFASHION, root, split, pairs, (height, width), say)
