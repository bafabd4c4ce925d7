"""Hostile archives: bundles and tars of people that lead out, link, lie about sizes, or would fill memory or disk.

Everything is opened in a child whose memory is limited, below a folder beside which nothing may appear.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reliability_tally import Lost, Tally

from flowpose.artifact import listing
from flowpose.bundle import open_bundle, read_bundle
from flowpose.bundle_record import RECORD
from flowpose.data.folder import ANNOTATIONS, read_folder
from flowpose.errors import FlowposeError
from flowpose.sealed_files import BLOCK

MEMORY = 512 << 20  # bytes above what the process has
SECONDS = 20.0
BOMB = 2 << 30  # bytes of zeros that a few kilobytes become

Members = list[tuple[tarfile.TarInfo, bytes]]

NAMES = (
    "../out", "../../out", "/tmp/flowpose-out", "model/../../out", "./out", "model//out", "model/./out", "..", ".", "/",
    "C:\\out", "model\\..\\out", "out\n", "a" * 101, "a/" * 60 + "b", "é", "model/", " ", "~/out", "-rf", ".hidden",
)  # fmt: skip
"""Names that no file of a bundle may have."""

TYPES = {
    "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "folder": tarfile.DIRTYPE, "device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE, "contiguous": tarfile.CONTTYPE, "sparse": b"S",
    "long name": b"L", "long link": b"K", "pax": b"x", "global pax": b"g", "unknown": b"Z", "old": b"\0",
}  # fmt: skip

SIZES = (1, 511, 512, 513, 1 << 20, 1 << 31, 1 << 33, (1 << 33) - 1)
"""Bytes that a header claims beyond what is there."""


def members(bundle: Path) -> Members:
    with tarfile.open(bundle) as tar:
        return [(info, _read(tar, info)) for info in tar]


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    found = tar.extractfile(info)
    return found.read() if found else b""


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A header as tar makes it, whatever it says."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = size, kind, link, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")[-BLOCK:]


def packed(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(head + body + bytes(-len(body) % BLOCK) for head, body in parts) + bytes(2 * BLOCK)


def plain(found: Members) -> list[tuple[bytes, bytes]]:
    return [(header(info.name, len(body)), body) for info, body in found]


def with_record(found: Members, change: Callable[[dict[str, Any]], None]) -> Members:
    """The members with another bundle.json, written as flowpose writes it."""
    record = json.loads(found[0][1])
    change(record)
    return [(found[0][0], (json.dumps(record, indent=1) + "\n").encode()), *found[1:]]


def bundle_attacks(good: Members) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, the bytes of a tar)."""
    yield from _names(good)
    yield from _kinds(good)
    yield from _sizes(good)
    yield from _records(good)


def _names(good: Members) -> Iterator[tuple[str, bytes]]:
    record, rest = plain(good[:1]), plain(good[1:])
    for name in NAMES:
        yield f"a file {name!r}", packed([*record, *rest, (header(name, 3), b"out")])

        def renamed(data: dict[str, Any], name: str = name) -> None:
            first = sorted(data["files"])[0]
            data["files"][name] = data["files"].pop(first)

        found = with_record(good, renamed)
        first = sorted(json.loads(good[0][1])["files"])[0]
        parts = [(name if info.name == first else info.name, body) for info, body in found]
        yield f"a file {name!r}, listed", packed([(header(each, len(body)), body) for each, body in parts])
    for number, part in enumerate(plain(good)):
        yield f"file {number} twice", packed([*plain(good), part])
        yield f"file {number} left out", packed([each for i, each in enumerate(plain(good)) if i != number])
    yield "nothing", packed([])
    yield "bundle.json last", packed([*rest, *record])


def _kinds(good: Members) -> Iterator[tuple[str, bytes]]:
    for what, kind in TYPES.items():
        for target in ("", "../../../etc/passwd", "/etc/passwd", RECORD):
            parts = plain(good)
            number = 1 + len(target) % (len(parts) - 1)
            info, body = good[number]
            parts[number] = (header(info.name, len(body), kind, target), body)
            yield f"a {what} to {target!r}", packed(parts)
            added = (header("model/more", 0, kind, target), b"")
            yield f"a {what} to {target!r} more", packed([*plain(good), added])


def _sizes(good: Members) -> Iterator[tuple[str, bytes]]:
    for number, (info, body) in enumerate(good):
        for size in (*(len(body) + more for more in SIZES), len(body) - 1, 0):
            parts = plain(good)
            parts[number] = (header(info.name, size % (1 << 36)), body)
            yield f"{info.name} claims {size} bytes", packed(parts)
        raw = bytearray(packed(plain(good)))
        at = sum(BLOCK + len(each) + -len(each) % BLOCK for _, each in good[:number])
        raw[at + 124 : at + 136] = b"\xff" * 12  # a negative size in tar's base 256
        yield f"{info.name} claims a negative size", _checked(raw, at)
    yield "zeros without end", packed(plain(good)) + bytes(64 << 20)


