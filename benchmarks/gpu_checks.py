"""Whether a device computes what the CPU computes in fp32: networks, samplers, and one training step of each kind.

Weights, pictures, poses and noise are drawn anew from the seed. An error is ||out - ref|| / ||ref||; NaN never passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flowpose.data.figures_set import figures
from flowpose.distill import METHODS
from flowpose.distill.adversarial import Adversarial
from flowpose.distill.compared import Compared, carried_loss, truth_losses
from flowpose.distill.student import Learner, Setting, made_by, trainable
from flowpose.flow import end_dense, uniform
from flowpose.job import Job
from flowpose.model.generator import (
    Generator,
    build_autoencoder,
    build_detail,
    build_flow,
    build_student,
)
from flowpose.model.pictures import to_tensor
from flowpose.model.weights import TEACHER_GRID, TEACHER_SOLVER, take_fitting
from flowpose.optimize import Draw
from flowpose.spec.recipe import (
    AdversarialFinish,
    BootstrapDistillation,
    Distillation,
    EdgeStudent,
    FiguresData,
    FlowMapDistillation,
    OptimSpec,
    Recipe,
    TrajectoryDistillation,
)
from flowpose.train.teacher import Latents, draw_batch, flow_losses

Outputs = Mapping[str, Tensor]
Subject = Callable[[torch.device], Outputs]
Module = TypeVar("Module", bound=nn.Module)
BATCH = 4
OPTIM = OptimSpec(iterations=1, batch=BATCH)
DISTILLATIONS: Mapping[str, Distillation] = {
    "truth only": TrajectoryDistillation(optim=OPTIM, solved=0.0, steps=2, middle=0.5, detail=True),
    "trajectory": TrajectoryDistillation(optim=OPTIM, pairs=8, intervals=2, noise="fixed"),
    "bootstrap": BootstrapDistillation(optim=OPTIM, method="bootstrap", noise="fixed"),
    "flow map": FlowMapDistillation(optim=OPTIM, method="flowmap", noise="fixed", steps=2, middle=0.5),
    "edge student": TrajectoryDistillation(optim=OPTIM, solved=0.0, student=EdgeStudent(width=64)),
}
GRIDS = {"euler": end_dense(16), "midpoint": uniform(4), "heun": end_dense(8)}


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How the device computes, and the largest errors of outputs and of gradients that are let pass."""

    name: str
    tf32: bool
    bf16: bool
    outputs: float
    gradients: float


# A single fp32 product lands far under 1e-3, TF32 near 3e-4, bf16 between 1e-3 and 1e-2; these are whole networks,
# and a gradient crosses one twice, through kinks of ReLU and Charbonnier that rounding decides.
FP32 = Mode(name="fp32", tf32=False, bf16=False, outputs=1e-3, gradients=1e-2)
TF32 = Mode(name="tf32", tf32=True, bf16=False, outputs=1e-2, gradients=0.1)
BF16 = Mode(name="bf16", tf32=True, bf16=True, outputs=0.05, gradients=0.5)


@dataclass(frozen=True, eq=False)
class World:
    """What everything is checked on: drawn pictures, their latents, and a teacher with random weights."""

    job: Job
    latents: Latents
    teacher: Generator
    seed: int

    @property
    def sources(self) -> Tensor:
        return to_tensor(self.latents.pictures.images[:BATCH])

    @property
    def keypoints(self) -> Tensor:
        return torch.from_numpy(self.latents.pictures.keypoints[1 : BATCH + 1])


@torch.no_grad()
def shaken(module: Module) -> Module:
    """The module with all weights moved at random: layers that start at zero would hide errors behind them."""
    for weight in module.parameters():
        weight.add_(0.02 * torch.randn(weight.shape))
    return module


@torch.no_grad()
def world(recipe: Recipe, folder: Path, seed: int) -> World:
    """A world of the recipe's networks at its size."""
    torch.manual_seed(seed)
    spec = FiguresData(identities=4, pictures=3, seed=seed % 100_000)
    pictures = figures(spec, "train", recipe.image.height, recipe.image.width)
    autoencoder = shaken(build_autoencoder(recipe.autoencoder))
    autoencoder.normalize_to(autoencoder.encoder(to_tensor(pictures.images)))
    halves = (pictures.images, pictures.images[:, :, ::-1])
    plain, mirrored = (autoencoder.encode(to_tensor(images)).half() for images in halves)
    flow = shaken(build_flow(recipe.model, recipe.image, autoencoder))
    teacher = Generator(autoencoder, flow, TEACHER_GRID, TEACHER_SOLVER)
    job = Job(recipe=recipe, stage="distill", key=f"{seed:064x}", root=folder)
    return World(job, Latents(pictures, plain, mirrored), teacher, seed)


def subjects(there: World) -> Iterator[tuple[str, Subject]]:
    """Everything that is checked: name, and what computes its outputs on a device."""
    yield "autoencoder", lambda device: _autoencoder(there, device)
    yield "teacher", lambda device: _teacher(there, device)
    yield "samplers", lambda device: _samplers(there, device)
    for name, spec in DISTILLATIONS.items():
        yield f"student, {name}", lambda device, spec=spec: _student(there, spec, device)
    yield "step, teacher", lambda device: _teacher_step(there, device)
    for name, spec in DISTILLATIONS.items():
        yield f"step, {name}", lambda device, spec=spec: _step(there, spec, device)
    yield "step, adversarial", lambda device: _adversarial_step(there, device)


@torch.no_grad()
def _autoencoder(there: World, device: torch.device) -> Outputs:
    own = copy.deepcopy(there.teacher.autoencoder).to(device)
    sources = there.sources.to(device)
    latents = own.encode(sources)
    features = torch.cat([each.flatten() for each in own.features(sources)])
    return {"latents": latents, "features": features, "pictures": own.decode(latents)}


