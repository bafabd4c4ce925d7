"""What clients send in: pictures and pose files, bounded before they are decoded.

Nothing of a client's file name becomes a path: what needs a file is written under a number, in a folder that goes when
the request ends. Error texts name the file as the client does.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import FlowposeError, ImageError, PoseError
from flowpose.pose import Pose
from flowpose.pose_files import read_motion, read_poses
from flowpose.pose_files.frames import KINDS, named
from flowpose.pose_motion import Motion
from flowpose.serve.problems import Refused
from flowpose.serve.settings import MB, Limits

__all__ = ["Upload", "motion_of", "picture_of", "pose_of"]

Size = tuple[int, int]
Made = TypeVar("Made")
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".txt", ".pose", ".npy", ".npz")
FOLDERS = (".json", ".txt")  # kinds of which several files make one motion


@dataclass(frozen=True, eq=False)
class Upload:
    """A file of a client.

    Attributes:
        name: as the client calls it; shown, never opened.
        data: its bytes.
    """

    name: str
    data: bytes

    @property
    def shown(self) -> str:
        """Its name without folders and without what a terminal or page could take for more than a name."""
        last = re.split(r"[/\\]", self.name)[-1]
        return re.sub(r"[^\w .()+-]", "_", last)[:80] or "file"

    @property
    def suffix(self) -> str:
        """What its name ends with, in small letters."""
        return PurePosixPath(self.shown).suffix.lower()


def picture_of(upload: Upload, limits: Limits) -> NDArray[np.uint8]:
    """Returns the u8[h,w,3] picture in a file, whose size is read from its header before anything is decoded.

    Raises:
        Refused: too many bytes or pixels, or another kind of file.
        ImageError: a damaged picture.
    """
    where = upload.shown
    if len(upload.data) > limits.photo_mb * MB:
        raise _too_large(where, len(upload.data), limits.photo_mb, "a smaller picture")
    if image.kind_of(upload.data) is None:
        got = f"a file that begins with {upload.data[:8].hex(' ') or 'nothing'}"
        raise Refused(415, where, "not a picture that can be read", got=got, expected=image.READ)
    size = image.size_of(upload.data) or (0, 0)
    if min(size) < 1:
        raise ImageError(where, "damaged picture", got=f"{size[1]} x {size[0]} pixels", expected=image.READ)
    if size[0] * size[1] > limits.megapixels * 1e6:
        got, most = f"{size[1]} x {size[0]} pixels", f"at most {limits.megapixels:g} megapixels"
        raise Refused(413, where, "too many pixels", got=got, expected=most, fix="a smaller picture")
    return image.decode(upload.data, where)


def pose_of(upload: Upload, format: str | None, size: Size, number: int, limits: Limits) -> Pose:
    """Returns one pose of a file, or of JSON that is only rows of joints ([[x, y, score], ...]).

    Args:
        format: of rows, or where the file does not tell it.
        size: (height, width) of the canvas where the file does not give it.
        number: which pose, from 0.

    Raises:
        Refused: too large, another kind of file.
        PoseError: what is wrong with it.
        MissingDependency: a .pose file, and pose-format is not installed.
    """
    rows = _rows(upload) if upload.suffix == ".json" else None
    if rows is not None:
        return named(upload.shown, Pose.of, np.asarray(rows, object), format, size)
    with _written([upload], limits) as (path, names):
        poses = _called(names, lambda: read_poses(path, format=format, size=size))
    if not 0 <= number < len(poses):
        raise PoseError(upload.shown, "has no such pose", got=number, expected=f"0 to {len(poses) - 1}")
    return poses[number]


def motion_of(uploads: Sequence[Upload], format: str | None, size: Size, limits: Limits) -> Motion:
    """Returns the motion in a file, or in several that hold a frame each, in the order of their names.

    Raises:
        Refused: too large, too long, another kind of file.
        PoseError: what is wrong with it.
        MissingDependency: a .pose file, and pose-format is not installed.
    """
    ordered = sorted(uploads, key=lambda upload: upload.name)
    with _written(ordered, limits) as (path, names):
        motion = _called(names, lambda: read_motion(path, format=format, size=size))
    if len(motion) > limits.poses:
        fix = "send a part of it"
        raise Refused(
            413,
            ordered[0].shown,
            "too long",
            got=len(motion),
            expected=f"at most {limits.poses} poses",
            fix=fix,
        )
    return motion


def _rows(upload: Upload) -> list[Any] | None:
    """The joints of JSON that is nothing but rows of numbers; None where it is a document."""
    try:
        found = json.loads(upload.data)
    except (ValueError, RecursionError):
        return None  # the reader of files says what is wrong
    plain = isinstance(found, list) and bool(found) and all(isinstance(row, list) for row in found)
    numbers = plain and all(isinstance(value, int | float) for row in found for value in row)
    return found if numbers and all(row for row in found) else None


def _called(names: Mapping[str, str], read: Callable[[], Made]) -> Made:
    """What a reader returns; its errors name the client's files instead of the places where they were written."""
    try:
        return read()
    except FlowposeError as error:
        where, what = _renamed(error.where, names), _renamed(error.what, names)
        got, expected, fix = (
            None if part is None else _renamed(str(part), names)
            for part in (error.got, error.expected, error.fix)
        )
        raise type(error)(where, what, got=got, expected=expected, fix=fix) from error


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for place, name in names.items():
        text = text.replace(place, name)
    return text


