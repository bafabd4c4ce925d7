"""The training loop that every stage shares: AdamW, warm-up and cosine, EMA, checkpoints, exact resume.

A batch and its noise depend on the seed and the iteration alone (`Draw`), never on what was drawn before, so a
run that was killed goes on from its last checkpoint with the numbers it would have had. bf16 and devices come from
accelerate. Of several processes (flowpose.ranks) each draws the numbers of the whole batch and works on its share;
gradients are averaged, so their number changes nothing but the order of sums. Only the main one writes.

On a GPU fp32 products are TF32 ("high"): their error of about 3e-4 is far below a batch's own noise. Losses are
read, and checked, only every LOOK iterations there, so that the host draws the next batch meanwhile.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from safetensors import SafetensorError
from torch import Tensor, nn

from flowpose.errors import TrainingError
from flowpose.ranks import WHOLE, Share, agree, by_main, current, shown
from flowpose.ranks.tensors import mean_losses, share_gradients, size, start_alike
from flowpose.spec.optim import OptimSpec

CHECKPOINT = "checkpoint.pt"
_BROKEN = (RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError, UnpicklingError, SafetensorError)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
PACE = "pace.json"  # in the work folder: see _Pace
WARM = 5  # iterations in which kernels are loaded and chosen
LOOK = 10  # iterations between two looks at the losses on a GPU


@dataclass(frozen=True)
class Draw:
    """The random numbers of one micro-batch: numpy for data, torch for noise; both on the CPU.

    All processes draw the numbers of the whole batch in the same order, and keep those of their `share` of it.
    """

    rng: np.random.Generator
    noise: torch.Generator
    share: Share = WHOLE

    @classmethod
    def at(cls, seed: int, iteration: int, part: int = 0, share: Share = WHOLE) -> Draw:
        """The generators of an iteration; `part` numbers accumulated micro-batches."""
        sequence = np.random.SeedSequence((seed, iteration, part))
        noise = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return cls(np.random.default_rng(sequence), noise, share)

    def uniform(self, count: int, device: torch.device) -> Tensor:
        """f32[count], uniform in 0..1, on the device, for the `count` own examples of a batch."""
        return moved(self.share.of(torch.rand(count * self.share.world, generator=self.noise)), device)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """f32[shape], N(0, 1), on the CPU, for the shape[0] own examples of a batch."""
        count, *each = shape
        return self.share.of(torch.randn((count * self.share.world, *each), generator=self.noise))


def own_device() -> torch.device:
    """The device on which this process trains: its GPU where there is one, as accelerate gives it out."""
    current()  # meets the other processes in our way, before accelerate does it in its own
    found: torch.device = PartialState().device
    return found


def moved(batch: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a GPU from pinned memory, so that the host does not wait for the copy."""
    if device.type == "cuda" and batch.device.type == "cpu":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


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
        group: examples of a batch that one process has to have together.
        sample: called with the EMA network and the iteration at each `sample_every`.
    """

    title: str
    module: nn.Module
    losses: Callable[[nn.Module, Draw], Losses]
    directory: Path
    key: str
    group: int = 1
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


def keep_freed_memory() -> None:
    """Nothing; from here on freed memory stays with the process, where the C library is glibc.

    By default glibc gives every large block back to the kernel, which clears its pages when the next iteration
    asks for as much again: with the attention's change, a teacher iteration in bf16 went from 0.52 to 0.37 s
    without it (2 cores of an AMD EPYC 9004, most of it page faults).
    """
    if "CS_GNU_LIBC_VERSION" in os.confstr_names:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


@contextmanager
def _fast_products(device: torch.device) -> Iterator[None]:
    """fp32 matrix products as TF32 on a GPU, as they were before afterwards; convolutions are so by default."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.set_float32_matmul_precision(before)


