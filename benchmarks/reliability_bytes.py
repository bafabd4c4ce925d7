"""Damaged files: opening what holds one names it, or shows that what is read is what was written.

Every file of an artifact or a bundle is damaged in every way of DAMAGES, at random places.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from reliability_tally import Lost, Tally

from flowpose.artifact import listing, open_artifact
from flowpose.bundle import open_bundle
from flowpose.errors import FlowposeError

SECONDS = 60.0  # that opening anything may take; a pipe or a device would take for ever

Damage = Callable[[Path, random.Random], None]
"""Changes a file in its place."""


def flip(file: Path, rng: random.Random) -> None:
    """One bit."""
    raw = bytearray(file.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    file.write_bytes(raw)


def scatter(file: Path, rng: random.Random) -> None:
    """Up to 64 bytes, anywhere."""
    raw = bytearray(file.read_bytes())
    for _ in range(rng.randint(2, 64)):
        raw[rng.randrange(len(raw))] ^= rng.randint(1, 255)
    file.write_bytes(raw)


def clear(file: Path, rng: random.Random) -> None:
    """A block of 512 bytes as a disk may lose it; ones where there are zeros."""
    raw = bytearray(file.read_bytes())
    start = rng.randrange(len(raw)) // 512 * 512
    block = raw[start : start + 512]
    raw[start : start + 512] = (b"\xff" if not any(block) else b"\0") * len(block)
    file.write_bytes(raw)


def truncate(file: Path, rng: random.Random) -> None:
    """Cut at any place."""
    os.truncate(file, rng.randrange(file.stat().st_size))


def extend(file: Path, rng: random.Random) -> None:
    """Some bytes more."""
    with file.open("ab") as out:
        out.write(rng.randbytes(rng.randint(1, 600)))


def swap(file: Path, rng: random.Random) -> None:
    """Exchanged with another file, or with an older copy of itself where it is alone."""
    others = [
        path for path in file.parent.rglob("*") if path.is_file() and path.read_bytes() != file.read_bytes()
    ]
    if not others:
        file.write_bytes(file.read_bytes()[::-1] + b"\1")
        return
    other, mine = rng.choice(sorted(others)), file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def remove(file: Path, rng: random.Random) -> None:
    """Gone."""
    file.unlink()


def folder(file: Path, rng: random.Random) -> None:
    """A folder in its place."""
    file.unlink()
    file.mkdir()


def pipe(file: Path, rng: random.Random) -> None:
    """A pipe in its place, from which nothing ever comes."""
    file.unlink()
    os.mkfifo(file)


def endless(file: Path, rng: random.Random) -> None:
    """A link to /dev/zero in its place."""
    file.unlink()
    file.symlink_to("/dev/zero")


def dangling(file: Path, rng: random.Random) -> None:
    """A link to nowhere in its place."""
    file.unlink()
    file.symlink_to("nowhere")


def linked(file: Path, rng: random.Random) -> None:
    """A link in its place to a copy of the same bytes outside: what is read is what was written."""
    outside = file.with_name(f"{file.name}.outside").parent.parent / f"outside-{rng.randrange(1 << 30)}"
    shutil.move(file, outside)
    file.symlink_to(outside)


def empty(file: Path, rng: random.Random) -> None:
    """No byte."""
    os.truncate(file, 0)


def joined(file: Path, rng: random.Random) -> None:
    """One more file beside it."""
    file.with_name(f"{file.name}.{rng.randrange(99)}").write_bytes(rng.randbytes(20))


DAMAGES: Mapping[str, Damage] = MappingProxyType(
    {
        "bit flipped": flip, "bytes changed": scatter, "block lost": clear, "cut": truncate, "longer": extend,
        "swapped": swap, "removed": remove, "empty": empty, "a folder": folder, "a pipe": pipe,
        "a link to /dev/zero": endless, "a link to nowhere": dangling, "a link to the same bytes": linked,
        "one more file": joined,
    }
)  # fmt: skip
"""What is done to a file."""

BINARY = ("bit flipped", "bytes changed", "block lost", "cut", "longer")
"""Damages by place, which are tried several times a file."""


def opened(artifact: Path, whole: Mapping[str, bytes], damage: str, file: str) -> str:
    """What opening a damaged artifact gives; the error names the file, or one that changed with it.

    Raises:
        Lost: it opens with other bytes, or the error names nothing of what was damaged.
    """
    try:
        found = open_artifact(artifact)
    except FlowposeError as error:
        changed = [
            each for each in {*whole, *listing(artifact), file} if not _same(artifact / each, whole.get(each))
        ]
        if not any(each in str(error) for each in changed):
            raise Lost(f"{damage} {file}: the error says {error}") from error
        return type(error).__name__
    for name in found.manifest.files:
        if (artifact / name).read_bytes() != whole[name]:
            raise Lost(f"{damage} {file}: opened as if whole")
    return "what was written"


def _same(path: Path, whole: bytes | None) -> bool:
    return path.is_file() and not path.is_symlink() and whole is not None and path.read_bytes() == whole


def artifacts(sources: Mapping[str, Path], scratch: Path, each: int, seed: int = 0) -> Tally:
    """Damages every file of every artifact: BINARY `each` times, the others once."""
    tally, rng = Tally("damaged file of an artifact"), random.Random(seed)
    kept: dict[str, dict[str, bytes]] = {}
    for title, source in sources.items():
        kept[title] = {name: (source / name).read_bytes() for name in listing(source)}
        for name in kept[title]:
            for damage, change in DAMAGES.items():
                for number in range(each if damage in BINARY else 1):
                    copy = scratch / f"{title}-{damage}-{number}".replace("/", "-").replace(" ", "-")
                    shutil.copytree(source, copy)
                    change(copy / name, rng)
                    case = f"{title}, {name}, {damage}"
                    tally.take(case, lambda: opened(copy, kept[title], damage, name), within=SECONDS)  # noqa: B023
                    shutil.rmtree(copy)
    tally.further = {"artifacts": len(sources), "files": sum(map(len, kept.values())), "seed": seed}
    return tally


def unpacked(bundle: Path, into: Path, whole: Mapping[str, bytes]) -> str:
    """What opening a damaged bundle gives; an error leaves nothing.

    Raises:
        Lost: a file was unpacked with other bytes, or something is left of a failed one.
    """
    try:
        open_bundle(bundle, into)
    except FlowposeError as error:
        left = [path.name for path in into.parent.iterdir()] if into.parent.is_dir() else []
        if left:
            raise Lost(f"left behind: {left}") from error
        return type(error).__name__
    found = {name: (into / name).read_bytes() for name in listing(into)}
    if found != whole:
        raise Lost("unpacked with other bytes")
    return "what was written"


def bundles(tars: Mapping[str, Path], scratch: Path, each: int, seed: int = 0) -> Tally:
    """Damages bundles: the tars `each` times in every way of BINARY, their unpacked folders file by file."""
    tally, rng = Tally("damaged bundle"), random.Random(seed)
    for title, tar in tars.items():
        whole_at = scratch / "whole"
        open_bundle(tar, whole_at)
        whole = {name: (whole_at / name).read_bytes() for name in listing(whole_at)}
        for damage in (*BINARY, "empty"):
            for _ in range(each):
                copy = shutil.copy(tar, scratch / tar.name)
                DAMAGES[damage](Path(copy), rng)
                _bundle_case(tally, f"{title}, {damage}", Path(copy), scratch, whole)
                Path(copy).unlink(missing_ok=True)
        for name in whole:
            for damage, change in DAMAGES.items():
                copy = scratch / "folder"
                shutil.copytree(whole_at, copy)
                change(copy / name, rng)
                _bundle_case(tally, f"{title}, folder, {name}, {damage}", copy, scratch, whole)
                shutil.rmtree(copy)
        shutil.rmtree(whole_at)
    tally.further = {"bundles": len(tars), "seed": seed}
    return tally


def _bundle_case(tally: Tally, case: str, bundle: Path, scratch: Path, whole: Mapping[str, bytes]) -> None:
    into = scratch / "into" / "opened"
    tally.take(case, lambda: unpacked(bundle, into, whole), within=SECONDS)
    shutil.rmtree(into.parent, ignore_errors=True)
