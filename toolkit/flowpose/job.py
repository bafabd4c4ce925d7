"""One stage of one recipe: what it depends on, its key, and where its artifact and its work lie."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from flowpose.artifact import Artifact, ancestors, find_by_key, open_artifact, place, sha256, stage_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.spec.check import OPTIONAL
from flowpose.spec.find import find
from flowpose.spec.judging import EvaluateSpec
from flowpose.spec.manifest import Measurement
from flowpose.spec.reading import load_calibration, load_recipe
from flowpose.spec.recipe import FiguresData, PretrainedAutoencoderSpec, Recipe

Stage = Literal[
    "autoencoder", "train", "regressor", "teacher_finish", "distill", "finish", "quantize", "export"
]
ORDER: tuple[Stage, ...] = (
    "autoencoder", "train", "regressor", "teacher_finish", "distill", "finish", "quantize", "export",
)  # fmt: skip

PARENTS: Mapping[Stage, tuple[Stage, ...]] = MappingProxyType(
    {
        "autoencoder": (),
        "train": ("autoencoder",),
        "regressor": ("train",),
        "teacher_finish": ("train",),
        "distill": ("train",),
        "finish": ("distill",),
        "quantize": ("finish", "distill"),
        "export": ("quantize",),
    }
)
"""What each stage starts from: the first of these that the recipe has."""

GOALS: Mapping[Stage, Stage] = MappingProxyType({"distill": "finish"})
"""Who asks for the key's stage gets this one too: a student is there when it is finished."""

DEPENDS: Mapping[Stage, tuple[str, ...]] = MappingProxyType(
    {
        "autoencoder": ("data", "image", "autoencoder"),
        "train": ("model", "train"),
        "regressor": ("regressor",),
        "teacher_finish": ("teacher_finish", "features"),
        "distill": ("distill", "features"),
        "finish": ("finish", "features"),
        "quantize": ("quantize",),
        "export": ("export",),
    }
)
"""The parts of the recipe that each stage adds to its parent's key; `features` where their loss has a weight."""

COMPARED: tuple[Stage, ...] = ("regressor", "teacher_finish")
"""Stages whose models are kept beside a student's graphs, to be compared with it; graphs depend on them."""

FITTED: tuple[Stage, ...] = ("autoencoder", "train", "regressor", "teacher_finish", "distill", "finish")
"""Stages that learn from the train split."""

JUDGED: tuple[Stage, ...] = ("train", "regressor", "teacher_finish", "distill", "finish")
"""Stages that are scored on the recipe's pairs when they are made."""

STARTED: Mapping[Stage, str] = MappingProxyType(
    {"autoencoder": "autoencoder", "train": "train", "distill": "distill"}
)
"""Stages that may start from another recipe's, and the part of the recipe whose `start` names it."""

SILENT = {"optim": {"checkpoint_every", "sample_every"}}
"""Settings that change how a stage is watched, not what it makes."""

LATE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "autoencoder": {"shrink": 1, "start": None},
        "distill": {"sharpen": 0.0, "start": None},
        "finish": {"reopen": True},
        "regressor": {"sharpen": 0.0},
        "teacher_finish": {"reopen": True, "sharpen": 0.0},
    }
)
"""Part of a recipe -> settings that came later, left out at the values that make what was made before: keys stay."""

ON_DISK: Mapping[str, str] = MappingProxyType(
    {
        "folder": r"{split}(-\d+)?(\.tar)?",
        "deepfashion": r"fash?ion-(resize-)?\w+-{split}\.csv|{split}_(pairs|pairs_data|data)\.(txt|json)|pose",
        "market": r"market-\w+-{split}\.csv",
    }
)
"""Source of data -> names of what a split of it is on disk."""

SHIPPED = "models/"
"""Stands before the name of a shipped model in `train.start`."""

WEIGHTS = (".safetensors", ".bin")
"""Files of a diffusers autoencoder beside its config.json."""

TOOLS = ("flowpose", "torch", "numpy", "onnx", "nvidia-modelopt", "onnxruntime", "openvino")


def stages_of(recipe: Recipe, until: Stage = "export") -> tuple[Stage, ...]:
    """The stages that a recipe has, in order, up to `until`; up to `distill` means with `finish` (see GOALS)."""
    last = ORDER.index(GOALS.get(until, until))
    return tuple(
        stage for stage in ORDER[: last + 1] if stage not in OPTIONAL or getattr(recipe, stage) is not None
    )


