"""Published person sets, read: the annotated pictures of a split, as `Pictures`.

What is there is told from the places it lies at (data/published_layout.py). Where a set has two files of one sort, the
first is taken and the other must say the same. Numbers of annotations count pixels from 0, so a joint is taken at its
pixel's centre, half a pixel further in flowpose's coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpose.data.pictures import BODY, Pictures
from flowpose.data.published_files import (
    JOINTS,
    Tell,
    annotation_rows,
    csv_pairs,
    delete_row,
    json_pairs,
    listed_names,
    pose_text,
    stop,
    text_pairs,
)
from flowpose.data.published_frame import Misfit, misfit
from flowpose.data.published_layout import TEXTS, AnnotationForm, Layout, PairForm, PublishedSet, layout_of
from flowpose.data.published_names import Named
from flowpose.data.published_pictures import read_pictures
from flowpose.errors import DataError, FlowposeError
from flowpose.pose import CANONICAL, Pose

Floats = NDArray[np.float32]
Say = Callable[[str], None]

HELD = 50
"""Every 50th of train's people, in the order of their names, is val and not train; without train val is test."""
SAME = 1.0  # pixels; texts hold fractions where tables hold whole numbers
PAIR_READERS: Mapping[PairForm, Callable[[Path, Tell], Iterator[tuple[str, str, str]]]] = {
    "csv": csv_pairs,
    "txt": text_pairs,
    "json": json_pairs,
}
MISFITS: Mapping[Misfit, tuple[str, str]] = {
    "padded": ("x is that of the padded picture, {padding} too large", "x of the picture without padding"),
    "unpadded": (
        "x is {padding} too small: padding was taken from numbers that had none",
        "x of the frame, or of the padded picture where the name says so",
    ),
    "swapped": ("x and y are swapped", "y before x in tables, x before y in texts"),
}
"""A mix-up of a whole file: what it is and what is expected."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """A picture with its joints.

    Attributes:
        named: which picture.
        keypoints: f32[18, 3], x and y in pixels of the set's frame, score 0 or 1.
        where: its row or file.
        sound: whether the row holds joints at all; a reader stops at one that does not, a check goes on.
    """

    named: Named
    keypoints: Floats
    where: str
    sound: bool

    @property
    def name(self) -> str:
        return self.named.name


def nobody(text: str) -> None:
    """Tells nobody."""


def read_published(
    kind: PublishedSet, root: Path, split: str, pairs: Literal["published", "all"], frame: tuple[int, int],
    say: Say = nobody,
) -> Pictures:  # fmt: skip
    """The annotated pictures of a split in a frame: those of published pairs, or all that have the joints needed.

    A published train pair is train's or val's when both its pictures are. All pictures are kept in memory, 3 x height x
    width bytes each.

    Args:
        kind: which set.
        root: its folder.
        split: train, val or test.
        pairs: the published pairs, or all pictures.
        frame: (height, width) of the pictures.
        say: gets what is taken of what is there.

    Raises:
        DataError: no such split, a file is missing or malformed, two files contradict each other, joints are of another
            frame, a pair names a picture that is not annotated.
        ImageError: a file that is no picture, or a JPEG that ends early.
    """
    layout = layout_of(kind, root, _part(kind, root, split))
    for line in layout.taken():
        say(line)
    listed = agreed_annotations(layout, stop)
    check_frame(layout, listed, stop)
    own = _own(listed, split) if layout.part == "train" else listed.keys()
    rows = None
    if pairs == "published":
        rows = [row for row in _whole(agreed_pairs(layout, stop), listed, layout) if own >= set(row)]
        met = {name for row in rows for name in row}
        chosen = [picture for picture in listed.values() if picture.name in met]
    else:
        chosen = [found for name, found in listed.items() if name in own and usable(kind, found.keypoints)]
    if not chosen:
        raise DataError(root, "the split is empty", got=split, expected="annotated pictures and pairs")
    return _pictures(layout, split, chosen, rows, frame)


def usable(kind: PublishedSet, keypoints: Floats) -> bool:
    """Whether a picture's joints suffice."""
    seen = keypoints[:, 2] > 0
    return bool(seen[list(kind.needed)].all() if kind.needed else seen.any())


def _part(kind: PublishedSet, root: Path, split: str) -> str:
    """Which of the two published parts a split is taken from."""
    if split not in ("train", "val", "test"):
        raise DataError(root, "no such split", got=split, expected="train, val or test")
    if split == "val" and not layout_of(kind, root, "train").annotations:
        return "test"
    return "test" if split == "test" else "train"


