"""Names of pictures in published person sets: one picture, however a file spells it."""

from __future__ import annotations

import re
from dataclasses import dataclass

SUFFIX = r"\.(?:jpg|jpeg|png|txt)"
FLAT = re.compile(r"(?:.*/)?fashion(WOMEN|MEN)([A-Za-z_]+)id(\d{8})(\d\d)_(\d)([a-z]+)" + SUFFIX)
TREE = re.compile(r"(?:.*/)?(WOMEN|MEN)/([A-Za-z_]+)/id_(\d{8})/(\d\d)_(\d)_([a-z]+)" + SUFFIX)
MARKET = re.compile(r"(?:.*/)?((-1|\d{4})_c\ds\d_\d+_\d+)\.(?:jpg|png)")


@dataclass(frozen=True)
class Named:
    """A picture.

    Attributes:
        name: the one that pictures are known by, whatever the file said.
        person: whoever is in one split only and whose pictures alone make pairs.
        outfit: the same person in the same clothes.
        file: its path below the folder of pictures, without a suffix.
    """

    name: str
    person: str
    outfit: str
    file: str


def deepfashion_name(text: str) -> Named | None:
    """The picture that `fashionMENPantsid0000000501_3back.jpg`, or a path such as
    `img/MEN/Pants/id_00000005/01_3_back.jpg`, names; None where it is neither.

    A person is gender, category and id; the two digits behind the id tell that person's outfits apart.
    """
    match = FLAT.fullmatch(text) or TREE.fullmatch(text)
    if match is None:
        return None
    gender, category, number, outfit, view, side = match.groups()
    person = f"{gender}/{category}/id_{number}"
    name = f"fashion{gender}{category}id{number}{outfit}_{view}{side}.jpg"
    return Named(name, person, f"{person}/{outfit}", f"{person}/{outfit}_{view}_{side}")


def market_name(text: str) -> Named | None:
    """The picture that `0002_c1s1_000451_03.jpg` names: of person 0002; None where it is no such name."""
    match = MARKET.fullmatch(text)
    return Named(f"{match[1]}.jpg", match[2], match[2], match[1]) if match else None


def market_junk(text: str) -> bool:
    """Whether a name is one of Market-1501's false detections (-1) or backgrounds (0000), which all leave out."""
    return text.rpartition("/")[2].startswith(("-1", "0000"))
