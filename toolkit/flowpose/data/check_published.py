"""A published person set gone through before any training: all that is missing or inconsistent, at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpose.data.check_pictures import check_pictures
from flowpose.data.checked import Checked, Findings, Shown, few
from flowpose.data.pictures import BODY
from flowpose.data.published import (
    Annotated,
    agreed_annotations,
    agreed_pairs,
    check_frame,
    known,
    pose_of,
)
from flowpose.data.published_files import delete_row, listed_names
from flowpose.data.published_frame import outside
from flowpose.data.published_layout import PARTS, SUFFIXES, TEXTS, Layout, PublishedSet, layout_of
from flowpose.data.published_names import Named
from flowpose.data.published_pictures import decoded, in_frame, read_bytes, stretched
from flowpose.errors import FlowposeError
from flowpose.image import Picture
from flowpose.metrics.pose import LEAST, comparable

WHOLE = 0.5  # share of the published numbers from which a set is taken for the whole one
MOST_MISSING = 0.5  # share of pictures without any joint, from which it is the estimator that failed
READ_SUFFIXES = (".csv", ".txt", ".json", ".lst")
NEAR = 0.9  # of difflib: a file with a name that near to one that is read is a slip


@dataclass(frozen=True)
class Part:
    """A part of a set as it was read.

    Attributes:
        layout: what there is.
        listed: annotated pictures by name.
        pairs: (where, source, target).
        names: names in the part's lists.
    """

    layout: Layout
    listed: Mapping[str, Annotated]
    pairs: Sequence[tuple[str, Named, Named]]
    names: Mapping[str, Named]

    def pictures(self) -> dict[str, Named]:
        """Every picture that a file of the part names."""
        paired = {named.name: named for _, *both in self.pairs for named in both}
        annotated = {name: found.named for name, found in self.listed.items()}
        return {**annotated, **paired, **self.names}


def check_published(kind: PublishedSet, root: Path) -> Checked:
    """Everything that is wrong with a set below `root`, both parts, with counts; every picture is decoded."""
    found = Findings()
    _spellings(kind, root, found)
    layouts = [layout_of(kind, root, part) for part in PARTS]
    layouts = [each for each in layouts if each.annotations or each.pairs or each.lists] or layouts[1:]
    parts = [_part(layout, found) for layout in layouts]
    _overlap(parts, found)
    _strays(parts, found)
    counts = {part.layout.part: _counts(part) for part in parts}
    return Checked(
        kind=kind.name,
        path=root,
        taken=tuple(line for layout in layouts for line in layout.taken()),
        counts=counts,
        published=_published(kind, counts, found),
        problems=tuple(found.problems),
        notes=tuple(found.notes),
        show=partial(_shown, parts),
    )


def _spellings(kind: PublishedSet, root: Path, found: Findings) -> None:
    """Files whose names are nearly those that are read."""
    places = [place for place, _ in (*kind.annotations, *kind.pairs)] + list(kind.lists)
    read = [place.format(part=part) for place in places for part in PARTS]
    for path in sorted(root.iterdir()):
        if path.suffix.lower() not in READ_SUFFIXES or path.name in read or not path.is_file():
            continue
        near = difflib.get_close_matches(path.name.lower().replace("_", "-"), read, 1, NEAR)
        near = near or difflib.get_close_matches(path.name.lower(), read, 1, NEAR)
        if near:
            fix = f"mv {path} {root / near[0]}"
            found.fault(path, "a name that is not read", got=path.name, expected=near[0], fix=fix)


def _part(layout: Layout, found: Findings) -> Part:
    listed = agreed_annotations(layout, found.tell)
    pairs = agreed_pairs(layout, found.tell)
    names = _lists(layout, found)
    part = Part(layout, listed, pairs, names)
    if layout.annotations and not listed:
        path, _ = layout.annotations[0]
        fix = f"put the published {path.name} there again"
        found.fault(path, "no annotations", got="0 pictures", expected="1 or more", fix=fix)
    _joints(part, found)
    _pairs(part, found)
    _members(part, found)
    check_pictures(layout, part.pictures(), found)
    return part


def _lists(layout: Layout, found: Findings) -> dict[str, Named]:
    names: dict[str, Named] = {}
    for path in layout.lists:
        rows = list(listed_names(path, found.tell))
        if not rows:
            fix = f"put the published {path.name} there again, or delete it"
            found.fault(path, "an empty list", got="0 names", expected="1 or more", fix=fix)
        for where, text in rows:
            named = known(layout.kind, where, text, found.tell)
            if named is not None and named.name in names:
                fix = f"sort -u {path} -o {path}"
                found.fault(where, "a name stands twice", got=named.name, expected="once", fix=fix)
            if named is not None:
                names[named.name] = named
    return names


def _joints(part: Part, found: Findings) -> None:
    """Joints outside the frame, people without joints, mix-ups of whole files."""
    kind = part.layout.kind
    paired = {named.name for _, *both in part.pairs for named in both}
    if check_frame(part.layout, part.listed, found.tell) is None:
        for picture in part.listed.values():
            _outside(kind, picture, found)
        _sparse(part, paired, found)
    bare = [each for each in part.listed.values() if each.sound and not (each.keypoints[:, 2] > 0).any()]
    if bare and len(bare) >= MOST_MISSING * len(part.listed):
        got = f"{len(bare)} of {len(part.listed)} pictures without any joint"
        fix = "run another pose estimator, or take the published annotations: the Keras one writes -1 everywhere"
        path = part.layout.annotations[0][0]
        found.fault(
            path, "all joints are -1: the estimator failed", got=got, expected="people's joints", fix=fix
        )
        return
    for picture in bare:
        if picture.name in paired:
            fix = f"annotate {picture.name} again, or delete its pairs"
            expected = "joints of a picture that is in a pair"
            found.fault(picture.where, "all joints are -1", got=picture.name, expected=expected, fix=fix)
    alone = [picture.name for picture in bare if picture.name not in paired]
    if alone:
        found.note(f"{part.layout.part}: {len(alone)} pictures without any joint, in no pair: {few(alone)}")


def _sparse(part: Part, paired: AbstractSet[str], found: Findings) -> None:
    """Pictures of pairs that no score can be made for; those without any joint are told already."""
    for picture in part.listed.values():
        if picture.name not in paired or not (picture.keypoints[:, 2] > 0).any():
            continue
        joints = pose_of(part.layout.kind, picture.keypoints).array()
        if not comparable(joints):
            got = f"{int((joints[:BODY, 2] > 0).sum())} of the body's {BODY} inside the frame"
            expected = f"{LEAST} or more of a picture that is in a pair"
            fix = f"annotate {picture.name} again, or delete its pairs"
            found.fault(
                f"{picture.where} ({picture.name})", "too few joints", got=got, expected=expected, fix=fix
            )


def _outside(kind: PublishedSet, picture: Annotated, found: Findings) -> None:
    joints = picture.keypoints
    beyond = np.flatnonzero(outside(joints, kind.frame))
    if not len(beyond):
        return
    x, y = joints[beyond[0], :2].tolist()
    got = f"joint {beyond[0]} at ({x - 0.5:g}, {y - 0.5:g}), {len(beyond)} in all"
    expected = f"0 to {kind.frame[1] - 1} in x, 0 to {kind.frame[0] - 1} in y"
    fix = f"{_guess(kind, joints)} annotate the picture again"
    found.fault(
        f"{picture.where} ({picture.name})", "joints outside the frame", got=got, expected=expected, fix=fix
    )


def _guess(kind: PublishedSet, joints: NDArray[np.float32]) -> str:
    """What would bring a row's joints inside."""
    turned = joints[:, [1, 0, 2]]
    if not outside(turned, kind.frame).any():
        return "swap the row's x and y, or"
    for shift, words in (
        (-kind.padding, "take {} from the row's x, or"),
        (kind.padding, "add {} to the row's x, or"),
    ):
        if shift and not outside(joints + np.array([shift, 0, 0], np.float32), kind.frame).any():
            return words.format(kind.padding)
    return "correct the row, or"