def _own(listed: Mapping[str, Annotated], split: str) -> AbstractSet[str]:
    """Names of the train pictures that are val's, or that are train's."""
    held = set(sorted({picture.named.person for picture in listed.values()})[::HELD])
    return {name for name, found in listed.items() if (found.named.person in held) == (split == "val")}


def agreed_annotations(layout: Layout, tell: Tell) -> dict[str, Annotated]:
    """Every annotated picture of a part, by name, in the order of the file taken; others are compared with it."""
    if not layout.annotations:
        tell(_missing(layout, layout.usual(layout.kind.annotations)))
        return {}
    (first, form), *others = layout.annotations
    taken = annotated_in(layout, first, form, tell)
    for path, other in others:
        _compare(first, taken, path, annotated_in(layout, path, other, tell), tell)
    return taken


def _missing(layout: Layout, path: Path) -> DataError:
    places = "img_highres" if layout.kind.name == "deepfashion" else "bounding_box_train"
    fix = f"put the published annotation and pair files beside {places}"
    return DataError(path, "the file is missing", got="no file", expected=path.name, fix=fix)


def _compare(
    first: Path, taken: Mapping[str, Annotated], second: Path, other: Mapping[str, Annotated], tell: Tell
) -> None:
    for name in taken.keys() & other.keys():
        a, b = taken[name].keypoints, other[name].keypoints
        if (a[:, 2] != b[:, 2]).any() or np.abs(a - b).max() > SAME:
            expected = f"the joints of {first}"
            fix = f"move {first.name} or {second.name} out of {first.parent}"
            tell(
                DataError(
                    second, "two annotations contradict each other", got=name, expected=expected, fix=fix
                )
            )
            return


def annotated_in(layout: Layout, path: Path, form: AnnotationForm, tell: Tell) -> dict[str, Annotated]:
    """Every picture that an annotation file, or a tree of pose texts, speaks of, by name."""
    rows = _texts(layout, path, tell) if form == TEXTS else annotation_rows(path, tell)
    shift = 0.0 if form == "csv" else float(layout.kind.padding)
    found: dict[str, Annotated] = {}
    for where, name, xy in rows:
        named = known(layout.kind, where, name, tell)
        if named is None:
            continue
        if named.name in found:
            fix = delete_row(where)
            tell(
                DataError(
                    where, "the picture is annotated twice", got=named.name, expected="one row", fix=fix
                )
            )
        found.setdefault(named.name, Annotated(named, _joints(xy, shift), where, xy is not None))
    return found


def known(kind: PublishedSet, where: str, name: str, tell: Tell) -> Named | None:
    """The picture of a name; None where there is none, which is told, and where everybody leaves it out."""
    if kind.left_out(name):
        return None
    named = kind.named(name)
    if named is None:
        fix = f"write the name as the lists do, or {delete_row(where)}"
        tell(DataError(where, "not the name of a picture", got=repr(name), expected=kind.example, fix=fix))
    return named


def _texts(layout: Layout, folder: Path, tell: Tell) -> Iterator[tuple[str, str, Floats | None]]:
    """The pose texts of the part's pictures: those that its lists name, or else its pairs; not all have one."""
    for named in part_names(layout, tell):
        path = folder / f"{named.file}.txt"
        if path.is_file():
            yield str(path), named.name, pose_text(path, tell)


def part_names(layout: Layout, tell: Tell) -> list[Named]:
    """The pictures that a part's lists name, or else its pairs, each once."""
    found: dict[str, Named] = {}
    texts = [row for path in layout.lists for row in listed_names(path, tell)]
    if not texts and layout.pairs:
        path, form = layout.pairs[0]
        tell = _left_to_others
        texts = [(where, name) for where, *both in PAIR_READERS[form](path, tell) for name in both]
    for where, text in texts:
        named = known(layout.kind, where, text, tell)
        if named is not None:
            found.setdefault(named.name, named)
    return list(found.values())


def _left_to_others(error: FlowposeError) -> None:
    """Tells nothing: whoever reads the pairs as pairs does."""


def _joints(xy: Floats | None, shift: float) -> Floats:
    """f32[18, 3] in the frame; all missing where the file has no joints."""
    if xy is None:
        return np.zeros((JOINTS, 3), np.float32)
    seen = (xy != -1).all(1)
    rows = np.column_stack([xy[:, 0] + 0.5 - shift, xy[:, 1] + 0.5, np.ones(JOINTS)])
    return np.where(seen[:, None], rows, 0).astype(np.float32)


