"""Artifacts: directories that say what they are, are either whole or not there, and notice a changed byte.

Layout: `<root>/<recipe name>/<stage>-<first 12 digits of the key>/`, holding `manifest.json` and the payload.
One is made in `.<name>.<random>.partial/artifact/` beside its place and moved there in one step at the end,
so a killed process leaves nothing that can be opened. Its maker holds a lock on the file `lock` beside
`artifact/`; a temporary folder that nobody holds is swept away by the next maker.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from .errors import ArtifactError, IntegrityError, SpecError
from .spec.base import Spec, canonical
from .spec.manifest import FORMAT, MANIFEST, Ancestor, GateResult, Manifest

_PARTIAL = ".partial"
_LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHUNK = 1 << 20  # bytes hashed at a time
_MEND = "delete {path} and make it again (flowpose run), or copy it again from where it is whole"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An opened artifact: its directory and its manifest."""

    path: Path
    manifest: Manifest

    def file(self, relative: str) -> Path:
        """Returns the path of one of its files; ArtifactError when the manifest lists no such file."""
        if relative not in self.manifest.files:
            listed = ", ".join(self.manifest.files) or "no files"
            raise ArtifactError(self.path, "holds no such file", got=relative, expected=f"one of {listed}")
        return self.path / relative


@dataclasses.dataclass
class Draft:
    """An artifact in the making: `draft / "source.onnx"` is where to write a file; fields may be added."""

    path: Path
    fields: dict[str, Any]

    def __truediv__(self, relative: str | Path) -> Path:
        """Returns the path of a file to write, and makes the folders above it."""
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def add(self, **fields: Any) -> None:
        """Sets fields of the manifest that were not known at the start; SpecError where they are wrong."""
        self.fields = {**self.fields, **fields}
        _draft_manifest(self.fields)


def stage_key(parent_key: str | None, stage: str, config: Mapping[str, Any] | Spec) -> str:
    """Returns the key of what a stage makes: 64 hex digits that depend on these three arguments only.

    Args:
        parent_key: key of the artifact that the stage starts from, None for the first.
        stage: the stage's name.
        config: everything that the result depends on, resolved.
    """
    return hashlib.sha256(canonical({"parent": parent_key, "stage": stage, "config": config})).hexdigest()


def place(root: str | Path, recipe: str, stage: str, key: str) -> Path:
    """Returns where the artifact of a recipe's stage lies."""
    return Path(root) / recipe / f"{stage}-{key[:12]}"


def find_by_key(root: str | Path, key: str) -> Path | None:
    """Returns the artifact below `root` that has this key, None where there is none.

    Raises:
        IntegrityError: the manifest of the one in its place was changed.
    """
    for path in sorted(Path(root).glob(f"*/*-{key[:12]}")):
        if (path / MANIFEST).is_file() and not _is_partial(path) and _read_manifest(path).key == key:
            return path
    return None


def ancestors(artifact: Artifact) -> tuple[Ancestor, ...]:
    """Returns the history of an artifact's child: the artifact's own history, then the artifact."""
    manifest = artifact.manifest
    itself = Ancestor(**{name: getattr(manifest, name) for name in Ancestor.model_fields})
    return (*manifest.history, itself)


def open_artifact(path: str | Path, *, verify: bool = True) -> Artifact:
    """Returns an artifact whose manifest and list of files are right, and with `verify` each file's content.

    Args:
        path: its directory.
        verify: read every file and compare its sha256 (about 0.1 s for 20 MB).

    Raises:
        ArtifactError: there is no artifact, it is half made, or this version does not read its format.
        IntegrityError: a file is missing, changed or not listed; it is named.
    """
    path = Path(path)
    if _is_partial(path):
        raise ArtifactError(path, "was never finished", fix="run the command that makes it again")
    if not (path / MANIFEST).is_file():
        what = "is not an artifact, it has no manifest.json" if path.is_dir() else "no such artifact"
        fix = "give the directory of an artifact, or make one with flowpose run"
        raise ArtifactError(path, what, fix=fix)
    return _open(path, verify)


@contextmanager
def creating(path: str | Path, **fields: Any) -> Iterator[Draft]:
    """Makes an artifact at `path`: all of it, or nothing.

    The block writes files into the draft that it is given. At its end they are hashed, the manifest is
    written, everything is flushed to the disk and read back, and the directory takes its place in one step.

    Args:
        path: the artifact's directory, which must not exist.
        fields: the manifest's fields (all but `files`); those known only later are given to `draft.add`.

    Raises:
        ArtifactError: `path` exists, cannot be written, or the disk is full.
        SpecError: the fields make no manifest; raised before the block runs.
    """
    path = Path(path)
    _draft_manifest(fields)
    refuse_existing(path)
    with explaining(path), temporary(path) as folder:
        draft = Draft(folder, fields)
        yield draft
        _seal(draft)
        _open(folder, verify=True)
        move(folder, path)


def with_gates(artifact: Artifact, gates: Iterable[GateResult]) -> Artifact:
    """Returns the artifact with these gate results in place of those it had, sealed again.

    Only `manifest.json` is written anew, in one step, so a killed process leaves the old one or the new one;
    nothing is written where the results are the same. Key and files stay as they are, and artifacts that were
    made from it before keep, in their history, the results of then.

    Raises:
        ArtifactError: the folder cannot be written, or the disk is full.
        IntegrityError: the manifest was changed.
    """
    results = tuple(gates)
    manifest = _read_manifest(artifact.path)
    if manifest.gates != results:
        changed = manifest.model_copy(update={"gates": results}).model_dump(mode="json")
        with explaining(artifact.path), temporary(artifact.path) as folder:
            (folder / MANIFEST).write_bytes(_rendered({**changed, "self_sha256": _self_digest(changed)}))
            flush(folder / MANIFEST)
            os.replace(folder / MANIFEST, artifact.path / MANIFEST)
            flush(artifact.path)
        manifest = _read_manifest(artifact.path)
    return Artifact(artifact.path, manifest)


