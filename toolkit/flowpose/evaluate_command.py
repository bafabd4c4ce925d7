"""What `flowpose evaluate` does: a shipped model and its references against the truth, without PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import data, image
from flowpose.artifact import Artifact, open_artifact
from flowpose.comparison import (
    Draw,
    Images,
    Motion,
    Pairs,
    Row,
    copy_source,
    motions_of,
    pairs_of,
    row,
    truth_row,
)
from flowpose.data import Pictures
from flowpose.data.folder import ANNOTATIONS, locate, read_folder
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError
from flowpose.report import draw_pose, sheet
from flowpose.runtime import Model, load, load_reference, reference_rows
from flowpose.runtime.loading import precisions
from flowpose.runtime.machine import cpu_model
from flowpose.spec.base import Spec, records
from flowpose.spec.find import find
from flowpose.spec.manifest import Manifest
from flowpose.spec.recipe import DataSpec, DeepFashionData, FiguresData, FolderData, ImageSpec, MarketData

LONGEST = 16  # evaluations of a row; longer grids are there to be timed
OWN: Mapping[str, str] = MappingProxyType({"fp32": "student-1"})
"""Precision -> row of the model's own frame graph; the others go by their precision."""
EXPECTED = ("l1", "teacher-1", "teacher-2", "teacher-16", "student-1", "student-2", "int8")
SOURCES: Mapping[str, type[FolderData | FiguresData | DeepFashionData | MarketData]] = records(
    DataSpec, "source"
)
SEQUENCES, PEOPLE, FRAMES = "sequences", 4, 16  # the split of motions, and how much of it is drawn
SHEET_ROWS, SEED = 16, 0
COLUMNS = ("source", "pose", "truth", "teacher", "student", "int8")

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Asked:
    """What to evaluate on.

    Attributes:
        name: of the set, for the report.
        pictures: of the split.
        sequences: pictures of the set's sequences, None where it has none.
    """

    name: str
    pictures: Pictures
    sequences: Pictures | None


