"""The small text files in which a machine describes itself, under a root that tests can move."""

from __future__ import annotations

from pathlib import Path

from flowpose.errors import DeviceError

ROOT = Path("/")


def read(root: Path, path: str) -> str | None:
    """Returns a file's text without white space and NULs at its ends; None where the kernel gives none.

    That is: no such file, a file that this user may not read, or a sensor that is switched off (reading it fails).

    Args:
        root: `/`, or a folder that holds a copy of what is read.
        path: below the root, as `proc/meminfo`.

    Raises:
        DeviceError: the file is not text.
    """
    try:
        found = (root / path).read_bytes()
    except OSError:
        return None
    try:
        return found.decode("utf-8").strip("\0 \t\r\n")
    except UnicodeDecodeError as error:
        raise DeviceError(root / path, "is not text", got=repr(found[:20])) from error


def read_number(root: Path, path: str) -> int | None:
    """Returns the number that a file holds; None as for `read`.

    Raises:
        DeviceError: it holds something else.
    """
    text = read(root, path)
    return None if text is None else number(root / path, text)


def number(where: object, text: str) -> int:
    """Returns the number that a text is, decimal or 0x...; DeviceError, with `where`, if it is none."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError as error:
        raise DeviceError(where, "not a number", got=repr(text[:40])) from error


def listed(root: Path, pattern: str) -> list[str]:
    """Returns the paths below the root that fit a pattern, in the order of their numbers (zone2 before zone10)."""
    found = [path.relative_to(root).as_posix() for path in root.glob(pattern)]
    return sorted(found, key=lambda path: (len(path), path))
