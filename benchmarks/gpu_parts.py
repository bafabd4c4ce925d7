"""Artifacts on their way back from a machine that returns few small files: packed into tar parts, put together here.

Weights travel in fp16 (a recipe's generators do not fit otherwise). What is put together is therefore sealed anew,
and its card says so; keys and measurements are those of the machine, taken before the rounding.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from flowpose.artifact import creating
from flowpose.errors import ArtifactError, IntegrityError
from flowpose.spec.manifest import MANIFEST, Manifest

PART = 15 << 20  # bytes
PARTS = 4  # beside results, log and sheet: 8 files and 64 MiB come back
SUFFIX = ".safetensors"
NOTE = "rounded to fp16 on the way back from the GPU machine; the measurements were made before"


def halved(source: Path, target: Path) -> None:
    """Nothing; writes a safetensors file with the layers' weights in fp16, other tensors (z*, scales) as they are.

    Raises:
        ArtifactError: a weight is too large for fp16.
    """
    tensors = load_file(source)
    for name, value in tensors.items():
        if name.endswith("weight") and value.dtype == torch.float32:
            tensors[name] = value.half()
            if not tensors[name].isfinite().all():
                raise ArtifactError(source, "a weight does not fit fp16", got=name, expected="65504 or less")
    save_file(tensors, target)


def pack(artifacts: Iterable[Path], out: Path, part: int = PART, parts: int = PARTS) -> dict[str, Any]:
    """{"parts": files with their bytes and sha256, "packed", "left_out": artifacts}; what comes first goes first."""
    for old in out.glob("artifacts.tar.*"):
        old.unlink()
    packed, left = [], []
    with tempfile.TemporaryDirectory() as name:
        archive, used = Path(name) / "artifacts.tar", 0
        with tarfile.open(archive, "w") as tar:
            for artifact in artifacts:
                members = list(_members(artifact, Path(name)))
                size = sum(file.stat().st_size + 2048 for file, _ in members)
                if used + size > part * parts - 16384:  # a tar ends with zeros
                    left.append(str(artifact))
                    continue
                used += size
                packed.append(str(artifact))
                for file, arcname in members:
                    tar.add(file, arcname)
        written = [_part(out, number, piece) for number, piece in enumerate(_pieces(archive, part))]
    return {"parts": written, "packed": packed, "left_out": left, "weights": NOTE}


def _members(artifact: Path, folder: Path) -> Iterable[tuple[Path, str]]:
    """Yields the files of an artifact as they travel, with their names in the tar."""
    below = f"{artifact.parent.name}/{artifact.name}"
    for file in sorted(each for each in artifact.rglob("*") if each.is_file()):
        name = f"{below}/{file.relative_to(artifact).as_posix()}"
        if file.suffix == SUFFIX:
            small = folder / name.replace("/", "-")
            halved(file, small)
            yield small, name
        else:
            yield file, name


def _pieces(archive: Path, size: int) -> Iterable[bytes]:
    with archive.open("rb") as file:
        while piece := file.read(size):
            yield piece


def _part(out: Path, number: int, piece: bytes) -> dict[str, Any]:
    path = out / f"artifacts.tar.{number}"
    path.write_bytes(piece)
    return {"file": path.name, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()}


def unpack(folder: Path, root: Path) -> list[Path]:
    """The artifacts made below `root` of the parts that lie in `folder` with their results.json.

    Raises:
        IntegrityError: a part is missing or was changed.
    """
    listed = json.loads((folder / "results.json").read_text())["packing"]["parts"]
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "artifacts.tar"
        with archive.open("wb") as file:
            for each in listed:
                file.write(_checked(folder / each["file"], each["sha256"]))
        with tarfile.open(archive) as tar:
            tar.extractall(name, filter="data")
        manifests = sorted(Path(name).glob(f"*/*/{MANIFEST}"))
        return [_sealed(path.parent, root) for path in manifests]


def _checked(path: Path, expected: str) -> bytes:
    piece = path.read_bytes() if path.is_file() else b""
    got = hashlib.sha256(piece).hexdigest()
    if got != expected:
        raise IntegrityError(path, "the part was changed", got=got, expected=expected, fix="fetch it again")
    return piece


def _sealed(travelled: Path, root: Path) -> Path:
    """The artifact's place below `root`; made there unless it is there already."""
    place = root / travelled.parent.name / travelled.name
    if place.exists():
        return place
    data = json.loads((travelled / MANIFEST).read_text())
    fields = Manifest.parse(data, "manifest").model_dump(mode="json", exclude={"files", "self_sha256"})
    fields["card"] = {**fields["card"], "weights": NOTE}
    with creating(place, **fields) as draft:
        for name in data["files"]:
            if name.endswith(SUFFIX):
                tensors = load_file(travelled / name)
                save_file({key: _full(value) for key, value in tensors.items()}, draft / name)
            else:
                (draft / name).write_bytes((travelled / name).read_bytes())
    return place


def _full(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype == torch.float16 else value
