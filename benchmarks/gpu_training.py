"""A training that fits the minutes that are there: speeds are measured, iterations chosen, stages carried out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpose.artifact import find_by_key
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.job import Stage, stage_keys, stages_of
from flowpose.optimize import PACE
from flowpose.pipeline import Done, Run
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe

SHARES: Mapping[str, float] = {
    "autoencoder": 0.12, "train": 0.50, "regressor": 0.06, "distill": 0.16, "finish": 0.16,
}  # fmt: skip
"""Stage -> its share of the time for training that is left after reading, encoding and judging."""

PROBE = 40  # iterations of each stage that its speed is measured on
MARGIN = 0.9  # of the time that is left is planned with
CHECKPOINT_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for.

    Attributes:
        recipe, sets: the recipe and changes to it.
        minutes: of the whole call; training: minutes of training, of all calls together.
        data: folder of data sets, None for the default roots.
        work: where artifacts, plan and phases are kept between calls; out: what comes back.
        smoke: micro sizes.
    """

    recipe: str
    sets: tuple[str, ...]
    minutes: float
    training: float
    data: Path | None
    work: Path
    out: Path
    smoke: bool

    @property
    def roots(self) -> tuple[Path, ...]:
        return (self.data,) if self.data else DEFAULT_ROOTS

    @property
    def root(self) -> Path:
        return self.work / "artifacts"

    def loaded(self, *further: str) -> Recipe:
        return load_recipe(self.recipe, [*self.sets, *further])


Note = Callable[[Mapping[str, Any]], None]
"""Leaves what is known so far."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def train(order: Order, note: Note) -> None:
    """Measures speeds, plans, and trains; goes on with the plan that is there."""
    begun, file = time.perf_counter(), order.work / "plan.json"
    plan = json.loads(file.read_text()) if file.exists() else planned(order, begun)
    file.write_text(json.dumps(plan, indent=1) + "\n")
    recipe = order.loaded(*plan["overrides"])
    done: list[Done] = []
    for stage in stages_of(recipe, "distill"):
        note({"plan": plan, "stages": [each.plain() for each in done], "now": stage})
        done = carried_out(order, recipe, stage)
    note({"plan": plan, "stages": [each.plain() for each in done]})


def carried_out(order: Order, recipe: Recipe, until: Stage) -> list[Done]:
    """Every stage up to this one."""
    return Run(recipe=recipe, root=order.root, data=order.roots, say=say).stages(until)


def planned(order: Order, begun: float) -> dict[str, Any]:
    """What each stage costs, and the overrides that make the recipe fit the time for training."""
    count = 2 if order.smoke else PROBE
    stages = stages_of(order.loaded(), "distill")
    probe = order.loaded("gates=[]", *(
        f"{stage}.optim.{setting}" for stage in stages
        for setting in (f"iterations={count}", "warmup=1", f"checkpoint_every={count}", "sample_every=0")
    ), f"train.joints.iterations={count}", "train.joints.warmup=1")  # fmt: skip
    joints = order.loaded().train.joints.iterations
    costs = {each.stage: cost_of(order.root, each, joints) for each in carried_out(order, probe, "distill")}
    spent = time.perf_counter() - begun
    left = MARGIN * (60 * order.training - spent) - sum(each["fixed_s"] for each in costs.values())
    overrides = ["gates=[]", *(o for stage in stages for o in fitted(order.loaded(), stage, costs, left))]
    return {"recipe": order.recipe, "sets": list(order.sets), "overrides": overrides, "costs": costs,
            "shares": dict(SHARES), "training_minutes": order.training, "probe_s": round(spent, 1)}  # fmt: skip


def cost_of(root: Path, done: Done, joints: int = 0) -> dict[str, float]:
    """Seconds an iteration, and those of reading, encoding and judging, from a stage that was just made.

    The teacher's joints are trained in a run of their own: `joints` iterations of it are a part of what is fixed.
    """
    key, name = done.artifact.manifest.key, done.artifact.manifest.name
    work = root / name / "work" / f"{done.stage}-{key[:12]}"
    own, before = work / PACE, work / "joints" / PACE
    each, spent = _pace(own)
    fixed = max(0.0, done.seconds - spent)
    if before.exists():
        other, spent = _pace(before)
        fixed = max(0.0, fixed - spent) + other * joints
    return {"iteration_s": each, "per_s": 1 / each, "fixed_s": fixed}


def _pace(file: Path) -> tuple[float, float]:
    """(seconds an iteration, seconds of all that were counted)."""
    pace = json.loads(file.read_text())
    return pace["seconds"] / pace["iterations"], pace["seconds"]


def fitted(recipe: Recipe, stage: Stage, costs: Mapping[str, Mapping[str, float]], left: float) -> list[str]:
    """The overrides of one stage: as many iterations as its share of `left` seconds allows."""
    share, each = SHARES[stage] / sum(SHARES[each] for each in costs), costs[stage]["iteration_s"]
    iterations = max(2, int(share * left / each))
    warmup = min(getattr(recipe, stage).optim.warmup, max(1, iterations // 10))
    often = max(1, min(iterations, round(CHECKPOINT_SECONDS / each)))
    found = {"iterations": iterations, "warmup": warmup, "checkpoint_every": often}
    return [f"{stage}.optim.{name}={value}" for name, value in found.items()]


def made(order: Order) -> dict[str, Path]:
    """Stage -> artifact of the plan, as far as they are there."""
    file = order.work / "plan.json"
    plan = json.loads(file.read_text()) if file.exists() else {"overrides": []}
    keys = stage_keys(order.loaded(*plan["overrides"]))
    found = {stage: find_by_key(order.root, key) for stage, key in keys.items()}
    return {stage: path for stage, path in found.items() if path}
