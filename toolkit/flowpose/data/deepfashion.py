"""DeepFashion In-shop as the pose-transfer literature splits it: `img_highres/`, annotations and pairs.

    img_highres/<MEN|WOMEN>/<category>/id_<8 digits>/<NN>_<V>_<view>.jpg
    fasion-resize-annotation-<train|test>.csv    name:keypoints_y:keypoints_x
    fasion-resize-pairs-<train|test>.csv         from,to

"fasion" is the originals' spelling; "fashion" is read too. The files name a picture by its path run together,
`fashionMENPantsid0000000501_3back.jpg`. The annotations belong to pictures of 256 x 176 (height x width): 18 joints in
the order of openpose-18, whole numbers, y before x, -1 missing. Such a number counts pixels from 0, so the joint is
taken at that pixel's centre, half a pixel further in flowpose's coordinates. Pictures of any other size are stretched
to 256 x 176's proportions, as those who use `img_highres` do (its own differ by about a hundredth), then fitted.

`NN` tells the outfits of one id apart. Validation is a part of train, see `HELD`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.data.pictures import BODY, Pictures, content_digest
from flowpose.errors import DataError, ImageError
from flowpose.letterbox import letterbox
from flowpose.pose import CANONICAL, Pose

FRAME = (256, 176)  # height and width that the annotations belong to
JOINTS = 18
SPELLINGS = ("fasion", "fashion")
ANNOTATION_COLUMNS = ("name", "keypoints_y", "keypoints_x")
PAIR_COLUMNS = ("from", "to")
HELD = 50
"""Every 50th of train's ids, in the order of their names, is val and not train; without a train file val is test."""

NAME = re.compile(r"fashion(WOMEN|MEN)([A-Za-z_]+)id(\d{8})(\d\d)_(\d)([a-z]+)\.jpg")
END_OF_JPEG = b"\xff\xd9"
TAIL = 1024  # bytes in which the end marker must stand; some writers add a few after it

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Annotated:
    """One row of an annotation file.

    Attributes:
        name: as the files write it.
        garment: gender, category and id.
        outfit: garment and NN; the same person in the same clothes.
        file: path below the set's folder.
        keypoints: f32[18, 3], x and y in pixels of FRAME, score 0 or 1.
    """

    name: str
    garment: str
    outfit: str
    file: str
    keypoints: Floats


def read_deepfashion(
    root: Path, split: str, pairs: Literal["published", "all"], height: int, width: int
) -> Pictures:
    """The annotated pictures of a split at height x width: those of published pairs, or all that have a joint.

    A published train pair is train's or val's when both its pictures are. All pictures are kept in memory, 3 x height x
    width bytes each.

    Raises:
        DataError: no such split, a file is missing or malformed, a pair names a picture that is not annotated.
        ImageError: a file that is no picture, or a JPEG that ends early.
    """
    part = _part(root, split)
    listed = _annotations(root, part)
    own = _own(listed, split) if part == "train" else listed.keys()
    rows = None
    if pairs == "published":
        rows = [row for row in _pairs(root, part, listed) if own >= set(row)]
        named = {name for row in rows for name in row}
        chosen = [picture for picture in listed.values() if picture.name in named]
    else:
        chosen = [listed[name] for name in listed if name in own and listed[name].keypoints.any()]
    if not chosen:
        raise DataError(root, "the split is empty", got=split, expected="annotated pictures and pairs")
    return _pictures(root, split, chosen, rows, (height, width))


def _pictures(
    root: Path,
    split: str,
    chosen: Sequence[Annotated],
    rows: Sequence[tuple[str, str]] | None,
    frame: tuple[int, int],
) -> Pictures:
    number = {picture.name: i for i, picture in enumerate(chosen)}
    pairs = None if rows is None else np.array([[number[name] for name in row] for row in rows], np.int64)
    images, digests = _images(root, chosen, frame)
    poses = [_pose(picture.keypoints) for picture in chosen]
    return Pictures(
        split=split,
        images=images,
        keypoints=np.stack([pose.fit(*frame).array() for pose in poses]),
        identities=np.unique([picture.outfit for picture in chosen], return_inverse=True)[1].astype(np.int64),
        names=tuple(number),
        pairs=pairs,
        digests=digests,
        read_bodies=np.stack([pose.array()[:BODY] for pose in poses]),
    )


def _part(root: Path, split: str) -> str:
    """Which of the two published parts a split is taken from."""
    if split not in ("train", "val", "test"):
        raise DataError(root, "no such split", got=split, expected="train, val or test")
    if split == "val" and not any(path.is_file() for path in _spelt(root, "annotation", "train")):
        return "test"
    return "test" if split == "test" else "train"


def _own(listed: Mapping[str, Annotated], split: str) -> AbstractSet[str]:
    """Names of the train pictures that are val's, or that are train's."""
    garments = sorted({picture.garment for picture in listed.values()})
    held = set(garments[::HELD])
    return {name for name, picture in listed.items() if (picture.garment in held) == (split == "val")}


