"""One step from a fixed z*: regression on the end of the teacher's trajectory, on the truth, and on features.

z* is zero unless the recipe says otherwise. With z* fixed, the teacher's end point g(z*, condition) is a
function of the condition, so regressing on it does not average over pictures and need not blur; the truth
keeps it honest where the teacher is wrong. The teacher is solved with Heun on the end-dense grid, since few
uniform Euler steps give targets that are already too smooth. The student starts from the teacher's weights;
decoder included, because at one step the decoder is half the model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpose import data
from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.data import Pictures, draw_sets
from flowpose.errors import ArtifactError
from flowpose.evaluate import drawer, measure
from flowpose.flow import end_dense
from flowpose.job import Job
from flowpose.model.autoencoder import Autoencoder
from flowpose.model.generator import Generator
from flowpose.model.losses import charbonnier, feature, gradient
from flowpose.model.pictures import to_tensor
from flowpose.model.weights import GENERATOR, STUDENT_GRID, STUDENT_SOLVER, load_generator, save_weights
from flowpose.optimize import Losses, Task, run, save
from flowpose.progress import tracking
from flowpose.spec.recipe import Recipe, TrainSpec, TrajectoryDistillation
from flowpose.train.augment import hide_parts
from flowpose.train.teacher import Latents, encode_all, write_samples

CHUNK = 16  # conditions solved at once
TRAJECTORIES = "trajectories.pt"


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


def draw_conditions(latents: Latents, spec: TrajectoryDistillation, train: TrainSpec) -> EndPoints:
    """`pairs` conditions, still without end points; the same for the same seed."""
    rng = np.random.default_rng((spec.optim.seed, 7))
    sources, targets = draw_sets(latents.pictures, rng, spec.pairs, 1)
    mirrored = (rng.random(spec.pairs) < 0.5) & train.flip
    keypoints = hide_parts(latents.poses(targets[:, 0], mirrored), rng, train.joint_dropout)
    return EndPoints(sources, targets[:, 0], mirrored, keypoints, torch.zeros(0))


@torch.no_grad()
def teacher_ends(job: Job, teacher: Generator, latents: Latents, spec: TrajectoryDistillation) -> EndPoints:
    """The teacher's end points; kept in the work folder chunk by chunk, so a killed run goes on."""
    drawn = draw_conditions(latents, spec, job.recipe.train)
    path = job.work / TRAJECTORIES
    done: list[Tensor] = list(torch.load(path, weights_only=True)["ends"]) if path.exists() else []
    solver = teacher.on_grid(end_dense(spec.intervals), "heun")
    chunks = range(0, len(drawn.sources), CHUNK)
    with tracking("trajectories", len(chunks), len(done)) as advance:
        for number, start in list(enumerate(chunks))[len(done) :]:
            part = slice(start, start + CHUNK)
            context = solver.context(latents.pick(drawn.sources[part], drawn.mirrored[part]))
            done.append(solver.latents(context, torch.from_numpy(drawn.keypoints[part])))
            advance(number + 1)
            if (number + 1) % 8 == 0 or number + 1 == len(chunks):
                save({"ends": done}, path)
    return replace(drawn, ends=torch.cat(done))


class _Student(nn.Module):
    """The trained part: velocity network and decoder. (source latents, keypoints) -> (latents, pictures)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow, self.decoder = generator.flow, generator.autoencoder.decoder
        self.generator = [generator]  # in a list, so that the encoder is not trained

    def forward(self, source: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        generator = self.generator[0].to(source.device)
        latents = generator.latents(generator.context(source), keypoints)
        return latents, generator.autoencoder.decode(latents)


def _truth(pictures: Pictures, numbers: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    images = pictures.images[numbers]
    return to_tensor(np.where(mirrored[:, None, None, None], images[:, :, ::-1], images))


@dataclass(frozen=True, eq=False)
class _Batch:
    """Conditions with the truth; the first `solved` of them have the teacher's end points too."""

    source: Tensor
    keypoints: Tensor
    truth: Tensor
    ends: Tensor

    @property
    def solved(self) -> int:
        return len(self.ends)

    def on(self, device: torch.device) -> _Batch:
        """The same on a device."""
        return _Batch(*(part.to(device) for part in (self.source, self.keypoints, self.truth, self.ends)))


