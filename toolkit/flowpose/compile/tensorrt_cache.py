"""TensorRT's timing cache: how fast each kernel was, so that the next build need not time it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpose.compile.building import Say
from flowpose.errors import BackendError
from flowpose.half_made import replace_file
from flowpose.runtime.tensorrt_library import Log


def use_timing_cache(config: Any, path: Path, log: Log, say: Say) -> None:
    """Makes a builder's configuration use a cache file, or an empty cache where there is none that fits.

    Args:
        config: `tensorrt.IBuilderConfig`.
        path: the file; it need not exist.
        log: TensorRT's messages.
        say: is told when the file belongs to another device or version and is set aside.

    Raises:
        BackendError: the file cannot be read, or TensorRT takes no cache.
    """
    cache = config.create_timing_cache(b"")
    data = _read(path)
    if data:
        found = config.create_timing_cache(data)
        if found is None or not cache.combine(found, ignore_mismatch=False):
            what = "is of another device or TensorRT and is replaced: this build times every kernel"
            say(f"{path} {what} ({log.errors()})")
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BackendError(path, f"TensorRT takes no timing cache ({log.errors()})", fix="build without one")


def keep_timing_cache(config: Any, path: Path) -> None:
    """Writes what a build has measured to the cache file, all of it or nothing."""
    write_whole(path, config.get_timing_cache().serialize())


def write_whole(path: Path, data: Any) -> None:
    """Writes a file, all of it or nothing, and makes its folder.

    Args:
        path: replaced if it exists.
        data: bytes or what has a buffer of them.

    Raises:
        BackendError: the file cannot be written.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise BackendError(path, f"cannot be written ({error.strerror})", fix="room on the disk") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise BackendError(path, f"cannot be read ({error.strerror})") from error
