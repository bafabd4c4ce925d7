"""One stage of one recipe: what it depends on, its key, and where its artifact and its work lie."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from flowpose.artifact import Artifact, ancestors, place, stage_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.spec.manifest import Measurement
from flowpose.spec.recipe import Recipe

Stage = Literal["autoencoder", "train", "distill", "quantize", "export"]
ORDER: tuple[Stage, ...] = ("autoencoder", "train", "distill", "quantize", "export")

DEPENDS: Mapping[Stage, tuple[str, ...]] = MappingProxyType(
    {
        "autoencoder": ("data", "image", "autoencoder"),
        "train": ("model", "train"),
        "distill": ("distill",),
        "quantize": ("quantize",),
        "export": ("export",),
    }
)
"""The parts of the recipe that each stage adds to its parent's key."""

SILENT = {"optim": {"checkpoint_every", "sample_every"}}
"""Settings that change how a stage is watched, not what it makes."""

TOOLS = ("flowpose", "torch", "numpy", "onnx", "nvidia-modelopt", "onnxruntime", "openvino")


def stage_config(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The part of the recipe that decides what a stage makes, as plain data."""
    parts: dict[str, Any] = {}
    for name in DEPENDS[stage]:
        part = getattr(recipe, name)
        parts[name] = part.model_dump(mode="json", exclude=SILENT if hasattr(part, "optim") else None)
    return parts


def stage_keys(recipe: Recipe, calibration: Mapping[str, Any] | None = None) -> dict[Stage, str]:
    """The key of every stage; they depend on the recipe and its calibration set only, not on what exists."""
    keys: dict[Stage, str] = {}
    parent = None
    for stage in ORDER:
        config = stage_config(recipe, stage)
        if stage == "quantize":
            config = {**config, "calibration": dict(calibration or {})}
        parent = keys[stage] = stage_key(parent, stage, config)
    return keys


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

    def fields(self, kind: str) -> dict[str, Any]:
        """The manifest's fields that every stage fills in the same way."""
        return {
            "kind": kind,
            "name": self.recipe.name,
            "key": self.key,
            "parent": self.parent.manifest.key if self.parent else None,
            "stage": {"name": self.stage, **stage_config(self.recipe, self.stage)},
            "image": {"height": self.recipe.image.height, "width": self.recipe.image.width},
            "pose": {"format": "coco-wholebody-133", "joints": 133},
            "built_with": versions(),
            "history": ancestors(self.parent) if self.parent else (),
            "card": dict(self.recipe.card),
        }
