"""Bundles: one sealed folder or tar with all that a device needs to compile, check and run a model.

    bundle.json     what is in it: size and sha256 of every file, and how to compile
    bundle.sig      its ed25519 signature, where it was made with a key
    model/          the graph artifact, without the models that it is compared with
    targets/        a target file for each device that it is meant for
    wheel/          flowpose itself

Equal inputs give equal bytes. A bundle that is opened is checked as it is unpacked, beside its place, and moved there
in one step at the end; what a killed process leaves is hidden, cannot be opened, and is swept by the next one.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import flowpose

from . import signing
from .artifact import Artifact, creating, listing, open_artifact, sha256
from .bundle_record import (
    LARGEST_RECORD,
    RECORD,
    SIGNATURE,
    BundleFile,
    BundleRecord,
    Compiling,
    parsed,
    rendered,
)
from .errors import ArtifactError, IntegrityError, SpecError, TargetMismatch
from .half_made import explaining, flush, move, refuse_existing, temporary
from .sealed_files import CHUNK, Entry, entries, kind, refuse, write_tar
from .spec.find import find
from .spec.manifest import Manifest
from .spec.reading import load_target
from .spec.target import Target

MODEL, TARGETS, WHEEL = "model", "targets", "wheel"
AUTO = "auto"
MEASURE_ALL = Compiling()

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # as on a stick with FAT
_UNUSED = {"files", "self_sha256", "references"}  # of the model's manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle: where it is, what it holds, and whether a signature lies in it."""

    path: Path
    record: BundleRecord
    signed: bool

    @property
    def model(self) -> Path:
        """The graph artifact of an opened bundle."""
        return self.path / MODEL

    def target(self, name: str) -> Path:
        """Returns the target file of an opened bundle; TargetMismatch when it is not meant for that target."""
        return self.path / self.target_file(name)

    def target_file(self, name: str) -> str:
        """Returns the target's file, relative to the bundle; TargetMismatch when it is not meant for that target."""
        if name not in self.record.targets:
            fix = f"flowpose bundle {self.record.name} --target {name} -o FILE.tar"
            expected = " or ".join(self.record.targets)
            raise TargetMismatch(
                self.path, "is not meant for the target", got=name, expected=expected, fix=fix
            )
        return self.record.targets[name]


def seal(
    model: str | Path,
    targets: Sequence[str | Path],
    out: str | Path,
    *,
    key: str | Path | None = None,
    wheel: str | Path | None = None,
    compiling: Compiling = MEASURE_ALL,
) -> Bundle:
    """Returns a new bundle, read back.

    Args:
        model: a shipped model's name, or the directory of a graph artifact.
        targets: files, or names of shipped targets; one at least.
        out: a `.tar`, `.tar.gz` or `.tgz`, else a folder; it must not exist.
        key: a PEM file with an ed25519 private key to sign with.
        wheel: flowpose's wheel, to be installed on the device.
        compiling: how the device shall compile.

    Raises:
        SpecError: no such model or target, or no target.
        ArtifactError, IntegrityError: not a graph, a changed file, `out` exists or cannot be written, a full disk.
        TargetMismatch: a precision that the model or a target lacks.
        MissingDependency: a key was given, and the library cryptography is not installed.
    """
    out = Path(out)
    refuse_existing(out)
    artifact = _graph(model)
    chosen = _targets(artifact.manifest, targets, compiling)
    with explaining(out), temporary(out) as folder:
        content = folder / "content"
        left_out = _copy_model(artifact, content / MODEL)
        files = {f"{TARGETS}/{name}.yaml": path for name, path in chosen.items()}
        if wheel is not None:
            files[f"{WHEEL}/{Path(wheel).name}"] = Path(wheel)
        _copy(files, content)
        record = _record(artifact.manifest, chosen, left_out, compiling, content)
        _write_record(record, content, None if key is None else Path(key))
        for name in listing(content):
            flush(content / name)
        _place(content, out)
    return read_bundle(out)


def read_bundle(path: str | Path, *, key: str | Path | None = None) -> Bundle:
    """Returns a bundle by its `bundle.json` alone, and with a key its signature; no other file is read.

    Raises:
        ArtifactError, IntegrityError, SpecError, MissingDependency: as `open_bundle`.
    """
    path = Path(path)
    with closing(entries(path)) as found:
        record, _, signature, _ = _head(path, found, None if key is None else Path(key))
    return Bundle(path, record, signature is not None)


def check_bundle(path: str | Path, key: str | Path) -> Bundle:
    """Returns a bundle whose signature and every byte were checked where it lies; nothing is written.

    Raises:
        ArtifactError, IntegrityError, SpecError, MissingDependency: as `open_bundle`.
    """
    path = Path(path)
    with closing(entries(path)) as found:
        record, _, _, rest = _head(path, found, Path(key))
        _check_files(path, record, rest, _sha256)
    return Bundle(path, record, signed=True)


