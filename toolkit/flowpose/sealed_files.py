"""The files of a bundle, in one tar or folder: equal bytes for equal files, and read as if an enemy had written them.

A tar is read block by block, with nothing of it believed: only plain files in the plain (ustar) form are taken, no
links, devices, folders or extended headers; a stream that ends early or goes on after its end is refused. Nothing is
held in memory but one chunk.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from .errors import ArtifactError, IntegrityError
from .half_made import unreadable

TAR, TAR_GZ = ".tar", (".tar.gz", ".tgz")
BLOCK = 512  # bytes of a tar's block
END = 20 * BLOCK  # tar fills up to here with zeros
CHUNK = 1 << 20  # bytes read at a time
LEVEL = 6  # of gzip, its own default; fixed, so that bytes stay equal
MAKE = "make one: flowpose bundle MODEL -o FILE.tar"
MEND = "copy the bundle again from where it is whole, or make it again: flowpose bundle"


@dataclass(frozen=True)
class Entry:
    """A file of a bundle: its name in it, the size that it claims, and `read(n)` of its bytes."""

    name: str
    size: int
    read: Callable[[int], bytes]


def kind(path: Path) -> str:
    """Returns how a bundle of this name is kept: `tar`, `tar.gz` or `folder`, told by its suffix."""
    name = path.name.lower()
    return "tar.gz" if name.endswith(TAR_GZ) else "tar" if name.endswith(TAR) else "folder"


def write_tar(path: Path, files: Mapping[str, Path]) -> None:
    """Writes a tar (or tar.gz, by the suffix) of files in their order: no times, no owners, mode 0644.

    Args:
        path: the tar; replaced.
        files: name in the tar -> file.

    Raises:
        ArtifactError: a name that the plain form of tar cannot hold.
    """
    with path.open("wb") as raw, _written(path, raw) as out:
        for name, file in files.items():
            size = file.stat().st_size
            out.write(_header(name, size))
            with file.open("rb") as given:
                while chunk := given.read(CHUNK):
                    out.write(chunk)
            out.write(bytes(-size % BLOCK))
        out.write(bytes(2 * BLOCK))


@contextmanager
def _written(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    if kind(path) == "tar":
        yield raw
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=LEVEL, mtime=0) as out:
        yield cast(IO[bytes], out)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError as error:  # a name that is too long, or not ASCII; UnicodeEncodeError is one
        raise ArtifactError(
            name, f"cannot stand in a tar ({error})", fix="use a shorter, plain name"
        ) from error


def entries(path: Path) -> Generator[Entry, None, None]:
    """Yields the files of a bundle, in the tar's order, or of a folder in that of their names.

    What is not read of an entry is passed over when the next one is asked for.

    Raises:
        ArtifactError: there is no such bundle.
        IntegrityError: something else than plain files, a stream that is cut short or goes on after its end.
    """
    try:
        if kind(path) == "folder":
            yield from _of_folder(path)
            return
        with path.open("rb") as raw:
            stream = raw if kind(path) == "tar" else cast(IO[bytes], gzip.GzipFile(fileobj=raw))
            yield from _of_tar(path, stream)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArtifactError(path, "no such bundle", fix=MAKE) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _of_tar(path: Path, stream: IO[bytes]) -> Iterator[Entry]:
    while any(block := _exactly(path, stream, BLOCK)):
        info = _told(path, block)
        left = info.size

        def read(count: int) -> bytes:
            nonlocal left
            wanted = min(count, left, CHUNK)
            left -= wanted
            return _exactly(path, stream, wanted)

        yield Entry(info.name, info.size, read)
        while left:
            read(CHUNK)
        if any(_exactly(path, stream, -info.size % BLOCK)):
            refuse(path, "holds bytes between its files")
    rest = _read(path, stream, END + 1)
    if any(rest) or len(rest) > END:
        refuse(path, "goes on after its end")


def _told(path: Path, block: bytes) -> tarfile.TarInfo:
    """Returns what a header says; IntegrityError where it is not the plain header of a plain file."""
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise IntegrityError(path, f"holds a broken header ({error})", fix=MEND) from error
    if info.type != tarfile.REGTYPE:
        refuse(path, f"holds something else than plain files: {info.name!r} (tar type {info.type!r})")
    if info.size < 0:
        refuse(path, f"holds a file of negative size: {info.name!r}")
    return info


def _exactly(path: Path, stream: IO[bytes], count: int) -> bytes:
    found = _read(path, stream, count)
    if len(found) != count:
        refuse(path, "is cut short")
    return found


def _read(path: Path, stream: IO[bytes], count: int) -> bytes:
    try:
        return stream.read(count)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IntegrityError(path, f"the compressed stream is broken ({error})", fix=MEND) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _of_folder(path: Path) -> Iterator[Entry]:
    if not path.is_dir():
        expected = f"a folder, or a file whose name ends in {TAR}, {' or '.join(TAR_GZ)}"
        raise ArtifactError(path, "no such bundle", expected=expected, fix=MAKE)
    for file in sorted(_walked(path)):
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            yield Entry(file.relative_to(path).as_posix(), size, opened.read)


def _walked(folder: Path) -> Iterator[Path]:
    """Yields the plain files below a folder; links are neither followed nor taken."""
    with os.scandir(folder) as found:
        for each in found:
            mode = each.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _walked(Path(each.path))
            elif stat.S_ISREG(mode):
                yield Path(each.path)
            else:
                refuse(Path(each.path), "is neither a plain file nor a folder")


def refuse(where: object, what: str, got: object = None, expected: object = None) -> NoReturn:
    """Raises the IntegrityError of a bundle that is not whole."""
    raise IntegrityError(where, what, got=got, expected=expected, fix=MEND)