def check_frame(layout: Layout, listed: Mapping[str, Annotated], tell: Tell) -> Misfit | None:
    """Tells a mix-up of a whole file, and returns it."""
    if not listed or not layout.annotations:
        return None
    joints = np.stack([found.keypoints for found in listed.values()])
    found = misfit(joints, layout.kind.frame, layout.kind.padding)
    if found is not None:
        path, frame = layout.annotations[0][0], layout.kind.frame
        what, expected = (text.format(padding=layout.kind.padding) for text in MISFITS[found])
        got = f"{len(listed)} pictures whose joints do not fit {frame[1]} x {frame[0]}"
        fix = _mending(found, path, layout.kind.padding)
        tell(DataError(path, what, got=got, expected=expected, fix=fix))
    return found


def _mending(found: Misfit, path: Path, padding: int) -> str:
    """The command that mends a mix-up of a whole file; of pose texts, words."""
    if found == "swapped":
        swap = f"awk -F: -v OFS=: 'NR>1{{t=$2;$2=$3;$3=t}}1' {path} > swapped && mv swapped {path}"
        return swap if path.is_file() else "write x before y"
    old, new = (
        ("-resize-annotation", "-annotation")
        if found == "padded"
        else ("n-annotation", "n-resize-annotation")
    )
    if old in path.name:
        return f"mv {path} {path.with_name(path.name.replace(old, new))}"
    return (
        f"{'take' if found == 'padded' else 'add'} {padding} {'from' if found == 'padded' else 'to'} every x"
    )


def agreed_pairs(layout: Layout, tell: Tell) -> list[tuple[str, Named, Named]]:
    """(where, source, target) of a part, in the order of the file taken; others must hold the same pairs.

    A text has the target first. Where another file has the same pairs the other way round, that file settles it.
    """
    if not layout.pairs:
        tell(_missing(layout, layout.usual(layout.kind.pairs)))
        return []
    (first, form), *others = layout.pairs
    taken = _pairs(layout, first, form, tell)
    own = {(a.name, b.name) for _, a, b in taken}
    for path, other in others:
        held = {(a.name, b.name) for _, a, b in _pairs(layout, path, other, tell)}
        turned = {(b, a) for a, b in held} if other == "txt" else held
        if own not in (held, turned):
            got, expected = (
                f"{len(held - own)} other pairs of {len(held)}",
                f"the {len(own)} pairs of {first}",
            )
            fix = f"move {first.name} or {path.name} out of {first.parent}"
            tell(DataError(path, "two pair files contradict each other", got=got, expected=expected, fix=fix))
    return taken


def _pairs(layout: Layout, path: Path, form: PairForm, tell: Tell) -> list[tuple[str, Named, Named]]:
    found = []
    for where, *both in PAIR_READERS[form](path, tell):
        source, target = (known(layout.kind, where, name, tell) for name in both)
        if source is not None and target is not None:
            found.append((where, source, target))
    return found


def _whole(
    rows: Sequence[tuple[str, Named, Named]], listed: Mapping[str, Annotated], layout: Layout
) -> Iterator[tuple[str, str]]:
    """(source, target) names, all of which are annotated."""
    for where, *both in rows:
        for named in both:
            if named.name not in listed:
                fix = f"flowpose data check {layout.root}"
                raise DataError(where, "a picture without an annotation", got=named.name, fix=fix)
        yield both[0].name, both[1].name


def _pictures(
    layout: Layout,
    split: str,
    chosen: Sequence[Annotated],
    rows: Sequence[tuple[str, str]] | None,
    frame: tuple[int, int],
) -> Pictures:
    number = {picture.name: i for i, picture in enumerate(chosen)}
    pairs = None if rows is None else np.array([[number[name] for name in row] for row in rows], np.int64)
    images, digests = read_pictures(layout, [(each.named, each.keypoints) for each in chosen], frame)
    poses = [pose_of(layout.kind, picture.keypoints) for picture in chosen]
    return Pictures(
        split=split,
        images=images,
        keypoints=np.stack([pose.fit(*frame).array() for pose in poses]),
        identities=np.unique([picture.named.outfit for picture in chosen], return_inverse=True)[1].astype(
            np.int64
        ),
        names=tuple(number),
        pairs=pairs,
        digests=digests,
        read_bodies=np.stack([pose.array()[:BODY] for pose in poses]),
    )


def pose_of(kind: PublishedSet, rows: Floats) -> Pose:
    """The pose in pixels of the set's frame; joints outside the picture are missing."""
    return Pose.of(rows, "openpose-18", kind.frame).to(CANONICAL).inside()
