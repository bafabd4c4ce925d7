"""What all distillations share: conditions with their truth, and the student as it is trained.

The student starts from the teacher's weights, decoder included, because at one step the decoder is half the
model. Its first evaluation starts at z*, which is zero unless the recipe says otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpose import data
from flowpose.artifact import Artifact
from flowpose.data import draw_sets
from flowpose.errors import ArtifactError
from flowpose.evaluate import teacher_middle
from flowpose.job import Job
from flowpose.model.autoencoder import STRIDE, Autoencoder, grown
from flowpose.model.generator import Generator, build_detail, build_student, student_autoencoder
from flowpose.model.pictures import to_tensor
from flowpose.model.weights import STUDENT_SOLVER, load_generator, take_fitting
from flowpose.optimize import moved, own_device
from flowpose.ranks import WHOLE, Share
from flowpose.spec.recipe import Distillation, EdgeStudent, TrainSpec
from flowpose.train.augment import vary_poses
from flowpose.train.autoencoder import started
from flowpose.train.features import loss_features
from flowpose.train.teacher import Latents, encode_all


@dataclass(frozen=True, eq=False)
class Conditions:
    """A batch: source latents f32[B, c, h, w] and pictures f32[B, 3, H, W], keypoints f32[B, 133, 3], the truth.

    `shown` are the sources' pictures, `truth` those of the targets.
    `ends` f32[n, c, h, w] are what the teacher makes of the first n conditions; n may be 0. `window` is the part of
    the pictures that is made and compared, None for all of them. `share` says which part of a batch they are.
    """

    source: Tensor
    shown: Tensor
    keypoints: Tensor
    truth: Tensor
    ends: Tensor = field(default_factory=lambda: torch.zeros(0))
    window: Window | None = None
    share: Share = WHOLE

    def on(self, device: torch.device) -> Conditions:
        """The same on a device."""
        return self._each(lambda part: moved(part, device), moved(self.ends, device))

    def first(self, count: int) -> Conditions:
        """The first `count` of them."""
        return self._each(lambda part: part[:count], self.ends[:count])

    def _each(self, change: Callable[[Tensor], Tensor], ends: Tensor) -> Conditions:
        source, shown, keypoints, truth = map(change, (self.source, self.shown, self.keypoints, self.truth))
        return Conditions(source, shown, keypoints, truth, ends, self.window, self.share)

    def looking(self, rng: np.random.Generator, crop: int) -> Conditions:
        """The same with a random window of `crop` pixels a side; 0 for whole pictures."""
        if not crop:
            return self
        height, width = self.truth.shape[-2:]
        size = min(crop, height, width) // STRIDE
        top, left = (int(rng.integers(side // STRIDE - size + 1)) for side in (height, width))
        return replace(self, window=Window(top, left, size))


Features = Callable[[Tensor], Sequence[Tensor]]
"""Pictures f32[B, 3, H, W] in -1..1 -> maps f32[B, c, h, w], finest first."""


class Window(NamedTuple):
    """A square of a picture, in latent cells of STRIDE pixels."""

    top: int
    left: int
    size: int

    def of(self, pictures: Tensor) -> Tensor:
        """The part of pictures f32[B, 3, H, W]."""
        top, left, size = (STRIDE * number for number in self)
        return pictures[..., top : top + size, left : left + size]


def decode(autoencoder: Autoencoder, latents: Tensor, window: Window | None) -> Tensor:
    """Pictures of latents f32[B, c, h, w] as the decoder draws them, or the window, decoded with one cell around it."""
    if window is None:
        return autoencoder.drawn(latents)
    top, left = max(0, window.top - 1), max(0, window.left - 1)
    bottom, right = window.top + window.size + 1, window.left + window.size + 1
    made = autoencoder.drawn(latents[..., top:bottom, left:right])
    return Window(window.top - top, window.left - left, window.size).of(made)


class Carried(NamedTuple):
    """What a student with detail made its pictures of, f32[B + second, 3, H, W] each, or the windows of them.

    Attributes:
        decoded: drawn from latents alone, with its whole gradient.
        pixels: the sources' own, where they are to go.
        chosen, bare: see `Detail.halves`.
    """

    decoded: Tensor
    pixels: Tensor
    chosen: Tensor
    bare: Tensor


class Output(NamedTuple):
    """What a `Learner` gives: latents (or the mean velocity that was asked for), pictures `drawn`, and detail.

    `seconds` is how many second evaluations there are of the whole batch.
    """

    latents: Tensor
    drawn: Tensor
    detail: Carried | None
    seconds: int = 0


@dataclass(frozen=True, eq=False)
class Made:
    """What the student made: of every condition, then of the last `second` ones with a second evaluation.

    Attributes:
        latents: f32[B + second, c, h, w].
        drawn: f32[B + second, 3, H, W] pictures, or the window of them; with detail they lack the share's gradient.
        detail: None without it.
        second: how many have two evaluations.
        window: see `Conditions`.
        share: which part of the whole batch it is.
        seconds: how many of the whole batch have two evaluations.
    """

    latents: Tensor
    drawn: Tensor
    detail: Carried | None = None
    second: int = 0
    window: Window | None = None
    share: Share = WHOLE
    seconds: int = 0

    @property
    def batch(self) -> int:
        """Conditions of the whole batch."""
        return (len(self.latents) - self.second) * self.share.world

    @property
    def weight(self) -> float:
        """What a mean over what was made here counts, so that the mean over processes is that of the whole batch."""
        return len(self.latents) * self.share.world / (self.batch + self.seconds)

    def mean(self, own: Tensor) -> Tensor:
        """The mean over what was made of the whole batch, without gradient, of the mean over what was made here."""
        return self.share.mean(self.weight * own)

    def own(self, whole: Tensor) -> Tensor:
        """Of rows for all that was made of the whole batch, those of what was made here."""
        batch = self.batch
        return torch.cat(
            [self.share.of(whole[:batch]), self.share.after(batch - self.seconds).of(whole[batch:])]
        )

    @cached_property
    def pictures(self) -> Tensor:
        """The pictures with all of their gradient."""
        if self.detail is None:
            return self.drawn
        return self.drawn + (self.detail.chosen - self.detail.chosen.detach())

    def like(self, batch: Tensor) -> Tensor:
        """`batch` f32[B, ...] in the order of what was made."""
        return torch.cat([batch, batch[len(batch) - self.second :]])

    def truth(self, batch: Conditions) -> Tensor:
        """The true pictures in the order of those made, their windows where windows were made."""
        truth = self.like(batch.truth)
        return self.window.of(truth) if self.window else truth


@dataclass(frozen=True, eq=False)
class Setting:
    """What a method works with.

    Attributes:
        job: the stage.
        spec: the recipe's distillation.
        teacher: frozen, with the student's z*.
        latents: the training split.
        reference: the frozen autoencoder, for the teacher's pictures.
        features: frozen, pictures f32[B, 3, H, W] -> the maps that feature losses compare.
    """

    job: Job
    spec: Distillation
    teacher: Generator
    latents: Latents
    reference: Autoencoder
    features: Features


def set_up(job: Job, spec: Distillation, teacher: Artifact, feature: float) -> Setting:
    """The setting of a distillation from that teacher; `feature` is the weight of the feature loss.

    Raises:
        DataError, TrainingError: see flowpose.data and flowpose.train.features.
    """
    recipe = job.recipe
    generator = load_generator(teacher).requires_grad_(False)
    if spec.noise == "zero":
        generator.noise.zero_()
    pictures = data.read(recipe.data, recipe.image, "train", job.data)
    latents = encode_all(job, generator.autoencoder, pictures)
    reference = copy.deepcopy(generator.autoencoder).to(own_device())
    features: Features = reference.features
    if feature and recipe.features:
        features = loss_features(job, recipe.features, pictures).to(own_device())
    return Setting(job, spec, generator, latents, reference, features)


def parent_of(job: Job, kind: str, fix: str) -> Artifact:
    """The job's parent.

    Raises:
        ArtifactError: there is none, or it is of another kind.
    """
    found = job.parent.manifest.kind if job.parent else None
    if job.parent is None or found != kind:
        raise ArtifactError(
            job.path, f"{job.stage} needs a {kind} to start from", got=found, expected=kind, fix=fix
        )
    return job.parent


def middle_of(spec: Distillation, teacher: Artifact) -> float:
    """t of the second evaluation: the recipe's, or the teacher's best on val."""
    if spec.middle is not None:
        return spec.middle
    return teacher_middle(teacher)


def new_student(setting: Setting, teacher: Artifact) -> Generator:
    """The student before training: the teacher's weights where they fit, or all of the student's it starts from.

    Raises:
        ArtifactError: the student that it starts from has another shape.
    """
    spec, recipe = setting.spec, setting.job.recipe
    torch.manual_seed(spec.optim.seed)
    autoencoder = student_autoencoder(spec, copy.deepcopy(setting.teacher.autoencoder))
    flow = build_student(spec, recipe.model, recipe.image, autoencoder)
    take_fitting(flow, setting.teacher.flow)
    begun = started(setting.job, "finish", spec.start) if spec.start else None
    before = load_generator(begun) if begun else None
    times: tuple[float, ...] = (0.0, 1.0) if spec.steps == 1 else (0.0, middle_of(spec, teacher), 1.0)
    if before is not None and spec.middle is None and len(before.times) == len(times):
        times = before.times  # where its second evaluation was trained
    student = Generator(autoencoder, flow, times, STUDENT_SOLVER, build_detail(spec, flow, autoencoder))
    student.noise = setting.teacher.noise.clone()
    if begun and before is not None:
        take_all(student, before, begun)
    return trainable(student, spec)


def take_all(student: Generator, before: Generator, where: Artifact) -> None:
    """Sets all weights of a student to those of another one.

    Raises:
        ArtifactError: it has others, or other shapes; a part of them would be no student.
    """
    own, there = student.state_dict(), before.state_dict()
    shapes = [{key: tuple(value.shape) for key, value in each.items()} for each in (own, there)]
    apart = sorted(key for key in own.keys() | there.keys() if shapes[0].get(key) != shapes[1].get(key))
    if apart:
        first, more = apart[0], f", and {len(apart) - 1} more" if len(apart) > 1 else ""
        raise ArtifactError(
            where.path, "is a student of another shape", got=f"{first} {shapes[1].get(first)}{more}",
            expected=f"{shapes[0].get(first)}", fix="give distill.student and distill.detail as they are there",
        )  # fmt: skip
    student.load_state_dict(there)


def trainable(student: Generator, spec: Distillation) -> Generator:
    """The student, with what is computed each frame open to training.

    The teacher's source branch stays as it is: one context then serves teacher, student and baseline, iterations are
    shorter, and a shipped model holds one source graph instead of three. The edge student has a branch of its own.
    """
    student.requires_grad_(True)
    branch = student.flow.source.joints if isinstance(spec.student, EdgeStudent) else student.flow.source
    branch.requires_grad_(False)
    return student


class Learner(nn.Module):
    """The trained part of a student: velocity network, decoder and detail; the encoder is not trained."""

    def __init__(self, student: Generator, second: float) -> None:
        super().__init__()
        self.flow, self.decoder, self.detail = student.flow, student.autoencoder.decoder, student.detail
        self.share = second if len(student.times) > 2 else 0.0
        self.student = [student]  # in a list, so that its encoder is not a part of this module

    def forward(self, batch: Conditions, at: tuple[Tensor, Tensor, Tensor] | None = None) -> Output:
        """What the student makes of a batch; or the mean velocity alone, from `at`: x, t and r."""
        student = self.student[0].to(batch.source.device)
        context = student.context(batch.source)
        pose, where = self.flow.pose_tokens(batch.keypoints, context)
        if at is not None:
            x, t, r = at
            velocity = self.flow.velocity(x, self.flow.modulation(t, r), context, pose)
            return Output(velocity, x.new_zeros(0), None)
        noise = student.noise.expand(len(batch.source), -1, -1, -1)
        latents, shown = [noise + self._velocity(noise, 0.0, 1.0, context, pose)], batch.shown
        whole = len(noise) * batch.share.world
        seconds = max(1, round(self.share * whole)) if self.share else 0
        own = batch.share.after(whole - seconds).count(seconds)
        if own:
            part = slice(len(noise) - own, None)
            latents.append(self._second(noise[part], context[part], pose[part]))
            shown = torch.cat([shown, shown[part]])
            where = where if where is None else torch.cat([where, where[part]])
        made = drawn(student, torch.cat(latents), where, shown, batch.window)
        return made._replace(seconds=seconds)

    def _second(self, noise: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        """The end of two evaluations; the first is held fixed, since it has losses of its own."""
        middle = self.student[0].times[1]
        with torch.no_grad():
            x = noise + middle * self._velocity(noise, 0.0, middle, context, pose)
        return x + (1 - middle) * self._velocity(x, middle, 1.0, context, pose)

    def _velocity(self, x: Tensor, t: float, r: float, context: Tensor, pose: Tensor) -> Tensor:
        times = torch.tensor([[t], [r]], device=x.device)
        return self.flow.velocity(x, self.flow.modulation(*times), context, pose)


def drawn(
    student: Generator, latents: Tensor, where: Tensor | None, shown: Tensor, window: Window | None
) -> Output:
    """Latents and their pictures, or the windows of them; `where` as `Detail.placed` takes it."""
    decoded = decode(student.autoencoder, latents, window)
    whole = grown(decoded, student.autoencoder.shrink)
    if student.detail is None or where is None:
        return Output(latents, whole, None)
    placed = student.detail.placed(latents, where)
    carried, large = student.detail.both(decoded, window.of(placed) if window else placed, shown)
    halves = student.detail.halves(decoded, carried, large)
    return Output(latents, halves.drawn, Carried(whole, large, halves.chosen, halves.bare))


def made_by(module: nn.Module, batch: Conditions) -> Made:
    """What the student makes of a batch."""
    found: Output = module(batch)
    latents, pictures, detail, seconds = found
    second = len(pictures) - len(batch.source)
    return Made(latents, pictures, detail, second, batch.window, batch.share, seconds)


def draw_conditions(
    latents: Latents, spec: TrainSpec, rng: np.random.Generator, size: int, share: Share = WHOLE
) -> Conditions:
    """`size` fresh conditions with their truth; of all, the share."""
    sources, targets = draw_sets(latents.pictures, rng, size, 1)
    mirrored = (rng.random(size) < 0.5) & spec.flip
    plain = latents.poses(targets[:, 0], mirrored)
    shown = share.of(vary_poses(plain, rng, spec.poses, latents.pictures.images.shape[1]))
    sources, ends, mirrored = (share.of(each) for each in (sources, targets[:, 0], mirrored))
    return Conditions(
        source=latents.pick(sources, mirrored),
        shown=pictures_of(latents, sources, mirrored),
        keypoints=torch.from_numpy(shown),
        truth=pictures_of(latents, ends, mirrored),
        share=share,
    )


def pictures_of(latents: Latents, numbers: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """f32[n, 3, H, W] pictures, some of them mirrored."""
    images = latents.pictures.images[numbers]
    return to_tensor(np.where(mirrored[:, None, None, None], images[:, :, ::-1], images))