@torch.no_grad()
def _teacher(there: World, device: torch.device) -> Outputs:
    flow = copy.deepcopy(there.teacher.flow).to(device)
    draw = Draw.at(there.seed, 1)
    source = there.latents.plain[:BATCH].float().to(device)
    x = torch.randn(source.shape, generator=draw.noise).to(device)
    v = flow(x, draw.uniform(BATCH, device), source, there.keypoints.to(device))
    return {"velocity": v, "joints": flow.source.joints(source)}


@torch.no_grad()
def _samplers(there: World, device: torch.device) -> Outputs:
    teacher = copy.deepcopy(there.teacher).to(device)
    context = teacher.context(there.latents.plain[:BATCH].float().to(device))
    keypoints = there.keypoints.to(device)
    return {
        solver: teacher.on_grid(grid, solver).to(device).latents(context, keypoints)
        for solver, grid in GRIDS.items()
    }


def student_of(there: World, spec: Distillation) -> Generator:
    """A student of a method with the teacher's weights where they fit; the same each time."""
    torch.manual_seed(there.seed)
    recipe, autoencoder = there.job.recipe, copy.deepcopy(there.teacher.autoencoder)
    flow = shaken(build_student(spec, recipe.model, recipe.image, autoencoder))
    take_fitting(flow, there.teacher.flow)
    grid = (0.0, 1.0) if spec.steps == 1 else (0.0, 0.5, 1.0)
    student = Generator(autoencoder, flow, grid, "euler", build_detail(spec, flow, autoencoder))
    return trainable(student, spec)


@torch.no_grad()
def _student(there: World, spec: Distillation, device: torch.device) -> Outputs:
    student = student_of(there, spec).to(device)
    return {"pictures": student(there.sources.to(device), there.keypoints.to(device))}


def _teacher_step(there: World, device: torch.device) -> Outputs:
    recipe, draw = there.job.recipe, Draw.at(there.seed, 2)
    flow = copy.deepcopy(there.teacher.flow).to(device)
    batch = draw_batch(there.latents, recipe.train, draw.rng, BATCH)
    return _differentiated(flow, flow_losses(flow, batch, recipe.train, draw.noise))


def setting_of(there: World, spec: Distillation, device: torch.device) -> Setting:
    """The setting of a method, with networks of its own."""
    teacher = copy.deepcopy(there.teacher).requires_grad_(False)
    reference = copy.deepcopy(teacher.autoencoder).to(device)
    return Setting(there.job, spec, teacher, there.latents, reference, reference.features)


def _step(there: World, spec: Distillation, device: torch.device) -> Outputs:
    """One training step of a method, put together as flowpose.distill.distill does."""
    setting, draw = setting_of(there, spec, device), Draw.at(there.seed, 3)
    method = METHODS[type(spec)](setting)
    module = Learner(student_of(there, spec), spec.second).to(device)
    batch = method.draw(draw.rng, BATCH).looking(draw.rng, spec.crop).on(device)
    made = made_by(module, batch)
    own = {**method.losses(module, batch, made, draw), **carried_loss(made, made.truth(batch), spec.carried)}
    real = truth_losses(Compared(made.pictures, made.truth(batch), setting.features), spec)
    total = real["real"] + sum(own.values(), start=real["real"].new_zeros(()))
    return _differentiated(module, {"loss": total, **own, **real})


def _adversarial_step(there: World, device: torch.device) -> Outputs:
    spec = DISTILLATIONS["truth only"]
    setting, student = setting_of(there, spec, device), student_of(there, spec)
    contest = Adversarial(setting, AdversarialFinish(optim=OPTIM), Learner(student, spec.second))
    module = contest.module.to(device)
    return _differentiated(module, contest.losses(module, Draw.at(there.seed, 4)))


def _differentiated(module: nn.Module, losses: Outputs) -> Outputs:
    """The shown losses as one vector, and the gradient of all weights as another."""
    losses["loss"].backward()
    shown = [value.detach().float() for name, value in losses.items() if name != "loss" or len(losses) == 1]
    found = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return {"losses": torch.stack(shown), "gradient": torch.cat(found)}


def relative(out: Tensor, ref: Tensor) -> float | None:
    """||out - ref|| / ||ref|| in float64 on the CPU; None where the shapes differ or a number is not finite."""
    out, ref = out.detach().double().cpu(), ref.detach().double().cpu()
    if out.shape != ref.shape or not (out.isfinite().all() and ref.isfinite().all()) or not ref.norm():
        return None
    return float((out - ref).norm() / ref.norm())


@contextmanager
def computing(mode: Mode, device: torch.device) -> Iterator[None]:
    """Everything inside computes in the mode; memory that a GPU kernel leaves unwritten holds NaN."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if mode.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = mode.tf32
        torch.full((1 << 26,), float("nan"), device=device)  # freed at once, and handed out again
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=mode.bf16):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


def checked(recipe: Recipe, folder: Path, seed: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields a row for every subject, output and mode: its error, the limit, and whether it passed."""
    there, cpu = world(recipe, folder, seed), torch.device("cpu")
    modes = (FP32, TF32, BF16) if device.type == "cuda" else (FP32, BF16)
    for name, subject in subjects(there):
        with computing(FP32, cpu):
            expected = subject(cpu)
        for mode in modes:
            with computing(mode, device):
                got = subject(device)
            for output, ref in expected.items():
                error = relative(got[output], ref)
                limit = mode.gradients if output in ("gradient", "losses") else mode.outputs
                passed = error is not None and error <= limit
                yield {"subject": name, "output": output, "mode": mode.name, "error": error,
                       "limit": limit, "passed": passed}  # fmt: skip
