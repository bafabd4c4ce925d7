"""Pictures: u8[H,W,3], red green blue, rows from the top.

OpenCV is imported where it is used: it takes 0.4 s to load (2-core EPYC), and a picture of the model's own
size needs none of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.half_made import mending, replace_file
from flowpose.letterbox import letterbox

Picture = NDArray[np.uint8]

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Of a picture that is read: 67 million; a PNG of 16 bits takes 2.1 GB while OpenCV decodes it.
MOST_PIXELS = 1 << 26
MOST_BYTES = 1 << 29  # of a picture's file

READ = "PNG, JPEG, WebP or BMP"
# Markers of a frame header, which has the size.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check(image: Any, where: str = "image") -> Picture:
    """Returns the picture itself as a contiguous u8[H,W,3].

    Raises:
        ImageError: it is no array, not uint8, not H x W x 3, or empty.
    """
    if not isinstance(image, np.ndarray):
        fix = "read files with flowpose.image.read(path)"
        raise ImageError(
            where, "not a picture", got=type(image).__name__, expected="uint8 array [H, W, 3]", fix=fix
        )
    if image.dtype != np.uint8:
        fix = "scale to 0..255 and use .astype(np.uint8)"
        raise ImageError(where, "wrong dtype", got=image.dtype, expected="uint8", fix=fix)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(where, "wrong shape", got=list(image.shape), expected="[H, W, 3], red green blue")
    return np.ascontiguousarray(image)


def kind_of(data: bytes) -> str | None:
    """Returns png, jpeg, webp or bmp, whatever a file's first bytes say that it is; None of anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return "bmp" if data.startswith(b"BM") else None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Returns height and width that the header of a PNG, JPEG, WebP or BMP file tells; None of anything else.

    Nothing is decoded, so what a file claims is known before there is room for it.
    """
    kind = kind_of(data)
    return None if kind is None else _SIZES[kind](data)


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of the first frame header; the segments before it are passed over."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 9 <= len(data):
        mark = data[at + 1]
        if mark in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        alone = mark in (0x00, 0x01, 0xFF) or 0xD0 <= mark <= 0xD8  # no length follows
        at += (1 if mark == 0xFF else 2) if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a WebP file's canvas or only picture (RFC 9649)."""
    kind = data[12:16] if len(data) >= 30 else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return None


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    old = data[14:18] == struct.pack("<I", 12)  # OS/2's header: 16 bits each
    width, height = struct.unpack("<HH", data[18:22]) if old else struct.unpack("<ii", data[18:26])
    return abs(height), abs(width)


_SIZES: Mapping[str, Callable[[bytes], tuple[int, int] | None]] = {
    "png": _png_size,
    "jpeg": _jpeg_size,
    "webp": _webp_size,
    "bmp": _bmp_size,
}
"""Kind of file -> what reads height and width of its header; None where that is damaged."""


def decode(data: bytes, where: str = "picture") -> Picture:
    """Returns the u8[H,W,3] picture in the bytes of a PNG, JPEG, WebP or BMP file; its EXIF orientation is
    applied.

    Raises:
        ImageError: the bytes are no picture, or one that is too large; the latter is told from its header.
    """
    size = size_of(data)
    if size is None:
        raise ImageError(where, "not a picture", got=f"{len(data)} bytes", expected=READ)
    if size[0] * size[1] > MOST_PIXELS:
        got, expected = f"{size[1]} x {size[0]} pixels", f"{MOST_PIXELS} pixels at most"
        raise ImageError(where, "too large", got=got, expected=expected, fix="shrink the picture first")
    import cv2

    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        why = " ".join(str(error).split())
        raise ImageError(where, f"cannot be decoded ({why})", got=f"{size[1]} x {size[0]} pixels") from error
    if found is None:
        raise ImageError(where, "not a picture", got=f"{len(data)} bytes", expected=READ)
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def read(path: str | Path) -> Picture:
    """Returns the u8[H,W,3] picture in a file.

    Raises:
        ImageError: there is no such file, it cannot be read, or it is no picture.
    """
    file = Path(path)
    if not file.is_file():
        raise ImageError(file, "no such file", expected=f"a {READ} file")
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise ImageError(file, "too large", got=f"{size} bytes", expected=f"{MOST_BYTES} at most")
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(file, f"cannot be read ({error.strerror})") from error
    return decode(data, str(file))


def encode(image: Any, kind: str = ".png", quality: int = 95) -> bytes:
    """Returns the bytes of a picture file of the kind that the suffix names; `quality` 1 to 100 is JPEG's and WebP's.

    Raises:
        ImageError: a wrong picture, an unknown suffix, or OpenCV cannot write it.
    """
    picture = check(image)
    if kind.lower() not in WRITTEN:
        raise ImageError(kind or "(no suffix)", "unknown kind of picture file", expected=", ".join(WRITTEN))
    import cv2

    jpeg, webp = [cv2.IMWRITE_JPEG_QUALITY, quality], [cv2.IMWRITE_WEBP_QUALITY, quality]
    options = {".jpg": jpeg, ".jpeg": jpeg, ".webp": webp}.get(kind.lower(), [])
    made, data = cv2.imencode(kind.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not made:
        raise ImageError("picture", "cannot be encoded", got=kind)
    return bytes(data.tobytes())


def write(path: str | Path, image: Any) -> Path:
    """Writes a u8[H,W,3] picture and returns its path; the suffix chooses the kind, missing folders are made.

    Raises:
        ImageError: a wrong picture, an unknown suffix, or a place that cannot be written.
    """
    file = Path(path)
    data = encode(image, file.suffix)
    try:
        replace_file(file, data)
    except OSError as error:
        raise ImageError(file, f"cannot be written ({error.strerror})", fix=mending(error)) from error
    return file


def fit(image: Any, height: int, width: int) -> Picture:
    """Returns u8[height,width,3]: the picture scaled to fit, centred, its edge pixels repeated into the bands
    left over.

    Repeating the edge keeps a plain backdrop plain, where black bands would be something the model never saw.
    """
    picture = check(image)
    if picture.shape[:2] == (height, width):
        return picture
    import cv2

    box = letterbox((picture.shape[0], picture.shape[1]), (height, width))
    shrinks = box.height < picture.shape[0]
    inner = cv2.resize(
        picture, (box.width, box.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    bottom, right = height - box.height - box.top, width - box.width - box.left
    return np.asarray(
        cv2.copyMakeBorder(inner, box.top, bottom, box.left, right, cv2.BORDER_REPLICATE), np.uint8
    )