def _draw(latents: Latents, points: EndPoints, recipe: Recipe, rng: np.random.Generator) -> _Batch:
    """Solved conditions and fresh ones: the few solved ones alone would be learnt by heart."""
    spec, size, solved = recipe.train, recipe.distill.optim.batch, recipe.distill.solved
    chosen = rng.integers(len(points.ends), size=max(1, round(solved * size)))
    fresh, aims = draw_sets(latents.pictures, rng, max(1, size - len(chosen)), 1)
    sources, targets = (
        np.concatenate([points.sources[chosen], fresh]),
        np.concatenate([points.targets[chosen], aims[:, 0]]),
    )
    mirrored = np.concatenate([points.mirrored[chosen], (rng.random(len(fresh)) < 0.5) & spec.flip])
    shown = hide_parts(latents.poses(aims[:, 0], mirrored[len(chosen) :]), rng, spec.joint_dropout)
    return _Batch(
        source=latents.pick(sources, mirrored),
        keypoints=torch.from_numpy(np.concatenate([points.keypoints[chosen], shown])),
        truth=_truth(latents.pictures, targets, mirrored),
        ends=points.ends[torch.from_numpy(chosen)],
    )


def student_losses(
    module: nn.Module, reference: Autoencoder, batch: _Batch, spec: TrajectoryDistillation
) -> Losses:
    """Pixel, edge, feature and latent losses to the teacher's end points and to the truth, of one batch."""
    batch = batch.on(next(module.parameters()).device)
    found, y = module(batch.source, batch.keypoints)
    with torch.no_grad():
        aim = reference.to(batch.ends.device).decode(batch.ends)
    made = y[: batch.solved]
    latent = charbonnier(found[: batch.solved], batch.ends)
    teacher = charbonnier(made, aim) + gradient(made, aim)
    real = charbonnier(y, batch.truth) + gradient(y, batch.truth)
    far_teacher = feature(reference.features, made, aim)
    far_real = feature(reference.features, y, batch.truth)
    loss = spec.teacher * (teacher + spec.feature * far_teacher) + spec.truth * (
        real + spec.feature * far_real
    )
    named = {"latent": latent, "teacher": teacher, "truth": real, "feature": far_real}
    return {"loss": loss + spec.latent * latent, **named}


def distill_trajectory(job: Job) -> Artifact:
    """Makes the student artifact from a model artifact.

    Raises:
        ArtifactError: the job has no teacher.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    if job.parent is None:
        raise ArtifactError(job.path, "the student needs a teacher", fix="flowpose train")
    spec = job.recipe.distill
    teacher = load_generator(job.parent)
    if spec.noise == "zero":
        teacher.noise.zero_()
    latents = encode_all(
        job, teacher.autoencoder, data.read(job.recipe.data, job.recipe.image, "train", job.data)
    )
    points = teacher_ends(job, teacher, latents, spec)
    reference = copy.deepcopy(teacher.autoencoder).requires_grad_(False)
    student = teacher.on_grid(STUDENT_GRID, STUDENT_SOLVER)
    task = Task(
        title="student", module=_Student(student), directory=job.work, key=job.key,
        losses=lambda module, draw: student_losses(
            module, reference, _draw(latents, points, job.recipe, draw.rng), spec
        ),
        sample=lambda _, iteration: write_samples(job, student, iteration),
    )  # fmt: skip
    run(task, spec.optim)
    with creating(job.path, times=STUDENT_GRID, **job.fields("student")) as draft:
        save_weights(student, draft / GENERATOR)
        draft.add(measurements=measure(job, [("student", drawer(student))]))
    return open_artifact(job.path, verify=False)