def evaluate_model(
    name: str | Path, *, split: str = "test", path: Path | None = None, pairs: int = 64,
    sheet_file: Path | None = None, backend: str | None = None, threads: int | None = None,
    say: Say = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """The table of a model and everything that it is compared with, as JSON data.

    Args:
        name: a shipped model's name, or the directory of a graph or an engine.
        split: of the data set.
        path: a tar or folder with annotations.json, a folder of splits, or a data root; without it the data that
            the model was made from is looked for in the default roots.
        pairs: how many are drawn; the same ones each time.
        sheet_file: where a contact sheet goes; none without it.
        backend, threads: as for `flowpose.load`.
        say: told a line a row.

    Raises:
        DataError: no such data.
        FlowposeError: what loading and running the models raises.
    """
    begun = time.perf_counter()
    artifact = open_artifact(find("models", name))
    asked = read_asked(artifact.manifest, split, path)
    models = contenders(artifact, backend, threads)
    drawn = pairs_of(asked.pictures, pairs, SEED)
    motions = motions_of(asked.sequences, PEOPLE, FRAMES) if asked.sequences else ()
    rows = compare(models, drawn, motions, say)
    if sheet_file is not None:
        image.write(sheet_file, contact_sheet(models, drawn, SHEET_ROWS))
    some = next(iter(models.values()))
    return {
        "model": str(artifact.path), "key": artifact.manifest.key, "set": asked.name, "n": len(drawn),
        "seed": SEED, "reference": "truth", "rows": [each.plain() for each in rows],
        "absent": [each for each in EXPECTED if each not in models],
        "backend": some.backend, "threads": some.threads, "device": cpu_model(),
        "sheet": str(sheet_file) if sheet_file else None, "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip


def contenders(
    artifact: Artifact, backend: str | None = None, threads: int | None = None
) -> dict[str, Model]:
    """Row -> model, in the table's order: baseline and teacher first, then the student in all its forms."""
    grids = {row: (each.name, each.grids[row]) for row, each in reference_rows(artifact.manifest).items()}
    short = sorted((len(times), row) for row, (_, times) in grids.items() if len(times) - 1 <= LONGEST)

    def of(kind: str) -> dict[str, Model]:
        rows = [row for _, row in short if grids[row][0] == kind]
        return {
            row: load_reference(artifact.path, row, backend=backend, threads=threads, verify=False)
            for row in rows
        }

    own = {OWN.get(each, each): each for each in _precisions(artifact.manifest)}
    made = {
        row: load(artifact.path, precision=each, backend=backend, threads=threads)
        for row, each in own.items()
    }
    first = {row: made.pop(row) for row in OWN.values() if row in made}
    return {**of("l1"), **of("teacher"), **first, **of("student"), **made}


def _precisions(manifest: Manifest) -> tuple[str, ...]:
    return (str(manifest.precision),) if manifest.kind == "engine" else precisions(manifest)


def drawer(model: Model) -> Draw:
    """A runtime model as something that a comparison can draw with; a source is encoded once."""

    def draw(sources: Images, keypoints: NDArray[np.float32]) -> Images:
        rows = zip(sources, keypoints, strict=True)
        return np.stack([model.frame_now(model.encode(source), pose) for source, pose in rows])

    return draw


def compare(
    models: Mapping[str, Model], pairs: Pairs, motions: Sequence[Motion] = (), say: Say = lambda text: None
) -> list[Row]:
    """The rows of truth, copied source and every model."""
    rows = [truth_row(pairs), row("copy-source", copy_source, pairs, motions)]
    for name, model in models.items():
        begun = time.perf_counter()
        rows.append(row(name, drawer(model), pairs, motions))
        say(f"{name}: {time.perf_counter() - begun:.0f} s")
    return rows


def contact_sheet(models: Mapping[str, Model], pairs: Pairs, count: int) -> Images:
    """source | pose | truth | teacher | student | int8 of the first pairs; forms that are absent are left out."""
    teachers = [name for name in models if name.startswith("teacher-")]
    names = (teachers[-1] if teachers else "", OWN["fp32"], "int8")
    there = {label: models[name] for label, name in zip(COLUMNS[3:], names, strict=True) if name in models}
    sources, poses = pairs.sources[:count], pairs.keypoints[:count]
    skeletons = [draw_pose(pose, *sources.shape[1:3]) for pose in poses]
    columns = [sources, skeletons, pairs.truths[:count], *(drawer(m)(sources, poses) for m in there.values())]
    return sheet(list(zip(*columns, strict=True)), [*COLUMNS[:3], *there])


def read_asked(manifest: Manifest, split: str, path: Path | None) -> Asked:
    """The pictures to evaluate on; see `evaluate_model`.

    Raises:
        DataError: there are none.
    """
    height, width = manifest.image.height, manifest.image.width
    if path is not None and _is_part(path):
        return Asked(str(path), _read_part(path, height, width), None)
    spec = _data_of(manifest)
    folder = _folder(spec, split, path)
    if folder is None:
        pictures = data.read(spec, ImageSpec(height=height, width=width), split, _roots(path))
        return Asked(f"{_name(spec)}/{split}", pictures, None)
    moving = read_folder(folder, SEQUENCES, height, width) if _has(folder, SEQUENCES) else None
    return Asked(f"{folder.name}/{split}", read_folder(folder, split, height, width), moving)


def _roots(path: Path | None) -> tuple[Path, ...]:
    return DEFAULT_ROOTS if path is None else (path,)


def _data_of(manifest: Manifest) -> DataSpec:
    """The data that a model was made from, as its line tells."""
    stages = [manifest.stage, *(ancestor.stage for ancestor in reversed(manifest.history))]
    part = next((stage["data"] for stage in stages if "data" in stage), None)
    if part is None:
        raise DataError(manifest.name, "does not say what data it was made from", fix="--data PATH")
    found: Spec = SOURCES[part["source"]].parse(part, manifest.name)
    assert isinstance(found, FolderData | FiguresData | DeepFashionData | MarketData)
    return found


def _name(spec: DataSpec) -> str:
    return spec.source if isinstance(spec, FiguresData) else Path(spec.path).name


def _folder(spec: object, split: str, path: Path | None) -> Path | None:
    """The folder of splits; None where the data are none."""
    if path is not None and _has(path, split):
        return path.resolve()
    return locate(spec.path, _roots(path)) if isinstance(spec, FolderData) else None


def _has(folder: Path, split: str) -> bool:
    names = [f"{name}{suffix}" for name in (split, f"{split}-0") for suffix in (".tar", "")]
    return any((folder / name).exists() for name in names)


def _is_part(path: Path) -> bool:
    return path.is_file() or (path / ANNOTATIONS).is_file()


def _read_part(path: Path, height: int, width: int) -> Pictures:
    """The pictures of one tar or folder.

    Raises:
        DataError: a file that is no tar, or a tar and a folder of one name, which would be read as one split.
    """
    part = path.resolve()
    if part.is_file() and part.suffix != ".tar":
        raise DataError(path, "not a tar", expected="a .tar, or a folder with annotations.json")
    name = part.stem if part.is_file() else part.name
    twin = part.with_name(name if part.is_file() else f"{name}.tar")
    if twin.exists():
        raise DataError(path, "a tar and a folder of one name", got=twin, fix=f"rename {twin}")
    return read_folder(part.parent, name, height, width)