def _pairs(part: Part, found: Findings) -> None:
    if part.layout.pairs and not part.pairs:
        path, _ = part.layout.pairs[0]
        fix = f"put the published {path.name} there again"
        found.fault(path, "no pairs", got="0 pairs", expected="1 or more", fix=fix)
    seen: dict[tuple[str, str], str] = {}
    for where, source, target in part.pairs:
        key = (source.name, target.name)
        if key in seen:
            fix = delete_row(where)
            found.fault(
                where, "a pair stands twice", got=",".join(key), expected=f"once, at {seen[key]}", fix=fix
            )
        seen.setdefault(key, where)
        _pair(where, source, target, found)
        for named in (source, target) if part.listed else ():
            if named.name not in part.listed:
                path, fix = part.layout.annotations[0][0], f"annotate {named.name}, or {delete_row(where)}"
                found.fault(
                    where, "a picture without an annotation", got=named.name, expected=f"in {path}", fix=fix
                )


def _pair(where: str, source: Named, target: Named, found: Findings) -> None:
    fix = delete_row(where)
    if source.name == target.name:
        found.fault(
            where, "a pair of a picture with itself", got=source.name, expected="two pictures", fix=fix
        )
    elif source.person != target.person:
        got = f"{source.person} and {target.person}"
        found.fault(where, "a pair of two people", got=got, expected="pictures of one", fix=fix)


