"""The people format (tars or folders with annotations.json) gone through before any training."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from flowpose import image
from flowpose.data.checked import Checked, Findings, Shown, few
from flowpose.data.folder import ANNOTATIONS, pose_in
from flowpose.data.pictures import BODY
from flowpose.errors import DataError, FlowposeError
from flowpose.metrics.pose import LEAST
from flowpose.pose import CANONICAL, Pose

SPLITS = ("train", "val", "test")  # nobody may be in two of these
PART = re.compile(
    r"(.+?)(-\d\d?)?(\.tar)?"
)  # of `train-0.tar` the split is train; `test-512.tar` is one by itself
PICTURES = image.WRITTEN
SIDEWAYS = 0.7  # share of people that lie rather than stand, above which x and y are swapped
FEW = 5
SHOULDERS, HIPS = (5, 6), (11, 12)
UNPACK = "copy the part again"
Json = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """An annotation that can be read.

    Attributes:
        where: its place.
        file: of its picture, in the part.
        identity: who.
        pose: in pixels of the picture.
        joints: how many of the body's 17 a reader takes.
    """

    where: str
    file: str
    identity: str
    pose: Pose
    joints: int


@dataclass(frozen=True)
class Members:
    """What a tar or a folder holds: names, and the bytes of one."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Part:
    """A tar or folder as it was read; `split` is whose part it is."""

    path: Path
    split: str
    people: tuple[Person, ...]


def parts_of(root: Path) -> tuple[Path, ...]:
    """The tars and folders of a set in the people format: the path itself, or those in it."""
    if root.suffix == ".tar" or (root / ANNOTATIONS).is_file():
        return (root,)
    if not root.is_dir():
        return ()
    return tuple(p for p in sorted(root.iterdir()) if p.suffix == ".tar" or (p / ANNOTATIONS).is_file())


def check_people(root: Path) -> Checked:
    """Everything that is wrong with the tars and folders of a set, with counts; every picture is decoded."""
    found = Findings()
    parts = [_part(path, found) for path in parts_of(root)]
    people: dict[str, list[Person]] = {}
    for part in parts:
        people.setdefault(part.split, []).extend(part.people)
    _overlap(root, people, found)
    for split, persons in people.items():
        _company(root, split, persons, found)
        _sparse(persons, found)
    return Checked(
        kind="people",
        path=root,
        taken=tuple(f"{part.split}: {part.path}" for part in parts),
        counts={split: _counts(persons) for split, persons in people.items()},
        published={},
        problems=tuple(found.problems),
        notes=tuple(found.notes),
        show=partial(_shown, parts),
    )


@contextmanager
def _opened(path: Path) -> Iterator[Members]:
    if path.is_dir():
        names = tuple(p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if p.is_file())
        yield Members(names, lambda name: (path / name).read_bytes())
        return
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar if member.isfile()}

        def read(name: str) -> bytes:
            file = tar.extractfile(members[name])
            assert file is not None, "only files are kept"
            return file.read()

        yield Members(tuple(members), read)


def _part(path: Path, found: Findings) -> Part:
    match = PART.fullmatch(path.name)
    assert match is not None, "it matches any name"
    try:
        with _opened(path) as members:
            people = _people(path, members, found)
    except (OSError, tarfile.TarError) as error:
        got, expected = " ".join(str(error).split()), "a plain tar"
        found.fault(path, "not a readable tar", got=got, expected=expected, fix="copy the file again")
        people = []
    return Part(path, match[1], tuple(people))


def _people(path: Path, members: Members, found: Findings) -> list[Person]:
    place = f"{path}/{ANNOTATIONS}"
    coco = _coco(place, members, found)
    if coco is None:
        return []
    files = _files(place, coco["images"], found)
    sizes = _pictures(path, members, files, found)
    people = []
    for number, annotation in enumerate(coco["annotations"]):
        person = _person(f"{place} annotations[{number}]", annotation, files, sizes, found)
        if person is not None:
            people.append(person)
    if not coco["annotations"]:
        found.fault(place, "no annotations", got="0 people", expected="1 or more", fix=UNPACK)
    _repeated(people, found)
    _swapped(place, people, found)
    _unannotated(path, members, files, coco["annotations"], found)
    return people


def _coco(place: str, members: Members, found: Findings) -> Json | None:
    expected = "a COCO keypoint file with lists `images` and `annotations`"
    try:
        coco = json.loads(members.read(ANNOTATIONS))
        if isinstance(coco["images"], list) and isinstance(coco["annotations"], list):
            return dict(coco)
        got = "no lists"
    except (KeyError, OSError, TypeError, ValueError, RecursionError) as error:
        got = repr(error)[:80]
    found.fault(place, "not a COCO keypoint file", got=got, expected=expected, fix=UNPACK)
    return None


