"""Where pictures come from: readers of data sets and procedural figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpose.data.deepfashion import read_deepfashion
from flowpose.data.folder import locate, read_folder
from flowpose.data.market import read_market
from flowpose.data.pictures import Pictures, draw_pairs, draw_sets
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.spec.recipe import DataSpec, DeepFashionData, FolderData, ImageSpec, MarketData

__all__ = ["Pictures", "draw_pairs", "draw_sets", "read"]


def read(data: DataSpec, size: ImageSpec, split: str, roots: Sequence[Path] = DEFAULT_ROOTS) -> Pictures:
    """The pictures of a split at the recipe's size.

    Raises:
        DataError: the folder or the split does not exist, or is broken.
        ImageError, PoseError: a picture or a pose in it is.
    """
    if isinstance(data, DeepFashionData):
        return read_deepfashion(locate(data.path, roots), split, data.pairs, size.height, size.width)
    if isinstance(data, MarketData):
        return read_market(locate(data.path, roots), split, data.pairs, size.height, size.width)
    if isinstance(data, FolderData):
        return read_folder(locate(data.path, roots), split, size.height, size.width)
    from flowpose.data.figures_set import figures  # draws with OpenCV: not needed for folders

    return figures(data, split, size.height, size.width)
