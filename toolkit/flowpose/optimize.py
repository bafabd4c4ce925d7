"""The training loop that every stage shares: AdamW, warm-up and cosine, EMA, checkpoints, exact resume.

A batch and its noise depend on the seed and the iteration alone (`Draw`), never on what was drawn before, so a
run that was killed goes on from its last checkpoint with the numbers it would have had. bf16 and several GPUs
come from accelerate; each process draws its own part of the batch.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from flowpose.errors import TrainingError
from flowpose.progress import tracking
from flowpose.spec.recipe import OptimSpec

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Draw:
    """The random numbers of one micro-batch: numpy for data, torch for noise; both on the CPU."""

    rng: np.random.Generator
    noise: torch.Generator

    @classmethod
    def at(cls, seed: int, iteration: int, part: int = 0) -> Draw:
        """The generators of an iteration; `part` numbers processes and accumulated micro-batches."""
        sequence = np.random.SeedSequence((seed, iteration, part))
        noise = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return cls(np.random.default_rng(sequence), noise)


Losses = Mapping[str, Tensor]
"""Named scalars; `loss` is what is minimized, the others are only shown."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run trains.

    Attributes:
        title: shown in the progress.
        module: the network whose parameters are trained.
        losses: (module as prepared, draw) -> losses of one micro-batch.
        directory: where checkpoints and TensorBoard files go.
        key: of the artifact being made; a checkpoint of another key is refused.
        sample: called with the EMA network and the iteration at each `sample_every`.
    """

    title: str
    module: nn.Module
    losses: Callable[[nn.Module, Draw], Losses]
    directory: Path
    key: str
    sample: Callable[[nn.Module, int], None] | None = None


def learning_rate(spec: OptimSpec, iteration: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth of `lr`."""
    if iteration < spec.warmup:
        return spec.lr * (iteration + 1) / spec.warmup
    done = (iteration - spec.warmup) / max(1, spec.iterations - spec.warmup)
    return spec.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Average:
    """Exponential moving average of a network's parameters, warmed up so that the start is forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone().float() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: int) -> None:
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        for name, p in module.named_parameters():
            self.values[name].lerp_(p.detach().float(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, p in module.named_parameters():
            p.copy_(self.values[name])


def run(task: Task, spec: OptimSpec) -> nn.Module:
    """Trains `task.module` and returns it with the averaged weights, on the CPU, in eval mode.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint belongs to another run.
    """
    AcceleratorState._reset_state()  # one process trains several stages, and their precisions may differ
    accelerator = Accelerator(
        mixed_precision="bf16" if spec.precision == "bf16" else "no",
        gradient_accumulation_steps=spec.accumulate,
        project_dir=str(task.directory),
    )
    average = Average(task.module, spec.ema)
    optimizer = torch.optim.AdamW(
        task.module.parameters(), lr=spec.lr, betas=(0.9, 0.99), weight_decay=spec.weight_decay
    )
    start = _resume(task, optimizer, average)
    task.module.train()
    module, prepared = accelerator.prepare(task.module, optimizer)
    average.values = {name: value.to(accelerator.device) for name, value in average.values.items()}
    with tracking(task.title, spec.iterations, start) as advance, _scalars(task, accelerator) as write:
        for iteration in range(start, spec.iterations):
            losses = _step(accelerator, module, prepared, task, spec, iteration)
            average.update(accelerator.unwrap_model(module), iteration)
            advance(iteration + 1, "  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
            write(losses, iteration + 1)
            _at_marks(accelerator, task, spec, iteration + 1, module, prepared, average)
    trained: nn.Module = accelerator.unwrap_model(module, keep_fp32_wrapper=False)
    average.copy_to(trained)
    return trained.cpu().eval()


def _step(
    accelerator: Accelerator, module: nn.Module, optimizer: Any, task: Task, spec: OptimSpec, iteration: int
) -> dict[str, float]:
    """One optimizer step over `accumulate` micro-batches; the mean of their losses."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(spec, iteration)
    sums: dict[str, float] = {}
    for micro in range(spec.accumulate):
        draw = Draw.at(spec.seed, iteration, micro * accelerator.num_processes + accelerator.process_index)
        with accelerator.accumulate(module), accelerator.autocast():
            losses = task.losses(module, draw)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / spec.accumulate
    if not math.isfinite(sums["loss"]):
        raise TrainingError(
            f"{task.title} iteration {iteration}", "the loss is not finite", got=sums["loss"],
            fix="lower the learning rate (--set ...optim.lr=1e-4); the last checkpoint is kept",
        )  # fmt: skip
    return sums


def _at_marks(
    accelerator: Accelerator,
    task: Task,
    spec: OptimSpec,
    done: int,
    module: nn.Module,
    optimizer: Any,
    average: Average,
) -> None:
    """Checkpoints and samples, where they are due."""
    if not accelerator.is_main_process:
        return
    inner = accelerator.unwrap_model(module)
    if done % spec.checkpoint_every == 0 or done == spec.iterations:
        state = {
            "key": task.key,
            "iteration": done,
            "module": inner.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.values,
        }
        save(state, task.directory / CHECKPOINT)
    if task.sample is not None and spec.sample_every and done % spec.sample_every == 0:
        kept = {name: p.detach().clone() for name, p in inner.named_parameters()}
        average.copy_to(inner)
        inner.eval()
        with torch.no_grad():
            task.sample(inner, done)
            for name, p in inner.named_parameters():
                p.copy_(kept[name])
        inner.train()


def save(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint so that a crash leaves the old one or the new one, never half of one."""
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise TrainingError(
            path, f"the checkpoint cannot be written ({error.strerror})", fix="free disk space, run again"
        ) from error


def _resume(task: Task, optimizer: torch.optim.Optimizer, average: Average) -> int:
    """The iteration to go on from; loads the checkpoint if there is one."""
    path = task.directory / CHECKPOINT
    if not path.exists():
        return 0
    again = f"rm {path} and start the stage anew"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        key = str(state["key"])
        if key != task.key:
            raise TrainingError(
                path, "belongs to another run", got=key[:12], expected=task.key[:12], fix=again
            )
        task.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(path, f"is no checkpoint of this network ({error})", fix=again) from error
    average.values = {name: value.float() for name, value in state["average"].items()}
    return int(state["iteration"])


class _Scalars:
    """TensorBoard scalars of the main process, every 10 iterations; a context manager."""

    def __init__(self, directory: Path, active: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(directory / "tensorboard")) if active else None

    def __enter__(self) -> Callable[[Mapping[str, float], int], None]:
        return self.write

    def __exit__(self, *_: object) -> None:
        if self.writer:
            self.writer.close()

    def write(self, losses: Mapping[str, float], iteration: int) -> None:
        """One point a loss."""
        if self.writer and iteration % 10 == 0:
            for name, value in losses.items():
                self.writer.add_scalar(name, value, iteration)


def _scalars(task: Task, accelerator: Accelerator) -> _Scalars:
    return _Scalars(task.directory, accelerator.is_main_process)
