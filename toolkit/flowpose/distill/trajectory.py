"""Trajectory distillation: regression on the end of the teacher's path from z*, beside the truth.

With z* fixed, the teacher's end point g(z*, condition) is a function of the condition, so regressing on it does
not average over pictures and need not blur; the truth keeps it honest where the teacher is wrong. The teacher is
solved with Heun on the end-dense grid, since few uniform Euler steps give targets that are already too smooth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpose.data import draw_sets
from flowpose.distill.compared import weighted
from flowpose.distill.student import (
    Conditions,
    Made,
    Setting,
    decode,
    draw_conditions,
    pictures_of,
)
from flowpose.flow import end_dense
from flowpose.model.autoencoder import grown
from flowpose.model.losses import charbonnier, feature, gradient
from flowpose.optimize import Draw, Losses, own_device, restoring, save
from flowpose.ranks import WHOLE, Share, by_main, current, dealt
from flowpose.spec.recipe import TrainSpec, TrajectoryDistillation
from flowpose.train.augment import vary_poses
from flowpose.train.teacher import Latents

CHUNK = 16  # conditions solved at once
SAVED = 8  # chunks between two looks at the disk


@dataclass(frozen=True, eq=False)
class EndPoints:
    """What the teacher makes of z* under `pairs` conditions.

    Attributes:
        sources, targets: i64[n] picture numbers of the training split.
        mirrored: bool[n].
        keypoints: f32[n, 133, 3] as the teacher saw them.
        ends: f32[n, c, h, w] latents.
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    keypoints: NDArray[np.float32]
    ends: Tensor

    def conditions(self, latents: Latents, chosen: NDArray[np.int64], share: Share = WHOLE) -> Conditions:
        """The share of some of them, with their ends."""
        chosen = share.of(chosen)
        sources, mirrored = self.sources[chosen], self.mirrored[chosen]
        return Conditions(
            source=latents.pick(sources, mirrored),
            shown=pictures_of(latents, sources, mirrored),
            keypoints=torch.from_numpy(self.keypoints[chosen]),
            truth=pictures_of(latents, self.targets[chosen], mirrored),
            ends=self.ends[torch.from_numpy(chosen)],
            share=share,
        )


def draw_to_solve(latents: Latents, spec: TrajectoryDistillation, train: TrainSpec) -> EndPoints:
    """`pairs` conditions, still without end points; the same for the same seed."""
    rng = np.random.default_rng((spec.optim.seed, 7))
    sources, targets = draw_sets(latents.pictures, rng, spec.pairs, 1)
    mirrored = (rng.random(spec.pairs) < 0.5) & train.flip
    plain = latents.poses(targets[:, 0], mirrored)
    keypoints = vary_poses(plain, rng, train.poses, latents.pictures.images.shape[1])
    return EndPoints(sources, targets[:, 0], mirrored, keypoints, torch.zeros(0))


@torch.no_grad()
def teacher_ends(setting: Setting, spec: TrajectoryDistillation) -> EndPoints:
    """The teacher's end points; kept in the work folder chunk by chunk, so a killed run on the same pictures goes on.

    Several processes solve a chunk each at a time.
    """
    job, latents = setting.job, setting.latents
    drawn = draw_to_solve(latents, spec, job.recipe.train)
    path = trajectories(setting)
    there: list[Tensor] = by_main(lambda: _kept(path))
    device, chunks = own_device(), -(-len(drawn.sources) // CHUNK)
    solver = setting.teacher.on_grid(end_dense(spec.intervals), "heun").to(device)

    def solved(number: int) -> Tensor:
        part = slice(number * CHUNK, (number + 1) * CHUNK)
        context = solver.context(latents.pick(drawn.sources[part], drawn.mirrored[part]).to(device))
        return solver.latents(context, torch.from_numpy(drawn.keypoints[part]).to(device)).cpu()

    done, saved = there, len(there)
    for done in dealt("trajectories", chunks, solved, there):
        if current().main and (len(done) - saved >= SAVED or len(done) == chunks):
            save({"ends": done}, path)
            saved = len(done)
    setting.teacher.cpu()
    return replace(drawn, ends=torch.cat(done))


def trajectories(setting: Setting) -> Path:
    """Where end points are kept; the name tells the pictures that their conditions are drawn from."""
    return setting.job.work / f"trajectories-{setting.latents.pictures.content[:12]}.pt"


def _kept(path: Path) -> list[Tensor]:
    """The end points that a run before solved; none where there was none."""
    if not path.exists():
        return []
    with restoring(path, "holds no end points"):
        return [end[:] for end in torch.load(path, weights_only=True)["ends"]]


class Trajectory:
    """The method: solved conditions and fresh ones, since the few solved ones alone would be learnt by heart."""

    def __init__(self, setting: Setting) -> None:
        assert isinstance(setting.spec, TrajectoryDistillation)
        self.setting, self.spec = setting, setting.spec
        self.points = teacher_ends(setting, setting.spec) if setting.spec.solved else None

    def draw(self, rng: np.random.Generator, size: int, share: Share = WHOLE) -> Conditions:
        """The first `solved` share of the batch has the teacher's end points."""
        latents, train = self.setting.latents, self.setting.job.recipe.train
        if self.points is None:
            return draw_conditions(latents, train, rng, size, share)
        points = self.points
        chosen = rng.integers(len(points.ends), size=self._solved(size))
        rest = max(1, size - len(chosen))
        fresh = draw_conditions(latents, train, rng, rest, share.after(len(chosen)))
        known = points.conditions(latents, chosen, share)
        return Conditions(
            source=torch.cat([known.source, fresh.source]),
            shown=torch.cat([known.shown, fresh.shown]),
            keypoints=torch.cat([known.keypoints, fresh.keypoints]),
            truth=torch.cat([known.truth, fresh.truth]),
            ends=known.ends,
            share=share,
        )

    def _solved(self, size: int) -> int:
        """How many of a whole batch have end points."""
        return min(max(1, round(self.spec.solved * size)), size - 1)

    def losses(self, module: nn.Module, batch: Conditions, made: Made, draw: Draw) -> Losses:
        """To the teacher's end points: in latents, pixels, edges and features."""
        spec, solved = self.spec, len(batch.ends)
        if self.points is None:
            return {}
        if not solved:  # other processes have them
            return {name: made.latents.new_zeros(()) for name in ("teacher", "latent")}
        reference = self.setting.reference
        pictures = made.pictures[:solved]
        with torch.no_grad():
            aim = grown(decode(reference.to(pictures.device), batch.ends, batch.window), reference.shrink)
            wanted = self.setting.features(aim)
        latent = charbonnier(made.latents[:solved], batch.ends)
        far = feature(self.setting.features(pictures), wanted)
        teacher = charbonnier(pictures, aim) + gradient(pictures, aim) + spec.feature * far
        found = {"teacher": spec.teacher * teacher, "latent": spec.latent * latent}
        return weighted(found, batch.share.weight(self._solved(made.batch)))
