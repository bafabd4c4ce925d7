"""A data set gone through before any training: `flowpose data check`. Tells what kind of set a folder holds.

No PyTorch: it works wherever pictures are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from flowpose import image
from flowpose.data.check_people import check_people, parts_of
from flowpose.data.check_published import check_published
from flowpose.data.checked import Checked, Picture, Shown
from flowpose.data.published_layout import DEEPFASHION, MARKET, PARTS, TEXTS, PublishedSet, layout_of
from flowpose.errors import DataError
from flowpose.report import draw_pose, sheet

ROWS = 8  # pairs of a contact sheet
LABELS = ("source", "pose", "target", "pose on target")
CHECKS: Mapping[str, Callable[[Path], Checked]] = MappingProxyType(
    {
        "deepfashion": partial(check_published, DEEPFASHION),
        "market": partial(check_published, MARKET),
        "people": check_people,
    }
)
"""What a folder may hold, and what goes through it."""


def check_data(root: Path, sheet_file: Path | None = None, rows: int = ROWS) -> Checked:
    """What is in a set, and all that is wrong with it; a contact sheet of `rows` pairs is written when asked for.

    Raises:
        DataError: there is no set, more than one, or nothing of it can be drawn.
        ImageError: the sheet cannot be written.
    """
    found = CHECKS[kind_of(root)](root)
    if sheet_file is not None:
        shown = found.show(rows)
        if not shown:
            fix = f"flowpose data check {root}"
            raise DataError(root, "no pair can be drawn", got="0 pairs", expected="1 or more", fix=fix)
        image.write(sheet_file, sheet([_drawn(pair) for pair in shown], LABELS))
    return found


def kind_of(root: Path) -> str:
    """Which kind of set a path holds: a key of CHECKS.

    Raises:
        DataError: none, or more than one.
    """
    kinds = [kind.name for kind in (DEEPFASHION, MARKET) if root.is_dir() and _holds(kind, root)]
    kinds += ["people"] if parts_of(root) else []
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        fix = "put each in a folder of its own"
        raise DataError(root, "more than one data set", got=" and ".join(kinds), expected="one", fix=fix)
    expected = (
        f"{', '.join(place for place, _ in DEEPFASHION.folders[:1])} and fasion-resize-*.csv (DeepFashion)"
    )
    expected += ", bounding_box_* and market-*.csv (Market-1501), or tars or folders with annotations.json"
    raise DataError(root, "no data set", got="nothing that is read" if root.exists() else "no such path",
                    expected=expected, fix="flowpose data check DIR")  # fmt: skip


def _holds(kind: PublishedSet, root: Path) -> bool:
    """Whether there is anything that is this set's alone; folders named train or test are not."""
    own = {place.format(part=part) for place, _ in kind.folders for part in PARTS if place != "{part}"}
    if any((root / place).is_dir() for place in own):
        return True
    layouts = [layout_of(kind, root, part) for part in PARTS]
    return any([form for _, form in each.annotations if form != TEXTS] or each.pairs for each in layouts)


def _drawn(pair: Shown) -> tuple[Picture, ...]:
    source, joints, target = pair
    skeleton = draw_pose(joints, *target.shape[:2])
    lit = skeleton.max(axis=2, keepdims=True) > 0
    return source, skeleton, target, np.where(lit, skeleton, target // 2 + 64).astype(np.uint8)
