"""Whether every batch of a recipe divides by the processes, asked before any work."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from flowpose.errors import SpecError
from flowpose.ranks.share import Share, dividing
from flowpose.spec.optim import OptimSpec
from flowpose.spec.recipe import Recipe

RUNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "autoencoder": ("autoencoder.optim",),
        "train": ("train.joints", "train.optim"),
        "regressor": ("regressor.optim",),
        "teacher_finish": ("features.optim", "teacher_finish.optim"),
        "distill": ("features.optim", "distill.optim"),
        "finish": ("features.optim", "finish.optim"),
    }
)
"""Stage -> the optimization runs of a recipe that it may need."""

PAIRS = 2  # pictures of one person, which stay together where features are trained


def check_batches(recipe: Recipe, stages: Collection[str], share: Share) -> None:
    """Nothing.

    Raises:
        SpecError: a batch of these stages does not divide by the number of processes; lists all of them.
    """
    if share.world == 1:
        return
    paths = dict.fromkeys(path for stage in stages for path in RUNS.get(stage, ()))
    problems = [problem for path in paths for problem in _problems(recipe, path, share.world)]
    if problems:
        raise SpecError(f"{recipe.name} on {share.world} processes", problems)


def _problems(recipe: Recipe, path: str, world: int) -> Iterator[str]:
    """What is wrong with the batch of one run, where the recipe has it."""
    part, name = path.split(".")
    optim = getattr(getattr(recipe, part), name, None)
    if not isinstance(optim, OptimSpec):
        return
    group = {"train.optim": recipe.train.targets, "features.optim": PAIRS}.get(path, 1)
    if max(1, optim.batch // group) % world:
        yield f"recipe.{path}.batch: expected processes {dividing(optim.batch, group)}"