def _checked(raw: bytearray, at: int) -> bytes:
    """The tar with the checksum of the header at a place made right."""
    raw[at + 148 : at + 156] = b" " * 8
    raw[at + 148 : at + 156] = f"{sum(raw[at : at + BLOCK]):06o}\0 ".encode()
    return bytes(raw)


def _records(good: Members) -> Iterator[tuple[str, bytes]]:
    def sized(size: Any) -> Callable[[dict[str, Any]], None]:
        def change(data: dict[str, Any]) -> None:
            data["files"][sorted(data["files"])[0]]["size"] = size

        return change

    for size in (-1, 1 << 32, 1 << 62, 1 << 70, 1.5, "3", None, True, 10**400):
        yield f"bundle.json says {size!s:.20} bytes", packed(plain(with_record(good, sized(size))))
    for name in ("../x", "/etc/passwd", "no such file"):
        changed = with_record(good, lambda data: data["targets"].update(cpu=name))  # noqa: B023
        yield f"a target at {name}", packed(plain(changed))
        changed = with_record(good, lambda data: data.update(wheel=name))  # noqa: B023
        yield f"a wheel at {name}", packed(plain(changed))
    raw = good[0][1]
    for what, text in {
        "a million brackets": b"[" * 1_000_000, "two megabytes": raw + b" " * (2 << 20),
        "a key twice": b'{"format": 1,' + raw[1:],
        "no JSON": b"\0" * 100, "half": raw[: len(raw) // 2], "nothing": b"",
    }.items():  # fmt: skip
        yield f"bundle.json: {what}", packed([(header(RECORD, len(text)), text), *plain(good[1:])])


def bombs(good: Members) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(what it is, what writes it): a few megabytes that become gigabytes."""
    record, rest = packed(plain(good[:1]))[: -2 * BLOCK], plain(good[1:])

    def zeros(before: bytes, after: bytes = b"") -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with gzip.open(path, "wb", 1) as out:
                out.write(before)
                for _ in range(BOMB >> 24):
                    out.write(bytes(1 << 24))
                out.write(after)

        return write

    yield "bundle.json of zeros", zeros(header(RECORD, BOMB))
    yield "an unlisted file of zeros", zeros(record + header("model/zeros", BOMB))
    yield "a listed file of zeros", zeros(record + header(good[1][0].name, BOMB))
    yield "zeros after the end", zeros(packed([*plain(good[:1]), *rest]))
    yield "nothing but zeros", zeros(b"")


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """At most MEMORY more than the process has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def unpacked(bundle: Path, place: Path, whole: Mapping[str, str]) -> str:
    """What opening an attack gives: in three ways, the same error; nothing is left, and nothing lies outside.

    Raises:
        Lost: something was written outside, is left, or differs from what the bundle's maker sealed.
    """
    into, before = place / "inside" / "opened", _around(place)
    with little_memory():
        found = "opened"
        with contextlib.suppress(FlowposeError):
            read_bundle(bundle)
        try:
            open_bundle(bundle, into)
        except FlowposeError as error:
            found = type(error).__name__
    if found == "opened" and digests(into) != whole:
        raise Lost("unpacked with other bytes")
    shutil.rmtree(into, ignore_errors=True)
    inside = list((place / "inside").iterdir()) if (place / "inside").is_dir() else []
    if inside or _around(place) != before or Path("/tmp/flowpose-out").exists():
        raise Lost(f"written outside or left behind: {inside}, {_around(place) - before}")
    return found


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listing(folder)}


def _around(place: Path) -> set[str]:
    return {path.name for folder in (place, place.parent) for path in folder.iterdir()} - {"inside"}


def bundles(tar: Path, scratch: Path, *, with_bombs: bool = True) -> Tally:
    """Every attack on a bundle."""
    tally, good = Tally("hostile bundle"), members(tar)
    place = scratch / "place"
    place.mkdir(parents=True)
    open_bundle(tar, scratch / "whole")
    whole = digests(scratch / "whole")
    attack = place / "attack.tar"
    for what, raw in bundle_attacks(good):
        attack.write_bytes(raw)
        tally.take(what, lambda: unpacked(attack, place, whole), within=SECONDS)
    attack.unlink()
    for what, write in bombs(good) if with_bombs else ():
        bomb = place / "bomb.tar.gz"
        write(bomb)
        tally.take(f"bomb: {what}", lambda: unpacked(bomb, place, whole), within=SECONDS)  # noqa: B023
        bomb.unlink()
    return tally


# Tars and folders of people


def people(annotations: bytes, pictures: list[tuple[bytes, bytes]]) -> bytes:
    return packed([(header(ANNOTATIONS, len(annotations)), annotations), *pictures])


