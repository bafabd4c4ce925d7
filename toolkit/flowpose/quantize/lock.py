"""The lock of a calibration set: the drawn pairs by name and digest, so that a later draw can say what has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowpose import half_made
from flowpose.errors import DataError, SpecError
from flowpose.quantize.strata import AXES, strata
from flowpose.spec.base import canonical
from flowpose.spec.calibration import Calibration, CalibrationLock, LockedPair
from flowpose.spec.find import shipped

if TYPE_CHECKING:
    from flowpose.quantize.samples import Samples

LOCKS = Path("artifacts/calib")
"""Where locks are kept; `draw` looks here for what a digest was made of."""
SHOWN = 3  # names in an error text

Pair = tuple[str, str]


def lock_path(calibration: Calibration) -> Path:
    """Where the set's lock is kept."""
    return LOCKS / f"{calibration.name}.json"


def pairs_digest(names: Sequence[Pair], digests: Sequence[Pair]) -> str:
    """sha256 over the names and the digests of n pairs of source and pose, in their order."""
    return hashlib.sha256(canonical([names, digests])).hexdigest()


def lock_of(calibration: Calibration, samples: Samples, size: tuple[int, int] | None) -> CalibrationLock:
    """The lock of what a set drew.

    Args:
        calibration: the set; its own digest is left out.
        samples: what it drew.
        size: height and width where the pictures are drawn at that size, None where they are read from files.
    """
    sorts = strata(samples.bodies, calibration.strata or AXES)
    pairs = [
        LockedPair(source=name[0], pose=name[1], stratum=sort, source_sha256=sha[0], pose_sha256=sha[1])
        for name, sha, sort in zip(samples.names, samples.digests, sorts, strict=True)
    ]
    bare = calibration.model_copy(update={"digest": None})
    return CalibrationLock(format=1, calibration=bare, size=size, digest=samples.digest, pairs=tuple(pairs))


def read_lock(path: Path, calibration: Calibration) -> CalibrationLock | None:
    """The lock in a file, None where there is none.

    Raises:
        DataError: the file is no lock, or was changed.
    """
    fix = f"delete {path} and run {_command(calibration)}"
    try:
        lock = CalibrationLock.parse(json.loads(path.read_bytes()), "lock", source=path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SpecError) as error:
        why = error.problems[0] if isinstance(error, SpecError) else " ".join(str(error).split())
        raise DataError(path, f"not the lock of a calibration set ({why})", fix=fix) from error
    found = pairs_digest(
        [(pair.source, pair.pose) for pair in lock.pairs],
        [(pair.source_sha256, pair.pose_sha256) for pair in lock.pairs],
    )
    if found != lock.digest:
        raise DataError(
            path, "the lock was changed: its pairs are not its digest's", got=found, expected=lock.digest,
            fix=fix,
        )  # fmt: skip
    return lock


def write_lock(path: Path, lock: CalibrationLock) -> None:
    """Writes a lock, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(lock.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, beside `path`, and puts the file in its place in one step when the block ends.

    A block that fails leaves what was there, and nothing beside it.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with half_made.replacing(path) as partial:
            yield partial
            half_made.flush(partial)
    except OSError as error:
        raise DataError(path, f"cannot be written ({error})", fix="choose a place that can be") from error


def check_digest(calibration: Calibration, drawn: CalibrationLock, before: CalibrationLock | None) -> None:
    """Passes where the set's digest is that of what was drawn, or is not fixed.

    Raises:
        DataError: it is another; says what has changed where `before` is what the digest was made of.
    """
    if calibration.digest in (None, drawn.digest):
        return
    known = before is not None and before.digest == calibration.digest
    _refuse(drawn, "digest", str(calibration.digest), before if known else None)


def check_lock(drawn: CalibrationLock, before: CalibrationLock | None) -> None:
    """Passes where the same set drew the same before, or another set did, or none.

    Raises:
        DataError: the same set drew something else; says what has changed.
    """
    if before is None or (before.calibration, before.size) != (drawn.calibration, drawn.size):
        return
    if before.digest != drawn.digest:
        _refuse(drawn, "lock", before.digest, before)


def _command(calibration: Calibration) -> str:
    """How to draw the set; one that is not shipped goes by its file, which is called by its name."""
    name = calibration.name
    return f"flowpose calibrate {name if name in shipped('calib') else f'{name}.yaml'}"


def _refuse(drawn: CalibrationLock, whose: str, expected: str, before: CalibrationLock | None) -> None:
    what = f"other samples than its {whose}'s"
    raise DataError(
        f"calibration {drawn.calibration.name}",
        what if before is None else f"{what} ({_difference(before, drawn)})",
        got=drawn.digest,
        expected=expected,
        fix=f"restore the data, or take them as they are: {_command(drawn.calibration)} --write",
    )


def _difference(before: CalibrationLock, now: CalibrationLock) -> str:
    """What is other in a draw than in the one before: pictures, the set's keys, or who is in the split."""
    old, new = _pictures(before), _pictures(now)
    known = {name for name, _ in old}
    changed = sorted({name for name, _ in new - old if name in known})
    if changed:
        return f"{len(changed)} of its pictures changed: {_few(changed)}"
    dumps = before.calibration.model_dump(), now.calibration.model_dump()
    keys = [key for key in dumps[1] if dumps[0][key] != dumps[1][key]]
    if keys:
        return f"the set's own keys changed: {_few(keys)}"
    return "other pictures are drawn: the split has gained or lost some, or they are of other people now"


def _pictures(lock: CalibrationLock) -> set[tuple[str, str]]:
    """Name and digest of every picture, once."""
    sources = {(pair.source, pair.source_sha256) for pair in lock.pairs}
    return sources | {(pair.pose, pair.pose_sha256) for pair in lock.pairs}


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
