"""Time of one frame on a device, batch 1: the student beside the teacher at 16 evaluations, in the same run.

A frame is what the shipped frame graph does: pose field, evaluations, decoder, conversion to uint8, from a context
that was made once; modulation vectors are constants. Inputs rotate, and go into their place inside the timed region.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from flowpose.model.generator import Generator
from flowpose.model.pictures import signed, to_bytes
from flowpose.runtime.timing import Timing

PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LEVELS: Mapping[str, float] = {"fp32": 0.25, "bf16": 4.0, "fp16": 1.0}  # mean difference to fp32, of 255
CUDA_MODES = ("eager", "compile", "compile-graph", "graph")
CPU_MODES = ("eager",)
POISON = 97  # what outputs hold before they are checked
Inputs = tuple[Tensor, Tensor]
Call = Callable[[Tensor, Tensor], Tensor]


class Frame(nn.Module):
    """(context f32[1, 1 + L, 2, Ns, C], keypoints f32[1, 133, 3]) -> frame u8[1, H, W, 3], by Euler on a grid.

    Layers hold their weights in `dtype`, everything else is computed under autocast.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator, times: Sequence[float], dtype: torch.dtype) -> None:
        super().__init__()
        own = copy.deepcopy(generator).eval().requires_grad_(False)
        self.own, self.flow, self.dtype = own, own.flow, dtype
        self.register_buffer("noise", own.noise)
        self.sizes = [s - t for t, s in pairwise(times)]
        device = own.noise.device
        ends = [torch.tensor([[t], [s]], device=device) for t, s in pairwise(times)]
        self.modulations = [own.flow.modulation(*each) for each in ends]
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.to(dtype)

    @torch.no_grad()
    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        half = self.dtype != torch.float32
        with torch.autocast(
            context.device.type, self.dtype if half else None, enabled=half, cache_enabled=False
        ):
            layers, sources = self.own.split(context)
            (pose, where), x = self.flow.pose_tokens(keypoints, layers), self.noise
            for size, modulation in zip(self.sizes, self.modulations, strict=True):
                x = x + size * self.flow.velocity(x, modulation, layers, pose)
            return to_bytes(self.own.shown(x, where, sources).float())


def compiled(frame: Frame) -> Frame:
    """The frame with its parts compiled, each once for all evaluations."""
    frame.flow.velocity = torch.compile(frame.flow.velocity, dynamic=False)
    frame.flow.pose_tokens = torch.compile(frame.flow.pose_tokens, dynamic=False)
    frame.own.shown = torch.compile(frame.own.shown, dynamic=False)
    return frame


@torch.no_grad()
def captured(frame: Call, inputs: Inputs) -> Call:
    """The frame as a CUDA graph with inputs and output at fixed places."""
    kept = tuple(each.clone() for each in inputs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            frame(*kept)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = frame(*kept)
    made.fill_(POISON)

    def call(context: Tensor, keypoints: Tensor) -> Tensor:
        kept[0].copy_(context)
        kept[1].copy_(keypoints)
        graph.replay()
        return made

    return call


def ready(mode: str, frame: Frame, inputs: Inputs) -> Call:
    """What is timed."""
    call = compiled(frame) if mode.startswith("compile") else frame
    return captured(call, inputs) if mode.endswith("graph") else call


def timed(call: Call, inputs: Sequence[Inputs], rounds: int, warmup: int) -> Timing:
    """One duration a frame, by events on a GPU; the frames do not overlap."""
    found = []
    for number in range(warmup + rounds):
        given = inputs[number % len(inputs)]
        found.append(_once_on_gpu(call, given) if given[0].is_cuda else _once(call, given))
    return Timing(tuple(found[warmup:]))


def _once(call: Call, given: Inputs) -> float:
    begun = time.perf_counter()
    call(*given)
    return 1000 * (time.perf_counter() - begun)


def _once_on_gpu(call: Call, given: Inputs) -> float:
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    call(*given)
    ended.record()
    torch.cuda.synchronize()
    return float(begun.elapsed_time(ended))


@torch.no_grad()
def conditions(generator: Generator, sources: Tensor, keypoints: Tensor) -> list[Inputs]:
    """A person and a pose for each of sources u8[n, H, W, 3] and keypoints f32[n, 133, 3]."""
    found = []
    for source, pose in zip(sources, keypoints, strict=True):
        picture = signed(source[None])
        context = generator.context(generator.autoencoder.encode(picture), picture)
        found.append((context, pose[None]))
    return found


def measured(
    contenders: Mapping[str, tuple[Generator, Sequence[float]]], sources: Tensor, keypoints: Tensor,
    rounds: int, warmup: int = 20,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yields a row for every contender (generator on the device, times), precision and mode; `failed` is why not.

    `p50` is timed twice, apart: differences below that between `p50` and `again_p50` are noise. `levels` is the
    mean difference to fp32's frames of 255, None of a wrong shape.
    """
    modes = CUDA_MODES if sources.is_cuda else CPU_MODES
    given = {name: conditions(generator, sources, keypoints) for name, (generator, _) in contenders.items()}
    for mode, precision in ((mode, precision) for mode in modes for precision in PRECISIONS):
        for name, (generator, times) in contenders.items():
            about = {"name": name, "evaluations": len(times) - 1, "mode": mode, "precision": precision}
            try:
                found = _measured(mode, precision, generator, times, given[name], rounds, warmup)
            except RuntimeError as error:  # a mode that a network cannot be run in must not cost the others
                found = {"failed": str(error), "passed": False}
            yield {**about, **found}


def _measured(
    mode: str, precision: str, generator: Generator, times: Sequence[float], inputs: Sequence[Inputs],
    rounds: int, warmup: int,
) -> dict[str, Any]:  # fmt: skip
    plain, begun = Frame(generator, times, torch.float32), time.perf_counter()
    expected = [plain(*each) for each in inputs]
    call = ready(mode, Frame(generator, times, PRECISIONS[precision]), inputs[0])
    levels = _levels(call, inputs, expected)
    prepared = time.perf_counter() - begun
    first, second = (timed(call, inputs, rounds, warmup) for _ in range(2))
    return {
        "batch": 1, "unit": "ms", **first.summary(), "again_p50": second.percentile(50), "levels": levels,
        "passed": levels is not None and levels <= LEVELS[precision], "prepared_s": round(prepared, 1),
    }  # fmt: skip


def _levels(call: Call, inputs: Sequence[Inputs], expected: Sequence[Tensor]) -> float | None:
    found = [call(*given).clone() for given in inputs]
    if any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return None
    return float((torch.cat(found).float() - torch.cat(list(expected)).float()).abs().mean())
