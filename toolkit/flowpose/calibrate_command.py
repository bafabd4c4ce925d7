"""What `flowpose calibrate` does: draws a set, keeps what it drew in a lock, checks or writes the set's digest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowpose import data
from flowpose.data import Pictures
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import SpecError
from flowpose.quantize.lock import (
    check_digest,
    check_lock,
    lock_of,
    lock_path,
    read_lock,
    replacing,
    write_lock,
)
from flowpose.quantize.samples import draw_from, drawn_size
from flowpose.quantize.strata import AXES, strata
from flowpose.spec.calibration import Calibration, CalibrationLock
from flowpose.spec.find import find, shipped
from flowpose.spec.reading import load_calibration, load_recipe
from flowpose.spec.recipe import ImageSpec

SIZE = re.compile(r"(\d+)x(\d+)")
DIGEST_LINE = re.compile(r"^digest[ \t]*:[^#\r\n]*?([ \t]+#[^\r\n]*)?(?=\r?$)", re.MULTILINE)
"""The set's digest at the top level of its file, and the comment behind it."""

Say = Callable[[str], None]


def calibrate_set(
    name: str | Path, *, recipe: str | None = None, size: str | None = None,
    roots: Sequence[Path] = DEFAULT_ROOTS, out: Path | None = None, write: bool = False,
    say: Say = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Draws a calibration set and leaves its lock; what it drew, as JSON data.

    Args:
        name: of a shipped set, or a file.
        recipe, size: the picture size, as a recipe has it or as `HEIGHTxWIDTH`; without both, that of the shipped
            recipes which use the set.
        roots: where data sets that are given by name are looked for.
        out: the lock; without it `artifacts/calib/NAME.json`.
        write: put the digest into the set's file, whatever stood there.
        say: told what is read.

    Raises:
        SpecError: no such set or recipe, no size, or a file that the digest cannot be put into.
        DataError: too few pictures or none, other ones than the digest or the lock says, a lock that is none.
    """
    path = find("calib", name)
    calibration = load_calibration(path)
    image = picture_size(calibration.name, recipe, size)
    lock_file = out or lock_path(calibration)
    before = read_lock(lock_file, calibration)
    say(f"reading split {calibration.split} at {image.height} x {image.width}")
    pictures = data.read(calibration.data, image, calibration.split, roots)
    lock = lock_of(calibration, draw_from(pictures, calibration), drawn_size(pictures))
    if write:
        write_digest(path, calibration, lock.digest)
    else:
        check_digest(calibration, lock, before)
        if calibration.digest is None:
            check_lock(lock, before)
    write_lock(lock_file, lock)
    return _result(path, lock_file, pictures, lock, fixed=write or calibration.digest is not None)


def _result(
    path: Path, lock_file: Path, pictures: Pictures, lock: CalibrationLock, fixed: bool
) -> dict[str, Any]:
    there = Counter(strata(pictures.bodies, lock.calibration.strata or AXES))
    drawn = Counter(pair.stratum for pair in lock.pairs)
    return {
        "name": lock.calibration.name,
        "file": str(path),
        "size": list(pictures.images.shape[1:3]),
        "count": len(lock.pairs),
        "drawn": lock.size is not None,
        "even": bool(lock.calibration.strata),
        "strata": [
            {"stratum": name, "pictures": there[name], "pairs": drawn[name]} for name in sorted(there)
        ],
        "digest": lock.digest,
        "fixed": fixed,
        "lock": str(lock_file),
    }


def picture_size(name: str, recipe: str | None, size: str | None) -> ImageSpec:
    """The picture size to draw a set at; see `calibrate_set`.

    Raises:
        SpecError: it is given twice, is no size, or is not given and the shipped recipes do not tell.
    """
    if recipe is not None and size is not None:
        raise SpecError("--size", ["given beside --recipe"], fix="give one of them")
    if recipe is not None:
        return load_recipe(recipe).image
    if size is not None:
        match = SIZE.fullmatch(size)
        if match is None:
            raise SpecError("--size", [f"not a size, got {size!r}, expected HEIGHTxWIDTH such as 128x88"])
        return ImageSpec.parse({"height": int(match[1]), "width": int(match[2])}, "--size")
    return _only_size(name)


def _only_size(name: str) -> ImageSpec:
    using = [each for each in map(load_recipe, shipped("recipes")) if each.quantize.calibration == name]
    sizes = {(each.image.height, each.image.width): each for each in using}
    if len(sizes) == 1:
        return next(iter(sizes.values())).image
    what = (
        "is used at several sizes" if sizes else "no shipped recipe uses it, so its picture size is not known"
    )
    fix = f"--recipe {using[0].name}" if using else "--recipe RECIPE, or --size HEIGHTxWIDTH"
    raise SpecError(f"calibration {name}", [what], fix=fix)


def write_digest(path: Path, calibration: Calibration, digest: str) -> None:
    """Puts a digest into a set's file; its other lines and its comments stay as they are.

    Raises:
        SpecError: the file would not be the same set with this digest, as one that is written in one line; it is
            left as it is.
        DataError: the file cannot be written.
    """
    text = path.read_bytes().decode()
    wanted = calibration.model_copy(update={"digest": digest})
    with replacing(path) as partial:
        partial.write_bytes(with_digest(text, digest).encode())
        try:
            same = load_calibration(partial) == wanted
        except SpecError:
            same = False
        if not same:
            fix = f'write digest: "{digest}" into it'
            raise SpecError(path, ["the digest cannot be put into this file, expected a key a line"], fix=fix)


def with_digest(text: str, digest: str) -> str:
    """The YAML text of a set with this digest: in the place of the one that it has, or in a line at its end."""
    line = f'digest: "{digest}"'
    if DIGEST_LINE.search(text):
        return DIGEST_LINE.sub(lambda found: line + (found[1] or ""), text, count=1)
    end = "\r\n" if "\r\n" in text else "\n"
    return text + ("" if not text or text.endswith("\n") else end) + line + end