def annotated(name: str, **changes: Any) -> bytes:
    """A COCO file of two pictures of one person; the first is called `name`."""
    joints = [value for number in range(17) for value in (8 + number % 5, 2 + number, 2)]
    images = [
        {"id": i, "file_name": each, "height": 24, "width": 16} for i, each in enumerate((name, "b.png"))
    ]
    people = [{"image_id": i, "identity": "p", "keypoints": joints, **changes} for i in range(2)]
    return json.dumps({"images": images, "annotations": people}).encode()


def people_attacks(picture: bytes) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, the bytes of a tar of people)."""
    good = [(header(name, len(picture)), picture) for name in ("a.png", "b.png")]
    for name in NAMES:
        yield f"a picture {name!r} that is missing", people(annotated(name), good)
        yield f"a picture {name!r}", people(annotated(name), [(header(name, len(picture)), picture), good[1]])
    for what, kind in TYPES.items():
        for target in ("/etc/passwd", "../../../etc/passwd", "a.png", "b.png"):
            yield (
                f"a {what} to {target}",
                people(annotated("a.png"), [(header("a.png", 0, kind, target), b""), good[1]]),
            )
    for size in (*SIZES, 1 << 35):
        yield f"claims {size} bytes", people(annotated("a.png"), [good[1], (header("a.png", size), picture)])
    yield "no annotations", packed(good)
    for text in (
        b"",
        b"[" * 1_000_000,
        b'{"images": 3}',
        b"\xff\xfe",
        b'{"images": [], "annotations": {}}',
        b"[1]",
        b"1" * 6000,
    ):
        yield f"annotations {text[:20]!r}", people(text, good)
    for change in ({"keypoints": "x"}, {"keypoints": [1e308] * 51}, {"keypoints": [10**400] * 51}, {"image_id": [1]},
                   {"identity": None}, {"keypoints": [[1]] * 51}, {"keypoints": [float("nan")] * 51}):  # fmt: skip
        yield f"an annotation with {change!s:.40}", people(annotated("a.png", **change), good)


def read(root: Path, folder: bool = False) -> str:
    with little_memory():
        found = read_folder(root, "val", 24, 16)
    return "people" if len(found) else "nobody"


def sparse(path: Path, size: int) -> None:
    """A tar whose picture is a file of zeros that takes no room in it (GNU's old form)."""
    raw = bytearray(header("a.png", 0, b"S"))
    raw[483:495] = f"{size:011o}\0".encode()
    text = annotated("a.png")
    path.write_bytes(packed([(header(ANNOTATIONS, len(text)), text), (_checked(raw, 0), b"")]))


def people_archives(picture: bytes, scratch: Path, *, with_bombs: bool = True) -> Tally:
    """Every attack on a tar of people, and on a folder."""
    tally = Tally("hostile tar or folder of people")
    scratch.mkdir(parents=True)
    for what, raw in people_attacks(picture):
        (scratch / "val.tar").write_bytes(raw)
        tally.take(what, lambda: read(scratch), within=SECONDS)
    for size in (1 << 30, (1 << 33) - 1):
        sparse(scratch / "val.tar", size)
        tally.take(f"a hole of {size} bytes", lambda: read(scratch), within=SECONDS)
    if with_bombs:
        with gzip.open(scratch / "val.tar", "wb", 1) as out:
            out.write(header(ANNOTATIONS, BOMB))
            for _ in range(BOMB >> 24):
                out.write(bytes(1 << 24))
        tally.take("annotations that are a bomb", lambda: read(scratch), within=SECONDS)
    (scratch / "val.tar").unlink()
    for name, file in _folders(picture):
        folder = scratch / "val"
        folder.mkdir()
        (folder / "b.png").write_bytes(picture)
        (folder / ANNOTATIONS).write_bytes(annotated(name))
        file(folder)
        tally.take(f"a folder's picture {name!r}", lambda: read(scratch), within=SECONDS)
        shutil.rmtree(folder)
    return tally


def _folders(picture: bytes) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(name of the picture, what is put there) of folders."""

    def nothing(folder: Path) -> None:
        (folder.parent / "out").write_bytes(picture)

    for name in (*NAMES, "/dev/zero", "/dev/random", "../val/b.png", "/etc/passwd"):
        yield name, nothing
    yield "pipe.png", lambda folder: os.mkfifo(folder / "pipe.png")
    yield "zero.png", lambda folder: (folder / "zero.png").symlink_to("/dev/zero")
    yield "loop.png", lambda folder: (folder / "loop.png").symlink_to("loop.png")
    yield "dir.png", lambda folder: (folder / "dir.png").mkdir()

    def large(folder: Path) -> None:
        with (folder / "large.png").open("wb") as out:
            out.truncate(1 << 40)

    yield "large.png", large