def _members(part: Part, found: Findings) -> None:
    """Lists and annotations name the same pictures; of pose texts it is known that not all have one."""
    if not part.names or not part.listed:
        return
    path, form = part.layout.annotations[0]
    lacking = [name for name in part.names if name not in part.listed]
    if form == TEXTS:
        if lacking:
            found.note(
                f"{part.layout.part}: {len(lacking)} listed pictures have no pose text: {few(lacking)}"
            )
        lacking = []
    for name in lacking:
        fix = f"annotate it, or sed -i '/^{name}$/d' {part.layout.lists[0]}"
        found.fault(f"{part.layout.lists[0]} ({name})", "a picture without an annotation", got=name,
                    expected=f"in {path}", fix=fix)  # fmt: skip
    for name, each in part.listed.items():
        if name not in part.names:
            expected, fix = f"in {part.layout.lists[0]}", f"list the picture, or {delete_row(each.where)}"
            found.fault(
                each.where, "an annotation of an unknown picture", got=name, expected=expected, fix=fix
            )


def _overlap(parts: Sequence[Part], found: Findings) -> None:
    """People who are in both parts."""
    if len(parts) < 2:
        return
    first, second = ({n.person: n.name for n in part.pictures().values()} for part in parts)
    for person in sorted(first.keys() & second.keys()):
        where = f"{parts[0].layout.root} ({person})"
        got = f"{first[person]} in {parts[0].layout.part}, {second[person]} in {parts[1].layout.part}"
        fix = f"delete the person's rows from the files of {parts[0].layout.part}"
        found.fault(where, "a person of both train and test", got=got, expected="of one of them", fix=fix)


def _strays(parts: Sequence[Part], found: Findings) -> None:
    """Pictures on disk that no file names: of people who are annotated otherwise, and of others."""
    named = {name for part in parts for name in part.pictures()}
    people = {each.named.person for part in parts for each in part.listed.values()}
    texts = any(form == TEXTS for part in parts for _, form in part.layout.annotations[:1])
    others = []
    for layout, file, picture in _on_disk(parts):
        if picture.name in named:
            continue
        if picture.person in people and not texts:
            path, fix = layout.annotations[0][0], f"annotate it, or rm {file}"
            found.fault(
                file, "a picture without an annotation", got=picture.name, expected=f"in {path}", fix=fix
            )
        else:
            others.append(picture.name)
    if others:
        found.note(f"{len(others)} pictures that no file names: {few(others)}")


def _on_disk(parts: Sequence[Part]) -> Iterator[tuple[Layout, Path, Named]]:
    met = set()
    for part in parts:
        for folder, _ in part.layout.folders[:1]:
            for file in sorted(folder.rglob("*")):
                if file in met or file.suffix not in SUFFIXES or part.layout.kind.left_out(file.name):
                    continue
                met.add(file)
                named = part.layout.kind.named(file.as_posix())
                if named is not None:
                    yield part.layout, file, named


def _counts(part: Part) -> dict[str, int]:
    pictures = part.pictures().values()
    return {
        "people": len({named.person for named in pictures}),
        "outfits": len({named.outfit for named in pictures}),
        "pictures": len(pictures),
        "annotated": len(part.listed),
        "pairs": len(part.pairs),
    }


def _published(
    kind: PublishedSet, counts: Mapping[str, Mapping[str, int]], found: Findings
) -> dict[str, dict[str, int]]:
    """The published numbers of the parts that look whole; where they differ, a note says so."""
    looks = {part: numbers for part, numbers in kind.counts.items()
             if part in counts and counts[part]["pairs"] >= WHOLE * numbers["pairs"]}  # fmt: skip
    for part, numbers in looks.items():
        for what, count in numbers.items():
            if counts[part][what] != count:
                found.note(f"{part}: {counts[part][what]:,} {what}, published are {count:,}")
    return looks


def _shown(parts: Sequence[Part], count: int) -> list[Shown]:
    """Pairs spread over the parts' files, of pictures that can be read."""
    shown: list[Shown] = []
    for part in parts:
        fit = [(a, b) for _, a, b in part.pairs if b.name in part.listed and part.listed[b.name].sound]
        for at in np.linspace(0, len(fit) - 1, min(-(-count // len(parts)), len(fit))).astype(int):
            shown += _row(part, *fit[at])
    return shown[:count]


def _row(part: Part, source: Named, target: Named) -> list[Shown]:
    try:
        a, b = (_fitted(part.layout, named) for named in (source, target))
    except FlowposeError:  # it is among the problems
        return []
    return [(a, pose_of(part.layout.kind, part.listed[target.name].keypoints).array(), b)]


def _fitted(layout: Layout, named: Named) -> Picture:
    data, file = read_bytes(layout, named)
    return stretched(layout, in_frame(layout, decoded(layout, data, file), file), layout.kind.frame)
