"""Artifacts: directories that say what they are, are either whole or not there, and notice a changed byte.

Layout: `<root>/<recipe name>/<stage>-<first 12 digits of the key>/`, holding `manifest.json` and the payload.
One is made beside its place and moved there in one step at the end (`half_made`), so a killed process leaves
nothing that can be opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .errors import ArtifactError, IntegrityError, SpecError
from .half_made import explaining, flush, is_partial, move, refuse_existing, temporary, unreadable
from .spec.base import Spec, canonical
from .spec.manifest import FORMAT, MANIFEST, Ancestor, GateResult, Manifest

_LARGEST = 16 << 20  # bytes of manifest.json; people-128's has 48,000
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
        if (path / MANIFEST).is_file() and not is_partial(path) and _read_manifest(path).key == key:
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
    if is_partial(path):
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
    for name in sorted(here):
        if not stat.S_ISREG(_status(path, name).st_mode):  # reading a pipe or a device might never end
            _broken(path, name, "is not a plain file")
    for name, expected in manifest.files.items() if verify else ():
        with _reading(path / name):
            got = sha256(path / name)
        if got != expected:
            found = f"sha256 {got} of {(path / name).stat().st_size} bytes"
            _broken(path, name, "the file was changed", got=found, expected=f"sha256 {expected}")
    return Artifact(path, manifest)


def _status(path: Path, name: str) -> os.stat_result:
    """Returns what a file of an artifact is, links followed."""
    try:
        return (path / name).stat()
    except OSError as error:
        _broken(path, name, f"cannot be read ({error.strerror})")


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns the system's error about a file that is read into flowpose's."""
    try:
        yield
    except OSError as error:
        raise unreadable(file, error) from error


def _read_manifest(path: Path) -> Manifest:
    """Returns the manifest, checked against its own digest, to the byte."""
    size = _status(path, MANIFEST).st_size
    if size > _LARGEST:
        _broken(path, MANIFEST, "is too large", got=f"{size} bytes", expected=f"{_LARGEST} at most")
    with _reading(path / MANIFEST):
        raw = (path / MANIFEST).read_bytes()
    try:
        return _parsed(path, raw)
    except RecursionError:
        _broken(path, MANIFEST, "the file was changed, it is nested too deeply")


def _parsed(path: Path, raw: bytes) -> Manifest:
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
    digest = _digest_or_none(data)
    if digest is None or data.get("self_sha256") != digest or _rendered(data) != raw:
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