def open_bundle(path: str | Path, into: str | Path, *, key: str | Path | None = None) -> Bundle:
    """Returns a bundle that was unpacked into a new folder, every byte checked: all of it, or nothing.

    Args:
        path: a bundle, as a tar or a folder.
        into: the folder, which must not exist.
        key: a PEM file with the ed25519 public key of who must have signed it; without one a signature is kept, not
            checked.

    Raises:
        ArtifactError: no such bundle, an unknown format, `into` exists or cannot be written, or the disk is full.
        IntegrityError: anything that is not as `bundle.json` says, or a signature that is missing or another's.
        SpecError: a `bundle.json` that no flowpose wrote.
        MissingDependency: a key was given, and the library cryptography is not installed.
    """
    path, into = Path(path), Path(into)
    refuse_existing(into)
    with explaining(into), temporary(into) as folder, closing(entries(path)) as found:
        record, raw, signature, rest = _head(path, found, None if key is None else Path(key))
        for name, data in ((RECORD, raw), (SIGNATURE, signature)):
            if data is not None:
                (folder / name).write_bytes(data)
                flush(folder / name)
        _unpack(path, record, rest, folder)
        for below in [folder, *(entry for entry in folder.rglob("*") if entry.is_dir())]:
            flush(below)
        move(folder, into)
    return Bundle(into, record, signature is not None)


def _graph(model: str | Path) -> Artifact:
    artifact = open_artifact(find("models", model))
    if artifact.manifest.kind != "graph":
        fix = "bundle the graph that it was made from; the device compiles its own engine"
        got = artifact.manifest.kind
        raise ArtifactError(artifact.path, "cannot be bundled", got=got, expected="graph", fix=fix)
    return artifact


def _targets(manifest: Manifest, targets: Sequence[str | Path], compiling: Compiling) -> dict[str, Path]:
    """Returns name -> file of the targets, sorted; each can run what is asked for."""
    if not targets:
        raise SpecError("targets", ["none given"], fix="--target NAME, as flowpose targets lists them")
    found: dict[str, Path] = {}
    for each in targets:
        target = load_target(each)
        if target.name in found:
            raise SpecError("targets", [f"{target.name} is given twice"])
        _check_precision(manifest, target, compiling.precision)
        found[target.name] = find("targets", each)
    return dict(sorted(found.items()))


def _check_precision(manifest: Manifest, target: Target, asked: str) -> None:
    have = tuple(dict.fromkeys(graph.precision for graph in manifest.graphs if graph.name == "frame"))
    for where, known in ((manifest.name, have), (f"target {target.name}", target.precisions)):
        if asked != AUTO and asked not in known:
            expected = " or ".join((AUTO, *known))
            raise TargetMismatch(where, "lacks the precision", got=asked, expected=expected)
    if not set(have) & set(target.precisions):
        got, expected = ", ".join(target.precisions), " or ".join(have)
        where = f"target {target.name}"
        raise TargetMismatch(where, "runs no precision of the model", got=got, expected=expected)


def _copy_model(artifact: Artifact, path: Path) -> tuple[str, ...]:
    """Writes the artifact with what running it needs, under its own key; returns what was left out."""
    manifest, needed = artifact.manifest, artifact.manifest.run_files()
    fields = {name: getattr(manifest, name) for name in Manifest.model_fields if name not in _UNUSED}
    with creating(path, **fields) as draft:
        for name in needed:
            shutil.copyfile(artifact.file(name), draft / name)
    return tuple(sorted(set(manifest.files) - set(needed)))


def _copy(files: dict[str, Path], content: Path) -> None:
    for name, path in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, content / name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise ArtifactError(
                path, f"cannot be read ({error.strerror})", fix="give an existing file"
            ) from error


def _record(
    manifest: Manifest,
    targets: dict[str, Path],
    left_out: tuple[str, ...],
    compiling: Compiling,
    content: Path,
) -> BundleRecord:
    files = {
        name: BundleFile(size=(content / name).stat().st_size, sha256=sha256(content / name))
        for name in listing(content)
    }
    wheels = [name for name in files if name.startswith(f"{WHEEL}/")]
    data = {
        "name": manifest.name, "key": manifest.key, "created_by": f"flowpose {flowpose.__version__}",
        "calibration": _calibration(manifest), "left_out": left_out,
        "targets": {name: f"{TARGETS}/{name}.yaml" for name in targets}, "compiling": compiling,
        "wheel": wheels[0] if wheels else None, "versions": manifest.built_with, "files": files,
    }  # fmt: skip
    return BundleRecord.parse(data, "bundle")


