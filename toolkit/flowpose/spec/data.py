"""Where a recipe's pictures come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from flowpose.spec.base import Spec


class FolderData(Spec):
    """Pictures with COCO keypoints grouped by identity: tars or folders named `<split>*` under `path`.

    `path` is a folder, or a bare name looked for in the data roots (`--data`, ./data, ../shared/data).
    """

    source: Literal["folder"] = "folder"
    path: str = "people"


class FiguresData(Spec):
    """Procedural dressed figures, drawn when needed: no files at all."""

    source: Literal["figures"] = "figures"
    identities: PositiveInt = 64
    pictures: Annotated[int, Field(ge=2)] = 8
    seed: Annotated[int, Field(ge=0)] = 0


class DeepFashionData(Spec):
    """DeepFashion In-shop in the split of the pose-transfer literature; its owner has it, nothing is downloaded.

    `path` is found as a folder's is; it holds `img_highres/` and the annotation and pair files (data/deepfashion.py).
    `pairs`: the published pairs alone, or any two pictures of one person in the same clothes.
    """

    source: Literal["deepfashion"] = "deepfashion"
    path: str = "deepfashion"
    pairs: Literal["published", "all"] = "published"


class MarketData(Spec):
    """Market-1501 with the annotations and pairs of the pose-transfer literature; its owner has it.

    `path` is found as a folder's is; it holds `bounding_box_train/`, `bounding_box_test/` and `market-*.csv`
    (data/market.py). `pairs`: as DeepFashion's; a person wears the same clothes in all pictures.
    """

    source: Literal["market"] = "market"
    path: str = "market"
    pairs: Literal["published", "all"] = "published"


DataSpec = Annotated[FolderData | FiguresData | DeepFashionData | MarketData, Field(discriminator="source")]
