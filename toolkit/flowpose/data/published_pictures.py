"""Pictures of published person sets: from their files into a frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.data.pictures import content_digest
from flowpose.data.published_frame import unpadded
from flowpose.data.published_layout import Layout
from flowpose.data.published_names import Named
from flowpose.errors import DataError, ImageError
from flowpose.letterbox import letterbox

END_OF_JPEG = b"\xff\xd9"
TAIL = 1024  # bytes in which the end marker must stand; some writers add a few after it

Floats = NDArray[np.float32]


def read_pictures(
    layout: Layout, chosen: Sequence[tuple[Named, Floats]], frame: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """u8[n, H, W, 3] in a frame, and digests, of pictures and their joints.

    As many threads read as help: OpenCV works outside Python's lock.
    """
    found = np.empty((len(chosen), *frame, 3), np.uint8)
    digests: list[str] = []
    with ThreadPoolExecutor() as pool:
        for i, (picture, digest) in enumerate(pool.map(partial(_image, layout, frame), chosen)):
            found[i] = picture
            digests.append(digest)
    return found, tuple(digests)


def read_bytes(layout: Layout, named: Named) -> tuple[bytes, Path]:
    """The bytes of a picture's file, and the file.

    Raises:
        DataError: it is missing.
        ImageError: it is a JPEG that ends early.
    """
    file, fix = layout.picture(named), layout.kind.unpack
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(
            file, "the picture is missing", got="no file", expected=named.name, fix=fix
        ) from error
    if file.suffix != ".png" and END_OF_JPEG not in data[-TAIL:]:  # OpenCV would fill the rest with grey
        got = f"{len(data)} bytes without an end marker"
        raise ImageError(file, "a JPEG that ends early", got=got, expected="a whole JPEG", fix=fix)
    return data, file


def decoded(layout: Layout, data: bytes, file: Path) -> image.Picture:
    """The picture u8[h, w, 3] in a file's bytes.

    Raises:
        ImageError: there is none.
    """
    try:
        return image.decode(data, str(file))
    except ImageError as error:
        fix = layout.kind.unpack
        raise ImageError(file, error.what, got=error.got, expected=error.expected, fix=fix) from error


def in_frame(layout: Layout, picture: image.Picture, file: Path) -> image.Picture:
    """The picture u8[h, w, 3] without padding."""
    return unpadded(picture, layout.kind.frame, layout.kind.padding, str(file))


def _image(
    layout: Layout, frame: tuple[int, int], chosen: tuple[Named, Floats]
) -> tuple[NDArray[np.uint8], str]:
    """u8[H, W, 3], stretched to the set's proportions, then fitted into the frame; and the digest."""
    named, keypoints = chosen
    data, file = read_bytes(layout, named)
    return stretched(layout, in_frame(layout, decoded(layout, data, file), file), frame), content_digest(
        data, keypoints
    )


def stretched(layout: Layout, picture: image.Picture, frame: tuple[int, int]) -> NDArray[np.uint8]:
    """u8[H, W, 3]: the picture stretched to the proportions of the set's frame, then fitted into another frame."""
    box = letterbox(layout.kind.frame, frame)
    if picture.shape[:2] != (box.height, box.width):
        import cv2

        shrinks = box.height * box.width < picture.shape[0] * picture.shape[1]
        filter = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, (box.width, box.height), interpolation=filter), np.uint8)
    return image.fit(picture, *frame)