def parent_stage(recipe: Recipe, stage: Stage) -> Stage | None:
    """The stage that a stage of this recipe starts from; None for the first."""
    here = stages_of(recipe)
    return next((each for each in PARENTS[stage] if each in here), None)


def stage_config(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The part of the recipe that decides what a stage makes, as plain data."""
    parts: dict[str, Any] = {}
    for name in DEPENDS[stage]:
        part = getattr(recipe, name)
        if name == "features" and (part is None or not getattr(recipe, stage).feature):
            continue
        plain = part.model_dump(mode="json", exclude=SILENT if hasattr(part, "optim") else None)
        late = LATE.get(name, {})
        parts[name] = {key: value for key, value in plain.items() if key not in late or value != late[key]}
    start = getattr(getattr(recipe, STARTED[stage]), "start", None) if stage in STARTED else None
    if start:
        parts["start"] = _start_key(start, "finish" if stage == "distill" else stage)
    if stage == "autoencoder" and isinstance(recipe.autoencoder, PretrainedAutoencoderSpec):
        parts["autoencoder"]["path"] = pretrained_digest(recipe.autoencoder) or recipe.autoencoder.path
    steps, usual = steps_of(recipe.evaluate), steps_of(EvaluateSpec())
    if stage == "export" and recipe.export.references and steps != usual:
        parts["steps"] = steps
    return parts


def steps_of(evaluate: EvaluateSpec) -> list[int]:
    """The numbers of evaluations at which a teacher is kept beside a student's graphs; left out of keys as LATE is."""
    return sorted({*evaluate.teacher_steps, *evaluate.latency_steps})


def pretrained_digest(spec: PretrainedAutoencoderSpec) -> str | None:
    """The sha256 of an autoencoder's configuration and weights, wherever it lies; None where it is not on this disk."""
    folder = Path(spec.path)
    if not (folder / "config.json").is_file():
        return None
    files = sorted(each for each in folder.iterdir() if each.suffix in WEIGHTS or each.name == "config.json")
    seen = [(path, path.stat()) for path in files]
    lines = [f"{path.name} {_read_once(path, at.st_size, at.st_mtime_ns)}\n" for path, at in seen]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=8)
def _read_once(path: Path, size: int, changed: int) -> str:
    """The sha256 of a file; read again where its size or its time of change (ns) is another."""
    return sha256(path)


def _start_key(name: str, stage: Stage) -> str:
    """The key of what a stage starts from: another recipe's, or a shipped model."""
    if name.startswith(SHIPPED):
        shipped = find("models", name.removeprefix(SHIPPED))
        return open_artifact(shipped, verify=False).manifest.key
    return started_key(name, stage)


def started_key(name: str, stage: Stage) -> str:
    """The key of another recipe's stage; of a student that is not finished its distillation's."""
    keys = stage_keys(load_recipe(name))
    return keys.get(stage) or keys["distill"]


def stage_keys(recipe: Recipe, calibration: Mapping[str, Any] | None = None) -> dict[Stage, str]:
    """The key of every stage that the recipe has; they depend on it and its calibration set, not on what exists.

    A pretrained autoencoder counts by its content, where it is there.

    The graphs hold the L1 baseline and the finished teacher beside the student, so their key depends on theirs, too.
    """
    keys: dict[Stage, str] = {}
    for stage in stages_of(recipe):
        config = stage_config(recipe, stage)
        if stage == "quantize":
            config = {**config, "calibration": dict(calibration or {})}
        if stage == "export":
            config = {**config, **{each: keys[each] for each in COMPARED if each in keys}}
        parent = parent_stage(recipe, stage)
        keys[stage] = stage_key(keys[parent] if parent else None, stage, config)
    return keys


def data_digest(recipe: Recipe, split: str, roots: tuple[Path, ...]) -> str | None:
    """The sha256 of what a split of the recipe's data is on this disk; None for drawn data, or where it is not.

    Of a tar every byte counts, of a folder its annotations and the names and sizes of its pictures, of
    DeepFashion and Market-1501 the annotation and pair files, and folders of poses.
    """
    data = recipe.data
    if isinstance(data, FiguresData):
        return None
    folder = next(
        (each for each in (Path(data.path), *(root / data.path for root in roots)) if each.is_dir()), None
    )
    if folder is None:
        return None
    own = ON_DISK[data.source].format(split=re.escape(split))
    parts = tuple(sorted(each for each in folder.iterdir() if re.fullmatch(own, each.name)))
    return _digest(parts) if parts else None


