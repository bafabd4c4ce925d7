"""Pictures with COCO keypoints, in tars or folders: `<split>*.tar` or `<split>*/`, each with annotations.json.

`annotations.json` is a COCO keypoint file whose annotations also give `identity`. Covered face points are
treated as missing, as a detector would return them; covered body joints are kept.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.data.pictures import BODY, Pictures, content_digest
from flowpose.errors import DataError, PoseError
from flowpose.pose import Pose

ANNOTATIONS = "annotations.json"
FACE = np.array([0, 1, 2, 3, 4, *range(23, 91)])
LARGEST = 1 << 29  # bytes of a picture, or of annotations
Reader = Callable[[str], bytes]


def locate(path: str, roots: Sequence[Path]) -> Path:
    """The folder named by `path`: itself if it exists, else below one of `roots`.

    Raises:
        DataError: it is nowhere, with the places looked at.
    """
    candidates = [Path(path), *(root / path for root in roots)]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = ", ".join(str(c) for c in candidates)
    raise DataError(path, "no such data set", expected=f"a folder at one of {places}", fix="--data DIR")


@contextmanager
def _opened(part: Path) -> Iterator[Reader]:
    """A function that returns the bytes of a member of a tar or folder."""
    if part.is_dir():
        yield lambda name: _below(part, name)
        return
    try:
        with tarfile.open(part, "r:") as tar:  # never a compressed one: kilobytes of it can be gigabytes
            yield lambda name: _member(tar, name)
    except tarfile.TarError as error:
        why = " ".join(str(error).split())
        raise DataError(part, f"not a readable tar ({why})", fix="copy the file again") from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    info = tar.getmember(name)
    if info.islnk():  # tar's own short form for a file that it has twice
        info = tar.getmember(info.linkname)
    if not info.isreg() or info.issparse():
        raise DataError(tar.name, "not a plain file", got=name)
    _check_size(f"{tar.name!s}/{name}", info.size)
    found = tar.extractfile(info)
    assert found is not None
    return found.read()


def _below(part: Path, name: str) -> bytes:
    """A file of a folder, which may not lead out of it; a pipe or a device would never end."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(part, "a file outside the folder", got=name, expected="a relative path without ..")
    if not (part / name).is_file():
        raise FileNotFoundError(name)
    _check_size(part / name, (part / name).stat().st_size)
    return (part / name).read_bytes()


def _check_size(where: object, size: int) -> None:
    if size > LARGEST:
        raise DataError(where, "too large", got=f"{size} bytes", expected=f"{LARGEST} at most")


def _parts(root: Path, split: str) -> list[Path]:
    """Tars and folders of a split: `val.tar`, `train-0.tar`, `train-1.tar`, `test/`; never `test-512.tar`."""
    names = [split, *(f"{split}-{i}" for i in range(100))]
    parts = [p for name in names for p in (root / f"{name}.tar", root / name) if p.exists()]
    if not parts:
        raise DataError(root, "no such split", got=split, expected=f"{split}.tar, {split}-0.tar or {split}/")
    return parts


@dataclass(frozen=True, eq=False)
class _Person:
    """One annotation and its picture, which is fitted into the frame; the pose is that of the file."""

    picture: NDArray[np.uint8]
    pose: Pose
    identity: str
    name: str
    digest: str


def pose_in(annotation: Mapping[str, Any], size: tuple[int, int]) -> Pose:
    """The pose of coco-wholebody-133 in pixels of the annotation's own picture."""
    with np.errstate(over="ignore"):  # becomes infinite, which Pose refuses
        raw = np.asarray(annotation["keypoints"], np.float32).reshape(-1, 3)
    seen = raw[:, 2] > 0
    if len(raw) == 133:
        seen[FACE] = raw[FACE, 2] == 2
    rows = np.where(seen[:, None], raw, 0)
    rows[:, 2] = seen
    return Pose.of(rows, size=size).to("coco-wholebody-133")


def _read_part(part: Path, frame: tuple[int, int]) -> Iterator[_Person]:
    with _opened(part) as read:
        try:
            coco = json.loads(read(ANNOTATIONS))
            files = {entry["id"]: entry for entry in coco["images"]}
            annotations = coco["annotations"]
        except (KeyError, OSError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{part}/{ANNOTATIONS}", f"not a COCO keypoint file ({error!r})") from error
        for number, annotation in enumerate(annotations):
            place = f"{part}/{ANNOTATIONS} annotations[{number}]"
            file, pose, identity = _person(annotation, files, place)
            try:
                data = read(file)
            except (KeyError, OSError, ValueError) as error:  # ValueError: a NUL in the name
                raise DataError(f"{part}/{file}", "the picture is missing") from error
            picture = image.fit(image.decode(data, f"{part}/{file}"), *frame)
            digest = content_digest(data, np.append(annotation["keypoints"], list(pose.size or ())))
            yield _Person(picture, pose, identity, f"{part.stem}/{file}", digest)


def _person(
    annotation: dict[str, Any], files: Mapping[Any, dict[str, Any]], where: str
) -> tuple[str, Pose, str]:
    """An annotation's picture, pose and identity."""
    try:
        entry = files[annotation["image_id"]]
        pose = pose_in(annotation, (entry["height"], entry["width"]))
        return entry["file_name"], pose, str(annotation["identity"])
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        expected = "image_id of an image, identity, and keypoints x, y, v"
        raise DataError(where, f"not a person in a picture ({error!r})", expected=expected) from error
    except PoseError as error:
        raise error.at(f"{where}: {error.where}") from error


def read_folder(root: Path, split: str, height: int, width: int) -> Pictures:
    """All pictures of a split, letterboxed to height x width.

    Raises:
        DataError: no such split, an empty one, a broken tar, annotations that are no COCO keypoints, a missing
            picture.
        ImageError: a file that is no picture.
        PoseError: keypoints that are no pose.
    """
    rows = [row for part in _parts(root, split) for row in _read_part(part, (height, width))]
    if not rows:
        raise DataError(root, "the split is empty", got=split, expected=f"annotated people in {ANNOTATIONS}")
    names = {identity: number for number, identity in enumerate(sorted({row.identity for row in rows}))}
    return Pictures(
        split=split,
        images=np.stack([row.picture for row in rows]),
        keypoints=np.stack([row.pose.fit(height, width).array() for row in rows]),
        identities=np.array([names[row.identity] for row in rows]),
        names=tuple(row.name for row in rows),
        digests=tuple(row.digest for row in rows),
        read_bodies=np.stack([row.pose.array()[:BODY] for row in rows]),
    )