def sweep(folder: str | Path) -> tuple[Path, ...]:
    """Removes what killed processes left half made in a folder, and returns what it removed."""
    removed = []
    for partial in sorted(Path(folder).glob(f".*{_PARTIAL}")):
        if not os.access(partial / _LOCK, os.W_OK):  # another user's, or just being made
            continue
        lock = _locked(partial, "r+b")
        if lock is not None:
            with lock:
                _remove(partial)
            removed.append(partial)
    return tuple(removed)


def _draft_manifest(fields: Mapping[str, Any]) -> Manifest:
    """Returns the manifest that the fields make so far."""
    ours = sorted({"files", "self_sha256"} & fields.keys())
    if ours:
        raise SpecError("manifest", [f"manifest.{name}: set when the artifact is sealed" for name in ours])
    manifest = Manifest.parse(dict(fields), "manifest")
    canonical(manifest)  # a NaN in the configuration must show now, not when the work is done
    return manifest


def _seal(draft: Draft) -> None:
    """Writes the manifest with the digest of every file and of itself, and flushes everything to the disk."""
    names = [name for name in listing(draft.path) if name != MANIFEST]
    for name in names:
        flush(draft.path / name)
    files = {name: sha256(draft.path / name) for name in names}
    data = Manifest.parse({**draft.fields, "files": files}, "manifest").model_dump(mode="json")
    (draft.path / MANIFEST).write_bytes(_rendered({**data, "self_sha256": _self_digest(data)}))
    flush(draft.path / MANIFEST)
    for folder in [draft.path, *(entry for entry in draft.path.rglob("*") if entry.is_dir())]:
        flush(folder)


def _rendered(data: Mapping[str, Any]) -> bytes:
    """Returns the bytes of `manifest.json`; the only ones that are accepted for this data."""
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _self_digest(data: Mapping[str, Any]) -> str:
    """Returns the sha256 of a manifest's canonical JSON without its own digest."""
    return hashlib.sha256(canonical({k: v for k, v in data.items() if k != "self_sha256"})).hexdigest()


def _open(path: Path, verify: bool) -> Artifact:
    manifest = _read_manifest(path)
    here, listed = set(listing(path)), {*manifest.files, MANIFEST}
    for name in sorted(listed - here):
        _broken(path, name, "the file is missing")
    for name in sorted(here - listed):
        _broken(path, name, "the file is not one of the artifact's")
    for name, expected in manifest.files.items() if verify else ():
        got = sha256(path / name)
        if got != expected:
            found = f"sha256 {got} of {(path / name).stat().st_size} bytes"
            _broken(path, name, "the file was changed", got=found, expected=f"sha256 {expected}")
    return Artifact(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    """Returns the manifest, checked against its own digest, to the byte."""
    raw = (path / MANIFEST).read_bytes()
    try:
        data = json.loads(raw)
    except ValueError as error:
        _broken(path, MANIFEST, f"the file was changed, it is not JSON any more ({error})")
    if not isinstance(data, dict):
        _broken(path, MANIFEST, "the file was changed, it holds no table")
    if data.get("format") != FORMAT:
        fix = "install the flowpose version that wrote it, or make the artifact again with flowpose run"
        raise ArtifactError(
            path / MANIFEST, "unknown format version", got=data.get("format"), expected=FORMAT, fix=fix
        )
    if data.get("self_sha256") != _digest_or_none(data) or _rendered(data) != raw:
        _broken(path, MANIFEST, "the file was changed, its content is not that of its self_sha256")
    return Manifest.parse(data, "manifest", source=path / MANIFEST)


def _digest_or_none(data: Mapping[str, Any]) -> str | None:
    """Returns the digest of a manifest, None where it holds what no manifest can."""
    try:
        return _self_digest(data)
    except (SpecError, UnicodeEncodeError):  # NaN, or half of a surrogate pair
        return None


def _broken(
    path: Path, name: str, what: str, got: str | None = None, expected: str | None = None
) -> NoReturn:
    raise IntegrityError(path / name, what, got=got, expected=expected, fix=_MEND.format(path=path))


def listing(path: Path) -> list[str]:
    """Returns the relative paths of all files below a directory, with `/`, sorted."""
    return sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*") if not entry.is_dir())


def sha256(path: Path) -> str:
    """Returns the digest of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Waits until a file's or a directory's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_partial(path: Path) -> bool:
    """Whether a path lies in the temporary folder of an artifact that was never finished."""
    return any(part.startswith(".") and part.endswith(_PARTIAL) for part in path.absolute().parts)


def refuse_existing(path: Path) -> None:
    """Raises ArtifactError where something is at a path that is to be made."""
    if path.exists():
        raise ArtifactError(path, "is there already", fix=f"use it, or delete {path} to make it again")


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turns the error of a full disk into one that says so."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        fix = "free some, and run the same command again"
        raise ArtifactError(path, "no space is left on the disk", fix=fix) from error


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Gives an empty directory beside `path` that is locked while in use and removed afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        partial, lock = _lock_new(path)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        fix = "choose another output folder"
        raise ArtifactError(path, f"cannot be written ({error})", fix=fix) from error
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
        lock = _locked(partial, "w+b")
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
