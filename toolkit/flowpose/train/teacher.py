"""Trains the velocity network by conditional flow matching on the autoencoder's latents (RPFM, arXiv 2505.03562)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowpose import data, image
from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.data import Pictures, draw_pairs, draw_sets
from flowpose.errors import ArtifactError
from flowpose.evaluate import baselines, best_middle, middle_row, teacher_rows
from flowpose.flow import interpolate, velocity
from flowpose.job import SHIPPED, Job
from flowpose.metrics import comparable, pose_accuracy
from flowpose.model.autoencoder import Autoencoder
from flowpose.model.from_graphs import reference_weights, take_weights
from flowpose.model.generator import Generator, build_flow
from flowpose.model.joints import JointEstimator
from flowpose.model.pictures import to_pictures, to_tensor
from flowpose.model.weights import (
    GENERATOR,
    TEACHER_GRID,
    TEACHER_SOLVER,
    load_generator,
    save_weights,
    take_fitting,
)
from flowpose.optimize import Draw, Losses, Task, moved, own_device, restoring, run
from flowpose.ranks import WHOLE, Share, by_main, dealt, sealed_by_main
from flowpose.report import sheet
from flowpose.spec.find import find
from flowpose.spec.manifest import Measurement
from flowpose.spec.recipe import TrainSpec
from flowpose.train.augment import mirror_keypoints, vary_poses
from flowpose.train.autoencoder import load_autoencoder, started

ENCODED = 32  # pictures at once
JUDGED = 256  # pictures whose own joints are compared with the estimated ones


@dataclass(frozen=True, eq=False)
class Latents:
    """A split as latents: of the pictures, and of the mirrored pictures."""

    pictures: Pictures
    plain: Tensor
    mirrored: Tensor

    def pick(self, numbers: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
        """f32[n, c, h, w]."""
        index = torch.from_numpy(numbers)
        turned = torch.from_numpy(mirrored)[:, None, None, None]
        return torch.where(turned, self.mirrored[index], self.plain[index]).float()

    def poses(self, numbers: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:
        """f32[n, 133, 3]."""
        plain = self.pictures.keypoints[numbers]
        return np.where(
            mirrored[:, None, None], mirror_keypoints(plain, self.pictures.images.shape[2]), plain
        )


@torch.no_grad()
def encode_all(job: Job, autoencoder: Autoencoder, pictures: Pictures) -> Latents:
    """The latents of every picture and of its mirror image, in fp16; made once for all stages of a recipe.

    The file's name tells the autoencoder, the pictures and the precision: other ones do not take it for theirs.
    """
    own = next(a.key for a in (*job.fields("model")["history"],) if a.kind == "autoencoder")
    precision = job.recipe.train.optim.precision
    name = f"latents-{own[:12]}-{pictures.content[:12]}-{precision}.safetensors"
    path = job.root / job.recipe.name / "work" / name

    short = precision == "bf16"  # training will see them in bf16 anyway

    if not by_main(path.exists):
        autoencoder.to(own_device())
        halves = {}
        for name, images in (("plain", pictures.images), ("mirrored", pictures.images[:, :, ::-1])):
            halves[name] = _encoded(autoencoder, images, f"latents, {name}", short)
        autoencoder.cpu()
        by_main(lambda: _write_latents(halves, path))
    with restoring(path, "holds no latents"):
        stored = load_file(path)
        return Latents(pictures, stored["plain"], stored["mirrored"])


def _write_latents(halves: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(halves, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _encoded(autoencoder: Autoencoder, images: NDArray[np.uint8], title: str, short: bool) -> Tensor:
    """f16[n, c, h, w] on the CPU, made on the autoencoders' devices, in bf16 where `short`; ENCODED at once."""
    device = next(autoencoder.parameters()).device

    def encode(number: int) -> Tensor:
        x = to_tensor(images[number * ENCODED : (number + 1) * ENCODED], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=short):
            return autoencoder.encode(x).half().cpu()

    parts: list[Tensor] = []
    for there in dealt(title, -(-len(images) // ENCODED), encode):
        parts = there
    return torch.cat(parts).contiguous()


@dataclass(frozen=True, eq=False)
class Batch:
    """Sources [S, ...] and targets [S * m, ...] as the velocity network takes them."""

    source: Tensor
    target: Tensor
    keypoints: Tensor


def draw_batch(
    latents: Latents, spec: TrainSpec, rng: np.random.Generator, size: int, share: Share = WHOLE
) -> Batch:
    """`size` targets with their sources, of them the share; a source and its targets are mirrored together."""
    sources, targets = draw_sets(latents.pictures, rng, max(1, size // spec.targets), spec.targets)
    turned = (rng.random(len(sources)) < 0.5) & spec.flip
    turned_targets = turned.repeat(spec.targets)
    keypoints = vary_poses(
        latents.poses(targets.ravel(), turned_targets), rng, spec.poses, latents.pictures.images.shape[1]
    )
    own = share.of(targets).ravel()
    return Batch(
        source=latents.pick(share.of(sources), share.of(turned)),
        target=latents.pick(own, share.of(turned_targets, spec.targets)),
        keypoints=torch.from_numpy(share.of(keypoints, spec.targets)),
    )


def draw_pictures(
    latents: Latents, rng: np.random.Generator, size: int, flip: bool, share: Share = WHOLE
) -> tuple[Tensor, Tensor]:
    """Latents f32[size, c, h, w] of any pictures, and their own joints f32[size, 133, 3] as they are; the share."""
    numbers = share.of(rng.integers(len(latents.pictures), size=size))
    mirrored = share.of((rng.random(size) < 0.5) & flip)
    return latents.pick(numbers, mirrored), torch.from_numpy(latents.poses(numbers, mirrored))


def draw_times(count: int, at_noise: float, noise: torch.Generator) -> Tensor:
    """t f32[count]: uniform in 0..1, a share of them exactly 0, where the one-step student starts."""
    t = torch.rand(count, generator=noise)
    return torch.where(torch.rand(count, generator=noise) < at_noise, torch.zeros(()), t)


def flow_losses(
    module: nn.Module, batch: Batch, spec: TrainSpec, noise: torch.Generator, share: Share = WHOLE
) -> Losses:
    """The flow-matching loss of a batch that is the share of all that noise is drawn for."""
    (count, *shape), sources = batch.target.shape, len(batch.source)
    together = count // sources
    x_0 = share.of(torch.randn((count * share.world, *shape), generator=noise), together)
    t = share.of(draw_times(count * share.world, spec.at_noise, noise), together)
    keep = share.of(torch.rand(sources * share.world, generator=noise) >= spec.condition_dropout)
    device = next(module.parameters()).device
    x_0, t, keep, x_1, source, keypoints = (
        moved(each, device) for each in (x_0, t, keep, batch.target, batch.source, batch.keypoints)
    )
    v = module(interpolate(x_0, x_1, t, spec.sigma_min), t, source, keypoints, keep)
    return {"loss": (v - velocity(x_0, x_1, spec.sigma_min)).square().mean()}


def train_joints(job: Job, joints: JointEstimator, latents: Latents) -> None:
    """Trains the estimator of the source's joints, and freezes it; a killed run goes on where it was."""
    spec = job.recipe.train

    def losses(module: nn.Module, draw: Draw) -> Losses:
        device = next(module.parameters()).device
        drawn = draw_pictures(latents, draw.rng, spec.joints.batch, spec.flip, draw.share)
        return {"loss": module(*(moved(each, device) for each in drawn))}

    trained = Scored(joints.requires_grad_(True))
    run(
        Task(title="joints", module=trained, losses=losses, directory=job.work / "joints", key=job.key),
        spec.joints,
    )
    joints.requires_grad_(False)


class Scored(nn.Module):
    """An estimator whose forward pass is its loss, as training loops call modules."""

    def __init__(self, joints: JointEstimator) -> None:
        super().__init__()
        self.joints = joints

    def forward(self, latents: Tensor, keypoints: Tensor) -> Tensor:
        return self.joints.loss(latents, keypoints)


def train_teacher(job: Job) -> Artifact:
    """Makes the model artifact: autoencoder and velocity network, self-contained.

    Raises:
        ArtifactError: the job has no autoencoder to start from.
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    if job.parent is None:
        raise ArtifactError(job.path, "the teacher needs an autoencoder", fix="flowpose train")
    recipe, spec = job.recipe, job.recipe.train
    autoencoder = load_autoencoder(job.parent)
    latents = encode_all(job, autoencoder, data.read(recipe.data, recipe.image, "train", job.data))
    torch.manual_seed(spec.optim.seed)
    flow = build_flow(recipe.model, recipe.image, autoencoder)
    if spec.start:
        start_weights(job, flow, spec.start)
    if flow.source.matched:
        train_joints(job, flow.source.joints, latents)
    generator = Generator(autoencoder, flow, TEACHER_GRID, TEACHER_SOLVER)

    def losses(module: nn.Module, draw: Draw) -> Losses:
        batch = draw_batch(latents, spec, draw.rng, spec.optim.batch, draw.share)
        return flow_losses(module, batch, spec, draw.noise, draw.share)

    task = Task(
        title="teacher", module=flow, losses=losses, directory=job.work, key=job.key, group=spec.targets,
        sample=lambda _, iteration: write_samples(job, generator, iteration),
    )  # fmt: skip
    run(task, spec.optim)
    generator.cpu()  # all of it: drawing samples moved the autoencoder too

    def write() -> None:
        with creating(job.path, times=TEACHER_GRID, **job.fields("model")) as draft:
            save_weights(generator, draft / GENERATOR)
            draft.add(measurements=(*baselines(job), *_judged(job, generator)))

    return sealed_by_main(job.path, write)


def _judged(job: Job, generator: Generator) -> tuple[Measurement, ...]:
    """The teacher's rows, and t_mid of its two evaluations: the best on val."""
    middle = best_middle(job, generator)
    return (*teacher_rows(job, generator, middle), middle_row(job, middle), *_source_joints(job, generator))


@torch.no_grad()
def _source_joints(job: Job, generator: Generator) -> list[Measurement]:
    """PCK of the estimated joints of val pictures, over the body's 17; of the first JUDGED that have two or more."""
    if not generator.flow.source.matched:
        return []
    val = data.read(job.recipe.data, job.recipe.image, "val", job.data)
    part = [number for number, pose in enumerate(val.keypoints) if comparable(pose)][:JUDGED]
    if not part:
        return []
    latents = _encoded(generator.autoencoder, val.images[part], "latents, val", False).float()
    found = generator.flow.source.joints(latents).numpy()
    right = [pose_accuracy(a, b).pck for a, b in zip(found, val.keypoints[part], strict=True)]
    return [
        job.measured("source_joints_pck", float(np.mean(right)), n=len(right), split="val", against="truth")
    ]


@torch.no_grad()
def start_weights(job: Job, flow: nn.Module, name: str) -> None:
    """Sets the weights whose shapes fit to those of another recipe's teacher, or of one inside a shipped model.

    Raises:
        ArtifactError: that teacher was not made yet, none of its blocks fits, or the model's graphs do not name their
            weights.
        SpecError: no such recipe or model.
    """
    if name.startswith(SHIPPED):
        shipped = open_artifact(find("models", name.removeprefix(SHIPPED)))
        found_weights = reference_weights(shipped, "teacher")
        own = {key.removeprefix("flow."): value for key, value in found_weights.items()}
        _check_taken(flow, name, take_weights(flow, own))
        return
    _check_taken(flow, name, take_fitting(flow, load_generator(started(job, "train", name)).flow))


def _check_taken(flow: nn.Module, name: str, missing: list[str]) -> None:
    """Raises where no layer of a block was taken: a teacher of another size would start anew and nobody be told."""
    layers = [
        key for key, value in flow.state_dict().items() if key.startswith("blocks.") and value.dim() > 1
    ]
    if not {*layers} - {*missing}:
        raise ArtifactError(
            f"train.start {name}", "no weight of its blocks fits", got=f"0 of {len(layers)} layers",
            expected="a teacher of the same model.size", fix="set model.size to its size, or leave out train.start",
        )  # fmt: skip


@torch.no_grad()
def write_samples(job: Job, generator: Generator, iteration: int, count: int = 6) -> None:
    """A sheet source | truth | generated of val pairs in the work folder."""
    val = data.read(job.recipe.data, job.recipe.image, "val", job.data)
    pairs = list(draw_pairs(val, count, job.recipe.evaluate.seed))
    sources, targets = (val.images[[pair[side] for pair in pairs]] for side in (0, 1))
    keypoints = torch.from_numpy(val.keypoints[[pair[1] for pair in pairs]])
    device = next(generator.flow.parameters()).device
    made = to_pictures(generator.to(device)(to_tensor(sources, device), keypoints.to(device)))
    rows = list(zip(sources, targets, made, strict=True))
    image.write(job.work / "samples" / f"{iteration:06d}.png", sheet(rows, ("source", "truth", "generated")))