@lru_cache(maxsize=2)
def _digest(parts: tuple[Path, ...]) -> str:
    """The sha256 of files and folders; read once a process."""
    found = hashlib.sha256()
    for part in parts:
        for line in _lines(part):
            found.update(line)
    return found.hexdigest()


def _lines(part: Path) -> Iterator[bytes]:
    """What a file or a folder adds to a digest: its name, then its bytes, or those of its annotations and a list."""
    yield f"{part.name}\n".encode()
    if part.is_file():
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk
        return
    for path in sorted(each for each in part.rglob("*") if each.is_file()):
        yield f"{path.relative_to(part).as_posix()} {path.stat().st_size}\n".encode()
        if path.suffix in (".json", ".txt"):
            yield path.read_bytes()


def versions() -> dict[str, str]:
    """Versions of Python and of the tools that are installed here."""
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage to be done.

    Attributes:
        recipe: the whole recipe.
        stage: which stage.
        key: of the artifact to make.
        root: where artifacts are kept.
        parent: the artifact it starts from, None for the first stage.
        data: folders in which named data sets are looked for.
    """

    recipe: Recipe
    stage: Stage
    key: str
    root: Path
    parent: Artifact | None = None
    data: tuple[Path, ...] = DEFAULT_ROOTS

    @property
    def path(self) -> Path:
        """Where the artifact will be."""
        return place(self.root, self.recipe.name, self.stage, self.key)

    @property
    def work(self) -> Path:
        """Where checkpoints, samples and scalars are kept while it is made."""
        return self.root / self.recipe.name / "work" / f"{self.stage}-{self.key[:12]}"

    @property
    def set_name(self) -> str:
        """What measurements call the data: `people` or `figures`."""
        data = self.recipe.data
        return Path(data.path).name if data.source == "folder" else data.source

    def measured(
        self, metric: str, value: float, *, n: int, split: str, unit: str = "", against: str = "truth"
    ) -> Measurement:
        """A measurement made by this stage."""
        return Measurement(
            metric=metric, value=float(value), unit=unit, n=n, set=f"{self.set_name}/{split}",
            against=against, stage=self.stage,
        )  # fmt: skip

    def sibling(self, stage: Stage) -> Artifact | None:
        """The artifact of another stage of this recipe; None where the recipe lacks the stage or nobody made it.

        Raises:
            IntegrityError: it was changed.
        """
        calibration = load_calibration(self.recipe.quantize.calibration).model_dump(mode="json")
        key = stage_keys(self.recipe, calibration).get(stage)
        found = find_by_key(self.root, key) if key else None
        return open_artifact(found) if found else None

    def _made_of(self) -> dict[str, Any]:
        """The settings and, where the stage learns, the data that this stage's artifact comes from."""
        made = {"name": self.stage, **stage_config(self.recipe, self.stage)}
        pretrained = self.recipe.autoencoder
        if self.stage == "autoencoder" and isinstance(pretrained, PretrainedAutoencoderSpec):
            made["pretrained_digest"] = pretrained_digest(pretrained)
            made["autoencoder"]["path"] = pretrained.path
        digest = data_digest(self.recipe, "train", self.data) if self.stage in FITTED else None
        if digest:
            made["data_digest"] = digest
        if self.stage == "export":
            keys = stage_keys(self.recipe)
            made |= {f"{each}_key": keys[each] for each in COMPARED if each in keys}
        return made

    def fields(self, kind: str) -> dict[str, Any]:
        """The manifest's fields that every stage fills in the same way."""
        return {
            "kind": kind,
            "name": self.recipe.name,
            "key": self.key,
            "parent": self.parent.manifest.key if self.parent else None,
            "stage": self._made_of(),
            "image": {"height": self.recipe.image.height, "width": self.recipe.image.width},
            "pose": {"format": "coco-wholebody-133", "joints": 133},
            "built_with": versions(),
            "history": ancestors(self.parent) if self.parent else (),
            "card": dict(self.recipe.card),
        }