def _calibration(manifest: Manifest) -> str | None:
    """Returns the digest of the calibration pictures of the newest stage that had any."""
    for stage in (manifest.stage, *(each.stage for each in reversed(manifest.history))):
        calibration = stage.get("calibration")
        if isinstance(calibration, dict) and isinstance(calibration.get("digest"), str):
            return str(calibration["digest"])
    return None


def _write_record(record: BundleRecord, content: Path, key: Path | None) -> None:
    raw = rendered(record)
    (content / RECORD).write_bytes(raw)
    if key is not None:
        (content / SIGNATURE).write_bytes(signing.sign(raw, key))


def _place(content: Path, out: Path) -> None:
    """Moves a finished bundle to its place, over nothing that is there."""
    if kind(out) == "folder":
        move(content, out)
        return
    names = sorted(listing(content), key=lambda name: ((RECORD, SIGNATURE, name).index(name), name))
    made = content.with_name("bundle.tar" if kind(out) == "tar" else "bundle.tar.gz")
    write_tar(made, {name: content / name for name in names})
    flush(made)
    try:
        os.link(made, out)  # in one step, and never over what is there
    except FileExistsError as error:
        raise ArtifactError(out, "is there already", fix="choose another name") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _claim(made, out)
    flush(out.parent)


def _claim(made: Path, out: Path) -> None:
    """Moves a tar to its place where the file system has no links: first an empty file, for a rename would replace."""
    try:
        out.open("xb").close()
    except FileExistsError as error:
        raise ArtifactError(out, "is there already", fix="choose another name") from error
    os.replace(made, out)


def _head(
    path: Path, found: Iterator[Entry], key: Path | None = None
) -> tuple[BundleRecord, bytes, bytes | None, Iterator[Entry]]:
    """Returns the record, its bytes, its signature if there is one, and the entries that follow.

    Where a key is given the signature is checked first: nothing parses what another may have written.
    """
    first = next(found, None)
    if first is None or first.name != RECORD:
        refuse(path, "is not a bundle", got=first.name if first else "nothing", expected=f"{RECORD} first")
    raw = _small(path, first, LARGEST_RECORD)
    second, signature = next(found, None), None
    if second is not None and second.name == SIGNATURE:
        signature = _small(path, second, signing.LENGTH)
    elif second is not None:
        found = itertools.chain([second], found)
    if key is not None:
        _check_signature(path, raw, signature, key)
    return parsed(path / RECORD, raw), raw, signature, found


def _small(path: Path, entry: Entry, most: int) -> bytes:
    if entry.size > most:
        refuse(path / entry.name, "is too large", got=f"{entry.size} bytes", expected=f"{most} at most")
    return b"".join(_chunks(entry))


def _chunks(entry: Entry) -> Iterator[bytes]:
    """Yields an entry's bytes; no more than the size that it claims."""
    left = entry.size
    while left and (chunk := entry.read(min(left, CHUNK))):
        left -= len(chunk)
        yield chunk


def _check_signature(path: Path, raw: bytes, signature: bytes | None, key: Path) -> None:
    if signature is None:
        fix = f"have it signed: flowpose bundle MODEL --key KEY; or open it without --key {key}"
        raise IntegrityError(path, "is not signed", expected=f"a signature by {key}", fix=fix)
    signing.check(raw, signature, key, path)


def _unpack(path: Path, record: BundleRecord, found: Iterator[Entry], folder: Path) -> None:
    """Writes every file of the record into a folder; IntegrityError at the first that is not as it says."""

    def write(entry: Entry) -> str:
        (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
        return _written(entry, folder / entry.name)

    _check_files(path, record, found, write)


def _check_files(
    path: Path, record: BundleRecord, found: Iterator[Entry], take: Callable[[Entry], str]
) -> None:
    """Gives every file of the record to `take`, which returns its sha256; IntegrityError at the first wrong one."""
    missing = dict(record.files)
    for entry in found:
        listed = missing.pop(entry.name, None)
        if listed is None:
            twice = entry.name in record.files
            what = "holds a file twice" if twice else "holds a file that bundle.json does not list"
            refuse(path, what, got=repr(entry.name))
        where = path / entry.name
        if entry.size != listed.size:
            refuse(where, "has another size", got=entry.size, expected=listed.size)
        digest = take(entry)
        if digest != listed.sha256:
            refuse(where, "was changed", got=f"sha256 {digest}", expected=f"sha256 {listed.sha256}")
    if missing:
        refuse(path, "lacks files", got=", ".join(missing))


def _sha256(entry: Entry) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(entry):
        digest.update(chunk)
    return digest.hexdigest()


def _written(entry: Entry, path: Path) -> str:
    """Writes an entry's bytes into a new file, flushes it, and returns their sha256."""
    digest = hashlib.sha256()
    with path.open("xb") as out:
        for chunk in _chunks(entry):
            digest.update(chunk)
            out.write(chunk)
    flush(path)
    return digest.hexdigest()