class _Pace:
    """How long the loop's steps take; checkpoints, samples and the first WARM steps are left out."""

    def __init__(self, first: int, last: int, device: torch.device) -> None:
        self.warm, self.device = first + min(WARM, (last - first) // 2), device
        self.iterations, self.seconds = 0, 0.0

    @contextmanager
    def step(self, iteration: int) -> Iterator[None]:
        if iteration == self.warm and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        begun = time.perf_counter()
        yield
        if iteration >= self.warm:
            self.iterations, self.seconds = self.iterations + 1, self.seconds + time.perf_counter() - begun

    def write(self, path: Path) -> None:
        """{"iterations": counted steps, "seconds": all of them together}; nothing where no step was made."""
        if self.iterations:
            path.write_text(json.dumps({"iterations": self.iterations, "seconds": self.seconds}) + "\n")


def run(task: Task, spec: OptimSpec) -> nn.Module:
    """Trains `task.module` and returns it with the averaged weights, on the CPU, in eval mode.

    Raises:
        TrainingError: the loss is not finite, the checkpoint belongs to another run, the batch does not divide by the
            processes, or they were lost or differ.
    """
    share = current()
    share.even(task.title, spec.batch, task.group)
    AcceleratorState._reset_state()  # one process trains several stages, and their precisions may differ
    accelerator = Accelerator(
        mixed_precision="bf16" if spec.precision == "bf16" else "no",
        gradient_accumulation_steps=spec.accumulate,
        project_dir=str(task.directory),
    )
    device = accelerator.device
    if device.type == "cpu":
        keep_freed_memory()
    average = Average(task.module, spec.ema)
    optimizer = torch.optim.AdamW(
        task.module.parameters(), lr=spec.lr, betas=(0.9, 0.99), weight_decay=spec.weight_decay
    )
    start = _resume(task, optimizer, average)
    agree("checkpoints", (task.key, start))
    task.module.train()
    # Not wrapped for several processes: gradients are averaged here, since losses may call the module several times.
    module = accelerator.prepare_model(task.module, evaluation_mode=True)
    prepared = accelerator.prepare(optimizer)
    average.values = {name: value.to(device) for name, value in average.values.items()}
    start_alike([*module.state_dict().values(), *average.values.values()], share)
    pace = _Pace(start, spec.iterations, device)
    with (
        shown(task.title, spec.iterations, start) as advance,
        _Scalars(task.directory, share.main) as write,
        _fast_products(device),
    ):
        for iteration in range(start, spec.iterations):
            due = _due(task, spec, iteration + 1)
            with pace.step(iteration):
                parts = _step(accelerator, module, prepared, task, spec, iteration)
                if device.type == "cpu" or any(due) or (iteration + 1) % LOOK == 0:
                    losses = _means(task, parts, iteration)
                    advance(iteration + 1, "  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
                    write(losses, iteration + 1)
                average.update(accelerator.unwrap_model(module), iteration)
            if any(due):
                _at_mark(accelerator, task, due, iteration + 1, module, prepared, average)
    if share.main:
        pace.write(task.directory / PACE)
    trained: nn.Module = accelerator.unwrap_model(module, keep_fp32_wrapper=False)
    average.copy_to(trained)
    return trained.cpu().eval()


def _step(
    accelerator: Accelerator, module: nn.Module, optimizer: Any, task: Task, spec: OptimSpec, iteration: int
) -> list[Losses]:
    """One optimizer step over `accumulate` micro-batches; the losses of each."""
    share = current()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(spec, iteration)
    parts: list[Losses] = []
    for micro in range(spec.accumulate):
        draw = Draw.at(spec.seed, iteration, micro, share)
        with accelerator.accumulate(module), accelerator.autocast():
            losses = task.losses(module, draw)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                share_gradients(module, share)
                accelerator.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        parts.append({name: value.detach() for name, value in losses.items()})
    return parts


def _means(task: Task, parts: Sequence[Losses], iteration: int) -> dict[str, float]:
    """The mean losses of an iteration's micro-batches and of all processes; waits for the device.

    Raises:
        TrainingError: not finite. Once it is so it stays so: looking at some iterations, and always before a
            checkpoint, is enough.
    """
    sums: dict[str, float] = {}
    for losses in mean_losses(parts, current()):
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value) / len(parts)
    if not math.isfinite(sums["loss"]):
        raise TrainingError(
            f"{task.title} iteration {iteration}", "the loss is not finite", got=sums["loss"],
            fix="lower the learning rate (--set ...optim.lr=1e-4); the last checkpoint is kept",
        )  # fmt: skip
    return sums


def _due(task: Task, spec: OptimSpec, done: int) -> tuple[bool, bool]:
    """Whether a checkpoint and a sample are due after so many iterations."""
    sampled = task.sample is not None and bool(spec.sample_every) and done % spec.sample_every == 0
    return done % spec.checkpoint_every == 0 or done == spec.iterations, sampled


def _at_mark(
    accelerator: Accelerator,
    task: Task,
    due: tuple[bool, bool],
    done: int,
    module: nn.Module,
    optimizer: Any,
    average: Average,
) -> None:
    """A checkpoint and a sample, where they are due, by the main process; the others wait for it.

    Raises:
        TrainingError: the processes' weights have come apart, or the checkpoint cannot be written.
    """
    inner = accelerator.unwrap_model(module)
    agree(f"weights after iteration {done}", size(inner, current()))

    def write() -> None:
        if due[0]:
            state = {
                "key": task.key,
                "iteration": done,
                "module": inner.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.values,
            }
            save(state, task.directory / CHECKPOINT)
        if due[1] and task.sample is not None:
            _sample(task.sample, inner, average, done)

    by_main(write)


@torch.no_grad()
def _sample(sample: Callable[[nn.Module, int], None], inner: nn.Module, average: Average, done: int) -> None:
    """Calls `sample` with the averaged weights, and gives the network its own ones back."""
    kept = {name: p.detach().clone() for name, p in inner.named_parameters()}
    average.copy_to(inner)
    inner.eval()
    sample(inner, done)
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
    except (OSError, RuntimeError) as error:  # PyTorch's own error after the system's
        fresh.unlink(missing_ok=True)
        raise TrainingError(
            path, f"the checkpoint cannot be written ({error})", fix="free disk space, run again"
        ) from error


def _resume(task: Task, optimizer: torch.optim.Optimizer, average: Average) -> int:
    """The iteration to go on from; loads the checkpoint if there is one."""
    path = task.directory / CHECKPOINT
    if not path.exists():
        return 0
    with restoring(path, "is no checkpoint of this network"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        key = str(state["key"])
        if key != task.key:
            fix = f"rm {path} and start the stage anew"
            raise TrainingError(path, "belongs to another run", got=key[:12], expected=task.key[:12], fix=fix)
        task.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average.values = {name: value.float() for name, value in state["average"].items()}
        return int(state["iteration"])


@contextmanager
def restoring(path: Path, what: str) -> Iterator[None]:
    """Turns what reading a damaged file of a work folder raises into a TrainingError that names it."""
    try:
        yield
    except _BROKEN as error:
        again = f"rm {path} and start the stage anew"
        raise TrainingError(path, f"{what} ({error})", fix=again) from error


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