def _files(place: str, entries: Sequence[Any], found: Findings) -> dict[Any, Json]:
    """The entries of `images` by id."""
    files: dict[Any, Json] = {}
    names: set[str] = set()
    for number, entry in enumerate(entries):
        where = f"{place} images[{number}]"
        keys = ("id", "file_name", "height", "width")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), int | str) for key in keys):
            found.fault(
                where, "not a picture's entry", got=repr(entry)[:80], expected=", ".join(keys), fix=UNPACK
            )
            continue
        if entry["id"] in files or entry["file_name"] in names:
            fix = f"delete {where}"
            found.fault(where, "a picture stands twice", got=entry["file_name"], expected="once", fix=fix)
        files[entry["id"]] = entry
        names.add(entry["file_name"])
    return files


def _pictures(
    path: Path, members: Members, files: Mapping[Any, Json], found: Findings
) -> dict[str, tuple[int, int]]:
    """(height, width) of the pictures that can be read, by name; the others, and wrong sizes, are told."""
    sizes, there = {}, set(members.names)
    for entry in files.values():
        name, said = entry["file_name"], (entry["height"], entry["width"])
        if name not in there:
            found.fault(f"{path}/{name}", "the picture is missing", got="no file", expected=name, fix=UNPACK)
            continue
        try:
            picture = image.decode(members.read(name), f"{path}/{name}")
        except FlowposeError as error:
            found.tell(DataError(error.where, error.what, got=error.got, expected=error.expected, fix=UNPACK))
            continue
        sizes[name] = (picture.shape[0], picture.shape[1])
        if sizes[name] != said:
            got, expected = "{} x {}".format(*sizes[name]), "{} x {} (height x width)".format(*said)
            fix = "scale the picture, or correct height, width and keypoints"
            found.fault(f"{path}/{name}", "a picture of another size", got=got, expected=expected, fix=fix)
    return sizes


def _person(
    where: str,
    annotation: Any,
    files: Mapping[Any, Json],
    sizes: Mapping[str, tuple[int, int]],
    found: Findings,
) -> Person | None:
    expected = "image_id of an image, identity, and keypoints x, y, v"
    fix = f"delete {where}, or complete it"
    try:
        entry = files[annotation["image_id"]]
        identity, keypoints = str(annotation["identity"]), annotation["keypoints"]
    except (KeyError, TypeError) as error:
        found.fault(where, "not a person in a picture", got=repr(error), expected=expected, fix=fix)
        return None
    size = sizes.get(entry["file_name"], (entry["height"], entry["width"]))
    try:
        pose = Pose.coco(np.asarray(keypoints, np.float32), size)
        joints = int((pose_in(annotation, size).score[:BODY] > 0).sum())
    except (FlowposeError, TypeError, ValueError) as error:
        count = len(keypoints) if isinstance(keypoints, list) else type(keypoints).__name__
        expected = "17 or 133 triples x, y, v"
        found.fault(where, f"not joints ({error})", got=f"{count} numbers", expected=expected, fix=fix)
        return None
    _joints(where, entry["file_name"], pose, size, found)
    return Person(where, entry["file_name"], identity, pose, joints)


def _joints(where: str, name: str, pose: Pose, size: tuple[int, int], found: Findings) -> None:
    given = pose.score > 0
    if not given.any():
        fix = f"annotate {name} again, or delete {where}"
        found.fault(where, "all joints are missing", got=name, expected="joints with v > 0", fix=fix)
    limit = np.array([size[1], size[0]], np.float32)
    beyond = np.flatnonzero(given & ((pose.xy < 0) | (pose.xy > limit)).any(1))
    if len(beyond):
        x, y = pose.xy[beyond[0]].tolist()
        got = f"joint {beyond[0]} at ({x:g}, {y:g}), {len(beyond)} in all"
        expected = f"0 to {size[1]} in x, 0 to {size[0]} in y"
        fix = f"annotate {name} again, or give these joints v = 0"
        found.fault(f"{where} ({name})", "joints outside the frame", got=got, expected=expected, fix=fix)


def _repeated(people: Sequence[Person], found: Findings) -> None:
    seen: set[tuple[str, str]] = set()
    for person in people:
        key = (person.file, person.identity)
        if key in seen:
            fix = f"delete {person.where}"
            found.fault(person.where, "the person is annotated twice", got=key[0], expected="once", fix=fix)
        seen.add(key)