def _spelt(root: Path, kind: str, part: str) -> list[Path]:
    return [root / f"{spelling}-resize-{kind}-{part}.csv" for spelling in SPELLINGS]


def _rows(
    root: Path, kind: str, part: str, columns: tuple[str, ...], separator: str
) -> Iterator[tuple[str, list[str]]]:
    """(where, cells) of each row of an annotation or pair file, whose header must be `columns`."""
    found = [path for path in _spelt(root, kind, part) if path.is_file()]
    if not found:
        fix = "put the published annotation and pair files beside img_highres"
        raise DataError(_spelt(root, kind, part)[0], "the file is missing", fix=fix)
    try:
        lines = found[0].read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(found[0], f"cannot be read ({error})") from error
    header = separator.join(columns)
    if not lines or [cell.strip() for cell in lines[0].split(separator)] != list(columns):
        got = repr(lines[0][:80]) if lines else "an empty file"
        raise DataError(f"{found[0]} line 1", "another header", got=got, expected=repr(header))
    for number, line in enumerate(lines[1:], 2):
        cells, where = [cell.strip() for cell in line.split(separator)], f"{found[0]} line {number}"
        if len(cells) != len(columns):
            got = f"{len(cells)} cells"
            raise DataError(where, "a row of another length", got=got, expected=repr(header))
        yield where, cells


def _annotations(root: Path, part: str) -> dict[str, Annotated]:
    """Every annotated picture of a published part, by name, in the order of the file."""
    found: dict[str, Annotated] = {}
    for where, (name, y, x) in _rows(root, "annotation", part, ANNOTATION_COLUMNS, ":"):
        if name in found:
            raise DataError(where, "the picture is annotated twice", got=name)
        found[name] = _annotated(where, name, _numbers(where, y), _numbers(where, x))
    return found


def _annotated(where: str, name: str, y: Floats, x: Floats) -> Annotated:
    match = NAME.fullmatch(name)
    if match is None:
        expected = "such as fashionMENPantsid0000000501_3back.jpg"
        raise DataError(where, "not the name of a picture", got=repr(name), expected=expected)
    gender, category, number, outfit, view, side = match.groups()
    garment = f"{gender}/{category}/id_{number}"
    file = f"img_highres/{garment}/{outfit}_{view}_{side}.jpg"
    seen = (x != -1) & (y != -1)
    rows = np.where(seen[:, None], np.stack([x + 0.5, y + 0.5, np.ones_like(x)], 1), 0).astype(np.float32)
    return Annotated(name, garment, f"{garment}/{outfit}", file, rows)


def _numbers(where: str, cell: str) -> Floats:
    """f32[18] in a cell such as `[12, -1, ...]`."""
    expected = f"a list of {JOINTS} numbers"
    try:
        found = np.array(json.loads(cell), np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(where, "not joints", got=repr(cell[:40]), expected=expected) from error
    if found.shape != (JOINTS,) or not np.isfinite(found).all():
        raise DataError(where, "not joints", got=f"{found.size} numbers", expected=expected)
    return found


def _pairs(root: Path, part: str, listed: Mapping[str, Annotated]) -> Iterator[tuple[str, str]]:
    """(source, target) names of a published part, in the order of the file."""
    for where, (source, target) in _rows(root, "pairs", part, PAIR_COLUMNS, ","):
        for name in (source, target):
            if name not in listed:
                raise DataError(where, "a picture without an annotation", got=name)
        yield source, target


def _pose(rows: Floats) -> Pose:
    """The pose in pixels of FRAME; joints outside the picture are missing."""
    return Pose.of(rows, "openpose-18", FRAME).to(CANONICAL).inside()


def _images(
    root: Path, chosen: Sequence[Annotated], frame: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """u8[n, H, W, 3] and digests, read by as many threads as help: OpenCV works outside Python's lock."""
    found = np.empty((len(chosen), *frame, 3), np.uint8)
    digests: list[str] = []
    with ThreadPoolExecutor() as pool:
        for i, (picture, digest) in enumerate(pool.map(partial(_image, root, frame), chosen)):
            found[i] = picture
            digests.append(digest)
    return found, tuple(digests)


def _image(root: Path, frame: tuple[int, int], chosen: Annotated) -> tuple[NDArray[np.uint8], str]:
    """u8[H, W, 3], stretched to FRAME's proportions, then fitted into the frame; and the digest."""
    file = root / chosen.file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(file, "the picture is missing", fix="unpack img_highres again") from error
    if END_OF_JPEG not in data[-TAIL:]:  # OpenCV would fill the lost part with grey and say nothing
        got = f"{len(data)} bytes without an end marker"
        raise ImageError(file, "a JPEG that ends early", got=got, fix="unpack img_highres again")
    picture, box = image.decode(data, str(file)), letterbox(FRAME, frame)
    if picture.shape[:2] != (box.height, box.width):
        import cv2

        shrinks = box.height * box.width < picture.shape[0] * picture.shape[1]
        filter = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, (box.width, box.height), interpolation=filter), np.uint8)
    return image.fit(picture, *frame), content_digest(data, chosen.keypoints)
