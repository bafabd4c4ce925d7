"""Things in the making: beside their place under a hidden name, locked while they grow, moved there in one step.

One is made in `.<name>.<random>.partial/artifact/`, so a killed process leaves nothing that can be opened. Its maker
holds a lock on the file `lock` beside `artifact/`; a temporary folder that nobody holds is swept away by the next
maker. Locks are the system's (flock): they end with the process, however it ends, and know no clock.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .errors import ArtifactError, FlowposeError

_PARTIAL = ".partial"
_LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of a place, whatever is written there.
_REFUSED = (errno.EROFS, errno.EFBIG, errno.EIO, errno.ENODEV, errno.ESTALE)
_NUMBER = re.compile(r"\(os error (\d+)\)")  # as libraries in Rust write it


def sweep(folder: str | Path) -> tuple[Path, ...]:
    """Removes what killed processes left half made in a folder, and returns what it removed."""
    removed = []
    for partial in sorted(Path(folder).glob(f".*{_PARTIAL}")):
        if not os.path.lexists(partial / _LOCK):  # its maker was killed at once, or is about to lock it
            with suppress(OSError):  # not empty, or another user's
                partial.rmdir()
                removed.append(partial)
            continue
        if not os.access(partial / _LOCK, os.W_OK):  # another user's
            continue
        lock = _locked(partial, "r+b")
        if lock is not None:
            with lock:
                _remove(partial)
            removed.append(partial)
    return tuple(removed)


def flush(path: Path) -> None:
    """Waits until a file's or a directory's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_partial(path: Path) -> bool:
    """Whether a path lies in the temporary folder of an artifact that was never finished."""
    return any(part.startswith(".") and part.endswith(_PARTIAL) for part in path.absolute().parts)


def refuse_existing(path: Path) -> None:
    """Raises ArtifactError where something is at a path that is to be made, if only a link to nowhere."""
    if os.path.lexists(path):
        raise ArtifactError(path, "is there already", fix=f"use it, or delete {path} to make it again")


class explaining:
    """Turns the error of a full disk, or of one that takes nothing, into one that says so.

    Libraries hide it: PyTorch raises a RuntimeError after the system's error, safetensors tells its number in a text.

    Args:
        path: what is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = None if isinstance(error, FlowposeError) else _of_the_disk(error)
        if found is not None:
            raise refused(self.path, found) from error


def _of_the_disk(error: BaseException | None) -> OSError | None:
    """Returns the system's error about a disk that an error is, or came after; None where it is about other things."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (*_FULL, *_REFUSED):
            return error
        told = _NUMBER.search(str(error)) if isinstance(error, Exception) else None
        if told and int(told[1]) in (*_FULL, *_REFUSED):
            return OSError(int(told[1]), os.strerror(int(told[1])))
        error = error.__cause__ or error.__context__
    return None


def refused(where: object, error: OSError) -> ArtifactError:
    """The error for what the disk did not take: full, read-only, or broken."""
    full = error.errno in _FULL
    what = "no space is left on the disk" if full else f"cannot be written ({error})"
    return ArtifactError(where, what, fix=mending(error))


def mending(error: OSError) -> str:
    """What to do about a disk that did not take something."""
    if error.errno in _FULL:
        return "free some, and run the same command again"
    return "choose another output folder"


def unreadable(where: object, error: OSError) -> ArtifactError:
    """The error for what is there and cannot be read."""
    fix = "see who may read it, and whether its disk is well"
    return ArtifactError(where, f"cannot be read ({error.strerror})", fix=fix)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Gives an empty directory beside `path` that is locked while in use and removed afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        partial, lock = _lock_new(path)
    except OSError as error:
        raise refused(path, error) from error
    with lock:
        try:
            (partial / "artifact").mkdir()
            yield partial / "artifact"
        finally:
            _remove(partial)


def _lock_new(path: Path) -> tuple[Path, IO[bytes]]:
    """Returns a new temporary folder and its lock; tries again when one is swept before it is locked."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent))
        try:
            lock = _locked(partial, "w+b")
        except OSError:  # a full disk
            _remove(partial)
            raise
        if lock is not None:
            return partial, lock


def _locked(partial: Path, mode: str) -> IO[bytes] | None:
    """Returns the lock of a temporary folder, held; None when another process has it or the folder is gone.

    The lock ends with the process that holds it, however it ends.
    """
    import fcntl  # POSIX only, and only where artifacts are made

    try:
        lock: IO[bytes] = (partial / _LOCK).open(mode)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    if (partial / _LOCK).exists():
        return lock
    lock.close()
    return None


def _remove(partial: Path) -> None:
    """Removes a temporary folder, its lock last: what an interrupted removal leaves can be swept."""
    if (partial / "artifact").exists():
        shutil.rmtree(partial / "artifact")
    (partial / _LOCK).unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # somebody who sweeps saw it without its lock
        partial.rmdir()


def move(folder: Path, path: Path) -> None:
    """Puts a finished artifact into its place in one step."""
    refuse_existing(path)  # made meanwhile by another process; a rename would replace an empty directory
    try:
        os.replace(folder, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            refuse_existing(path)
        raise
    flush(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, beside `path`, and puts the file in its place in one step when the block ends.

    Missing folders are made, and a file that is replaced leaves its mode to the new one. A block that fails leaves what
    was there, and nothing beside it.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        if path.exists():
            shutil.copymode(path, part)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace_file(path: Path, data: Any) -> None:
    """Writes a file in one step: its name is always on a whole one; missing folders are made.

    Args:
        path: replaced if it exists.
        data: bytes or what has a buffer of them.

    Raises:
        OSError: it cannot be written; what was there before is there still, and nothing beside it.
    """
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def alone(file: Path, say: Callable[[str], None], *, wait: bool = True) -> Iterator[None]:
    """Holds the lock `file` during the block, so that two runs on one output folder never make the same thing at once.

    Where another process holds it, says who and waits. The file stays, with the last holder's name in it.

    Raises:
        ArtifactError: the lock cannot be written; without `wait`, another process holds it.
    """
    import fcntl

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise refused(file, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(lock)
            if not wait:
                fix = "run the same command again when that run has ended"
                raise ArtifactError(file, f"is held by another run, {holder}", fix=fix) from error
            say(f"{file.stem}: {holder} makes it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        with suppress(OSError):  # a full disk: the lock itself needs no room
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
        yield


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read(200) or "another process"