@contextmanager
def _written(uploads: Sequence[Upload], limits: Limits) -> Iterator[tuple[Path, dict[str, str]]]:
    """The files under numbers in a folder that goes afterwards: the path to read, and each place's name in errors."""
    _check(uploads, limits)
    with tempfile.TemporaryDirectory(prefix="flowpose-serve-") as folder:
        paths = [Path(folder) / f"{i:06}{upload.suffix}" for i, upload in enumerate(uploads)]
        for path, upload in zip(paths, uploads, strict=True):
            path.write_bytes(upload.data)
        names = {str(path): upload.shown for path, upload in zip(paths, uploads, strict=True)}
        yield (
            Path(folder) if len(paths) > 1 else paths[0],
            {**names, folder: f"{uploads[0].shown} and the others"},
        )


def _check(uploads: Sequence[Upload], limits: Limits) -> None:
    first, kinds = uploads[0], {upload.suffix for upload in uploads}
    if len(kinds) > 1 or not kinds <= set(SUFFIXES if len(uploads) == 1 else FOLDERS):
        got = ", ".join(sorted(kind or "no suffix" for kind in kinds))
        raise Refused(415, first.shown, "unknown kind of pose file", got=got, expected=KINDS)
    if len(uploads) > limits.files:
        got, most = f"{len(uploads)} files", f"at most {limits.files}"
        raise Refused(413, first.shown, "too many files", got=got, expected=most, fix="send a part of them")
    total = sum(len(upload.data) for upload in uploads)
    if total > limits.poses_mb * MB:
        raise _too_large(first.shown, total, limits.poses_mb, "a part of the motion")
    if first.suffix == ".npz" and (unpacked := _unpacked(first)) > limits.poses_mb * MB:
        raise _too_large(f"{first.shown}, unpacked", unpacked, limits.poses_mb, "a part of the motion")


def _unpacked(upload: Upload) -> int:
    """Bytes that an archive says it unpacks to; zipfile unpacks no more than that."""
    try:
        with zipfile.ZipFile(BytesIO(upload.data)) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, struct.error) as error:
        raise PoseError(upload.shown, f"not a NumPy file ({error})", expected=KINDS) from error


def _too_large(where: str, got: int, most: float, fix: str) -> Refused:
    return Refused(
        413, where, "too large", got=f"{got / MB:.1f} MB", expected=f"at most {most:g} MB", fix=fix
    )
