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
from flowpose.pose_files.frames import KINDS
from flowpose.pose_motion import Motion
from flowpose.serve.problems import Refused
from flowpose.serve.settings import MB, Limits

__all__ = ["Upload", "motion_of", "picture_of", "pose_of"]

Size = tuple[int, int]
Made = TypeVar("Made")
PICTURES = "PNG, JPEG, WebP or BMP"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".txt", ".pose", ".npy", ".npz")
FOLDERS = (".json", ".txt")  # kinds of which several files make one motion
FRAME_MARKERS = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))


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
    size = next((read(upload.data) for told, read in HEADERS.items() if _starts(upload.data, told)), None)
    if size is None:
        got = f"a file that begins with {upload.data[:8].hex(' ') or 'nothing'}"
        raise Refused(415, where, "not a picture that can be read", got=got, expected=PICTURES)
    if min(size) < 1:
        raise ImageError(where, "damaged picture", got=f"{size[1]} x {size[0]} pixels", expected=PICTURES)
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
        return _called(upload, "", lambda: Pose.of(np.asarray(rows, object), format, size))
    with _written([upload], limits) as (path, told):
        poses = _called(upload, told, lambda: read_poses(path, format=format, size=size))
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
    with _written(ordered, limits) as (path, told):
        motion = _called(ordered[0], told, lambda: read_motion(path, format=format, size=size))
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


def _called(upload: Upload, told: str, read: Callable[[], Made]) -> Made:
    """What a reader returns; its errors name the client's file instead of the place where it was written."""
    try:
        return read()
    except FlowposeError as error:
        where = (
            f"{upload.shown}{error.where.removeprefix(told)}" if told else f"{upload.shown}: {error.where}"
        )
        got, expected, fix = (_renamed(part, told, upload) for part in (error.got, error.expected, error.fix))
        what = error.what.replace(told, upload.shown) if told else error.what
        raise type(error)(where, what, got=got, expected=expected, fix=fix) from error


def _renamed(part: object, told: str, upload: Upload) -> str | None:
    return None if part is None else str(part).replace(told, upload.shown) if told else str(part)


@contextmanager
def _written(uploads: Sequence[Upload], limits: Limits) -> Iterator[tuple[Path, str]]:
    """The files under numbers in a folder that goes afterwards; the path to read, and what errors call it."""
    _check(uploads, limits)
    with tempfile.TemporaryDirectory(prefix="flowpose-serve-") as folder:
        for i, upload in enumerate(uploads):
            (Path(folder) / f"{i:06}{upload.suffix}").write_bytes(upload.data)
        path = Path(folder) if len(uploads) > 1 else Path(folder) / f"{0:06}{uploads[0].suffix}"
        yield path, str(path)


def _check(uploads: Sequence[Upload], limits: Limits) -> None:
    first, kinds = uploads[0], {upload.suffix for upload in uploads}
    if len(kinds) > 1 or not kinds <= set(SUFFIXES if len(uploads) == 1 else FOLDERS):
        got = ", ".join(sorted(kind or "no suffix" for kind in kinds))
        raise Refused(415, first.shown, "unknown kind of pose file", got=got, expected=KINDS)
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


def _starts(data: bytes, told: tuple[tuple[int, bytes], ...]) -> bool:
    return all(data[at : at + len(mark)] == mark for at, mark in told)


def _png(data: bytes) -> Size:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return 0, 0
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _jpeg(data: bytes) -> Size:
    """From the first frame header; segments before it are stepped over."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if marker in FRAME_MARKERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        alone = marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01  # no length follows
        at += (1 if marker == 0xFF else 2) if alone else 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return 0, 0


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30 and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return 0, 0


def _bmp(data: bytes) -> Size:
    if len(data) < 26:
        return 0, 0
    width, height = struct.unpack("<ii", data[18:26])
    return abs(height), abs(width)


HEADERS: Mapping[tuple[tuple[int, bytes], ...], Callable[[bytes], Size]] = {
    ((0, b"\x89PNG\r\n\x1a\n"),): _png,
    ((0, b"\xff\xd8\xff"),): _jpeg,
    ((0, b"RIFF"), (8, b"WEBP")): _webp,
    ((0, b"BM"),): _bmp,
}
"""What a file begins with -> what reads (height, width) of its header, 0 where that is damaged."""
