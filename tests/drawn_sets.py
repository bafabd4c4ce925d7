"""Small published person sets, written with drawn figures in every form that their users have them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from flowpose import image
from flowpose.data.figures_set import figures
from flowpose.data.pictures import Pictures
from flowpose.pose import Pose
from flowpose.spec.recipe import FiguresData

VIEWS = ("01_1_front", "01_2_side", "02_3_back", "02_4_full")
PADDING = 40
PEOPLE = 6


@dataclass(frozen=True)
class Drawn:
    """A picture: where it lies in the tree, its flat name, pixels and joints (x, y whole numbers, -1 missing)."""

    tree: str
    flat: str
    pixels: np.ndarray
    x: tuple[int, ...]
    y: tuple[int, ...]

    def row(self, shift: int = 0) -> str:
        x = [each if each == -1 else each + shift for each in self.x]
        return f"{self.flat}: {list(self.y)}: {x}"


@lru_cache
def _figures(part: str, height: int, width: int) -> Pictures:
    seed = {"train": 0, "test": 1}[part]
    return figures(FiguresData(identities=PEOPLE, pictures=len(VIEWS), seed=seed), "train", height, width)


@lru_cache
def drawn(part: str = "test", height: int = 256, width: int = 176) -> tuple[Drawn, ...]:
    """The pictures of a part, `len(VIEWS)` of a person, those of train and test of different people."""
    found, first = _figures(part, height, width), {"train": 100, "test": 1}[part]
    made = []
    for number, (pixels, joints) in enumerate(zip(found.images, found.keypoints, strict=True)):
        pose = Pose.of(joints, "coco-wholebody-133", (height, width)).to("openpose-18").inside()
        x, y = (
            np.where(pose.score > 0, np.floor(pose.xy[:, axis]), -1).astype(int).tolist() for axis in (0, 1)
        )
        who, view = first + number // len(VIEWS), VIEWS[number % len(VIEWS)]
        outfit, kind, side = view.split("_")
        gender, garment = ("WOMEN", "Tees_Tanks") if who % 2 else ("MEN", "Pants")
        flat = f"fashion{gender}{garment}id{who:08d}{outfit}_{kind}{side}.jpg"
        made.append(Drawn(f"{gender}/{garment}/id_{who:08d}/{view}.jpg", flat, pixels, tuple(x), tuple(y)))
    return tuple(made)


def pairs_of(pictures: Sequence[Drawn]) -> list[tuple[Drawn, Drawn]]:
    """Each person's first picture with the others."""
    groups = [pictures[at : at + len(VIEWS)] for at in range(0, len(pictures), len(VIEWS))]
    return [(group[0], other) for group in groups for other in group[1:]]


def padded(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((0, 0), (PADDING, PADDING), (0, 0)), constant_values=255)


def write_tree(
    root: Path, part: str = "test", folder: str = "img_highres",
    change: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels, suffix: str = ".jpg",
) -> None:  # fmt: skip
    for each in drawn(part):
        image.write((root / folder / each.tree).with_suffix(suffix), change(each.pixels))


def write_flat(root: Path, part: str = "test", folder: str = "") -> None:
    for each in drawn(part):
        image.write(root / (folder or part) / each.flat, each.pixels)


def write_annotations(file: Path, part: str = "test", shift: int = 0) -> None:
    rows = [each.row(shift) for each in drawn(part)]
    file.write_text("\n".join(["name:keypoints_y:keypoints_x", *rows, ""]))


def write_texts(root: Path, part: str = "test") -> None:
    """pose/<tree>.txt: 18 lines x y of the padded picture."""
    for each in drawn(part):
        file = (root / "pose" / each.tree).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [(-1, -1) if -1 in xy else (xy[0] + PADDING, xy[1]) for xy in zip(each.x, each.y, strict=True)]
        np.savetxt(file, np.array(rows, float))


def write_csv_pairs(file: Path, part: str = "test") -> None:
    rows = [f"{a.flat},{b.flat}" for a, b in pairs_of(drawn(part))]
    file.write_text("\n".join(["from,to", *rows, ""]))


def write_text_pairs(file: Path, part: str = "test") -> None:
    """Target first, as PIDM's loader takes it."""
    file.write_text("".join(f"{b.tree},{a.tree}\n" for a, b in pairs_of(drawn(part))))


def write_json_pairs(file: Path, part: str = "test") -> None:
    rows = [
        {"source_image": f"./img/{a.tree}", "target_image": f"./img/{b.tree}"}
        for a, b in pairs_of(drawn(part))
    ]
    file.write_text(json.dumps(rows))


def write_list(file: Path, part: str = "test") -> None:
    file.write_text("".join(f"{each.flat}\n" for each in drawn(part)))


def make_deepfashion(root: Path, parts: Iterable[str] = ("train", "test")) -> Path:
    """The usual form: img_highres, resized tables, lists."""
    root.mkdir(parents=True, exist_ok=True)
    for part in parts:
        write_tree(root, part)
        write_annotations(root / f"fasion-resize-annotation-{part}.csv", part)
        write_csv_pairs(root / f"fasion-resize-pairs-{part}.csv", part)
        write_list(root / f"{part}.lst", part)
    return root


def make_market(root: Path, parts: Iterable[str] = ("train", "test")) -> Path:
    """Market-1501: 128 x 64, with a false detection and a background among the pictures and rows."""
    for part in parts:
        pictures, first = drawn(part, 128, 64), {"train": 500, "test": 1}[part]
        names = [f"{first + i // len(VIEWS):04d}_c1s1_{i:06d}_01.jpg" for i in range(len(pictures))]
        junk = ("-1_c1s1_000401_03.jpg", "0000_c1s1_000402_03.jpg")
        rows = []
        for name, each in [*zip(names, pictures, strict=True), *((name, pictures[0]) for name in junk)]:
            image.write(root / f"bounding_box_{part}" / name, each.pixels)
            rows.append(f"{name}: {list(each.y)}: {list(each.x)}")
        (root / f"market-annotation-{part}.csv").write_text(
            "\n".join(["name:keypoints_y:keypoints_x", *rows, ""])
        )
        pairs = [f"{names[at]},{names[at + k]}" for at in range(0, len(names), len(VIEWS)) for k in (1, 2, 3)]
        (root / f"market-pairs-{part}.csv").write_text("\n".join(["from,to", *pairs, ""]))
    return root