def _swapped(place: str, people: Sequence[Person], found: Findings) -> None:
    """Whether most lie on their side: hips more beside the shoulders than below them."""
    bodies = [person.pose.to(CANONICAL) for person in people]
    whole = [pose.xy for pose in bodies if (pose.score[[*SHOULDERS, *HIPS]] > 0).all()]
    if len(whole) < FEW:
        return
    xy = np.stack(whole)
    spine = np.abs(xy[:, HIPS].mean(1) - xy[:, SHOULDERS].mean(1))
    lying = float((spine[:, 0] > spine[:, 1]).mean())
    if lying > SIDEWAYS:
        got = f"{lying:.0%} of {len(whole)} people lie on their side"
        found.fault(
            place, "x and y are swapped", got=got, expected="x, y, v", fix="swap x and y of all keypoints"
        )


def _unannotated(
    path: Path, members: Members, files: Mapping[Any, Json], annotations: Sequence[Any], found: Findings
) -> None:
    told = [each.get("image_id") for each in annotations if isinstance(each, dict)]
    named = {files[each]["file_name"] for each in told if isinstance(each, int | str) and each in files}
    for name in members.names:
        if name not in named and Path(name).suffix.lower() in PICTURES:
            expected, fix = f"in {ANNOTATIONS}", f"annotate it, or delete {path}/{name}"
            found.fault(
                f"{path}/{name}", "a picture without an annotation", got=name, expected=expected, fix=fix
            )


def _overlap(root: Path, people: Mapping[str, Sequence[Person]], found: Findings) -> None:
    who = {split: {each.identity for each in people[split]} for split in SPLITS if split in people}
    for first, second in combinations(who, 2):
        for identity in sorted(who[first] & who[second]):
            fix = f"delete the person from {first}, or give two people two names"
            found.fault(f"{root} ({identity})", f"a person of both {first} and {second}", got=identity,
                        expected="in one of them", fix=fix)  # fmt: skip


def _company(root: Path, split: str, persons: Sequence[Person], found: Findings) -> None:
    """Pairs need two pictures of a person."""
    counts = _pictures_of(persons)
    alone = sorted(identity for identity, files in counts.items() if len(files) < 2)
    if counts and len(alone) == len(counts):
        fix = "give pictures of one person one identity"
        found.fault(f"{root} ({split})", "no pairs", got=f"{len(counts)} people with one picture each",
                    expected="two pictures of somebody", fix=fix)  # fmt: skip
    elif alone:
        found.note(f"{split}: {len(alone)} people have one picture, which is in no pair: {few(alone)}")


def _sparse(persons: Sequence[Person], found: Findings) -> None:
    """Pictures that may be in a pair and that no score can be made for; those without any joint are told already."""
    counts = _pictures_of(persons)
    for person in persons:
        if person.pose.score.any() and person.joints < LEAST and len(counts[person.identity]) > 1:
            got, expected = f"{person.joints} of the body's {BODY}", f"{LEAST} or more where a pair can be drawn"
            fix = f"annotate {person.file} again, or delete {person.where}"
            found.fault(
                f"{person.where} ({person.file})", "too few joints", got=got, expected=expected, fix=fix
            )


def _pictures_of(persons: Sequence[Person]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for person in persons:
        found.setdefault(person.identity, []).append(person.file)
    return found


def _counts(persons: Sequence[Person]) -> dict[str, int]:
    each = [len(files) for files in _pictures_of(persons).values()]
    pictures = len({(person.where.partition(" ")[0], person.file) for person in persons})
    return {
        "people": len(each),
        "pictures": pictures,
        "annotated": len(persons),
        "pairs": sum(n * (n - 1) for n in each),
    }


def _shown(parts: Sequence[Part], count: int) -> list[Shown]:
    """A pair of each of some identities, spread over the parts."""
    shown: list[Shown] = []
    for part in parts:
        groups: dict[str, list[Person]] = {}
        for person in part.people:
            groups.setdefault(person.identity, []).append(person)
        pairs = [group[:2] for group in groups.values() if len(group) > 1]
        picks = np.linspace(0, len(pairs) - 1, min(-(-count // len(parts)), len(pairs))).astype(int)
        with _opened(part.path) if len(pairs) else _nothing() as members:
            for source, target in (pairs[at] for at in picks):
                shown += _row(members, source, target)
    return shown[:count]


@contextmanager
def _nothing() -> Iterator[Members]:
    yield Members((), lambda name: b"")


def _row(members: Members, source: Person, target: Person) -> list[Shown]:
    try:
        a, b = (image.decode(members.read(person.file), person.file) for person in (source, target))
    except (FlowposeError, KeyError, OSError):  # it is among the problems
        return []
    return [(a, target.pose.to(CANONICAL).array(), b)]
