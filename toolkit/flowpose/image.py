"""Pictures: u8[H,W,3], red green blue, rows from the top.

OpenCV is imported where it is used: it takes 0.4 s to load (2-core EPYC), and a picture of the model's own
size needs none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError
from flowpose.letterbox import letterbox

Picture = NDArray[np.uint8]

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


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


def decode(data: bytes, where: str = "picture") -> Picture:
    """Returns the u8[H,W,3] picture in the bytes of a PNG, JPEG, WebP or BMP file; its EXIF orientation is
    applied.

    Raises:
        ImageError: the bytes are no picture.
    """
    import cv2

    raw = np.frombuffer(data, np.uint8)
    found = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if found is None:
        raise ImageError(where, "not a picture", got=f"{len(data)} bytes", expected="PNG, JPEG, WebP or BMP")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def read(path: str | Path) -> Picture:
    """Returns the u8[H,W,3] picture in a file.

    Raises:
        ImageError: there is no such file, or it is no picture.
    """
    file = Path(path)
    if not file.is_file():
        raise ImageError(file, "no such file", expected="a PNG, JPEG, WebP or BMP file")
    return decode(file.read_bytes(), str(file))


def encode(image: Any, kind: str = ".png") -> bytes:
    """Returns the bytes of a picture file of the kind that the suffix names (JPEG and WebP at quality 95).

    Raises:
        ImageError: a wrong picture or an unknown suffix.
    """
    picture = check(image)
    if kind.lower() not in WRITTEN:
        raise ImageError(kind or "(no suffix)", "unknown kind of picture file", expected=", ".join(WRITTEN))
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_WEBP_QUALITY, 95]
    options = {".jpg": quality[:2], ".jpeg": quality[:2], ".webp": quality[2:]}.get(kind.lower(), [])
    _, data = cv2.imencode(kind.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return bytes(data.tobytes())


def write(path: str | Path, image: Any) -> Path:
    """Writes a u8[H,W,3] picture and returns its path; the suffix chooses the kind, missing folders are made.

    Raises:
        ImageError: a wrong picture, an unknown suffix, or a place that cannot be written.
    """
    file = Path(path)
    data = encode(image, file.suffix)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise ImageError(file, f"cannot be written ({error.strerror})") from error
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
