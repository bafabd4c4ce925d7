"""What of a published person set is on disk: its folders, annotations, pairs and lists, and which of several is taken.

A set is a record of tables; a row of a table is a place below the set's folder, `{part}` standing for train or test,
and the form of what lies there. The first place that exists is taken; the others must say the same (data/published.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flowpose.data.published_names import Named, deepfashion_name, market_junk, market_name

AnnotationForm = Literal["csv", "csv, padded", "texts, padded"]
PairForm = Literal["csv", "txt", "json"]
FolderForm = Literal["tree", "flat"]
TEXTS: AnnotationForm = "texts, padded"  # they do not say which part they are of: lists and pairs do
PARTS = ("train", "test")
PADDING = 40  # white columns on either side of DeepFashion's 256 x 176 in 256 x 256
SUFFIXES = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True)
class PublishedSet:
    """A set as its publishers and their followers lay it out.

    Attributes:
        name: of the set.
        frame: height and width that the annotations belong to.
        padding: columns on either side of the frame in pictures and annotations that are padded to a square.
        named: the picture that a name in any file means, or None.
        left_out: whether a name is known to be left out by everybody.
        folders, annotations, pairs: place and form, the first one is taken.
        lists: places of lists of names.
        needed: joints without which a picture is not used where all pictures are; none: any joint will do.
        counts: part -> published numbers of pictures and pairs.
        unpack: what brings missing pictures back.
        example: of a name.
    """

    name: str
    frame: tuple[int, int]
    padding: int
    named: Callable[[str], Named | None]
    left_out: Callable[[str], bool]
    folders: tuple[tuple[str, FolderForm], ...]
    annotations: tuple[tuple[str, AnnotationForm], ...]
    pairs: tuple[tuple[str, PairForm], ...]
    lists: tuple[str, ...]
    needed: tuple[int, ...]
    counts: dict[str, dict[str, int]]
    unpack: str
    example: str


DEEPFASHION = PublishedSet(
    name="deepfashion",
    frame=(256, 176),
    padding=PADDING,
    named=deepfashion_name,
    left_out=lambda name: False,
    folders=(
        ("img_highres", "tree"),
        ("Img/img_highres", "tree"),
        ("img", "tree"),
        ("Img/img", "tree"),
        ("{part}_highres", "flat"),
        ("{part}", "flat"),
    ),
    annotations=(
        ("fasion-resize-annotation-{part}.csv", "csv"),
        ("fashion-resize-annotation-{part}.csv", "csv"),
        ("fasion-annotation-{part}.csv", "csv, padded"),
        ("fashion-annotation-{part}.csv", "csv, padded"),
        ("pose", "texts, padded"),
    ),
    pairs=(
        ("fasion-resize-pairs-{part}.csv", "csv"),
        ("fashion-resize-pairs-{part}.csv", "csv"),
        ("fasion-pairs-{part}.csv", "csv"),
        ("fashion-pairs-{part}.csv", "csv"),
        ("{part}_pairs.txt", "txt"),
        ("{part}_pairs.json", "json"),
        ("{part}_pairs_data.json", "json"),
        ("{part}_data.json", "json"),
    ),
    lists=("{part}.lst",),
    needed=(),
    counts={"train": {"pictures": 48674, "pairs": 101966}, "test": {"pictures": 4038, "pairs": 8570}},
    unpack="unpack img_highres again",
    example="such as fashionMENPantsid0000000501_3back.jpg",
)
MARKET = PublishedSet(
    name="market",
    frame=(128, 64),
    padding=0,
    named=market_name,
    left_out=market_junk,
    folders=(
        ("bounding_box_{part}", "flat"),
        ("Market-1501-v15.09.15/bounding_box_{part}", "flat"),
        ("{part}", "flat"),
    ),
    annotations=(("market-annotation-{part}.csv", "csv"),),
    pairs=(("market-pairs-{part}.csv", "csv"),),
    lists=(),
    needed=(2, 5, 8, 11),
    counts={"train": {"pairs": 263632}, "test": {"pairs": 12000}},
    unpack="unpack Market-1501 again",
    example="such as 0002_c1s1_000451_03.jpg",
)
SETS = (DEEPFASHION, MARKET)


@dataclass(frozen=True)
class Layout:
    """A set on disk.

    Attributes:
        kind: the set.
        root: its folder.
        part: train or test.
        folders, annotations, pairs: what there is of the set's places, in its order: path and form.
        lists: the lists there are.
    """

    kind: PublishedSet
    root: Path
    part: str
    folders: tuple[tuple[Path, FolderForm], ...]
    annotations: tuple[tuple[Path, AnnotationForm], ...]
    pairs: tuple[tuple[Path, PairForm], ...]
    lists: tuple[Path, ...]

    def usual(self, places: tuple[tuple[str, str], ...]) -> Path:
        """The first of a set's places, where there is none of them."""
        return self.root / places[0][0].format(part=self.part)

    def picture(self, named: Named) -> Path:
        """Where a picture is, or where it should be."""
        folder, form = (
            self.folders[0] if self.folders else (self.usual(self.kind.folders), self.kind.folders[0][1])
        )
        places = picture_places(folder, form, named)
        return next((place for place in places if place.is_file()), places[0])

    def taken(self) -> tuple[str, ...]:
        """What is read, a line each, beside what else there is of its sort."""
        groups = (
            ("pictures", [f"{path} ({form})" for path, form in self.folders]),
            ("annotations", [f"{path} ({form})" for path, form in self.annotations]),
            ("pairs", [f"{path} ({_said(form)})" for path, form in self.pairs]),
        )
        return tuple(
            f"{self.part} {what}: {found[0]}" + (f"; not {', '.join(found[1:])}" if found[1:] else "")
            for what, found in groups
            if found
        )


def _said(form: PairForm) -> str:
    return "txt, target first" if form == "txt" else form


def picture_places(folder: Path, form: FolderForm, named: Named) -> tuple[Path, ...]:
    """Where a picture may lie below a folder, the usual one first."""
    stem = named.file if form == "tree" else named.name.rpartition(".")[0]
    return tuple(folder / f"{stem}{suffix}" for suffix in SUFFIXES)


def layout_of(kind: PublishedSet, root: Path, part: str) -> Layout:
    """What there is of a part of a set below `root`."""

    def there(place: str) -> Path:
        return root / place.format(part=part)

    pairs = tuple((there(place), form) for place, form in kind.pairs if there(place).is_file())
    lists = tuple(there(place) for place in kind.lists if there(place).is_file())
    annotations = tuple(
        (there(place), form)
        for place, form in kind.annotations
        if (there(place).is_file() if form != TEXTS else there(place).is_dir() and (pairs or lists))
    )
    folders = tuple((there(place), form) for place, form in kind.folders if there(place).is_dir())
    return Layout(kind, root, part, folders, annotations, pairs, lists)
