"""Golden inputs and outputs, and whether the graphs compute what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from flowpose import data
from flowpose.errors import ParityError
from flowpose.export.modules import Source
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.pictures import to_pictures
from flowpose.quantize.samples import Samples, pick
from flowpose.runtime.backend import open_backend
from flowpose.runtime.goldens import TOLERANCES
from flowpose.spec.base import Precision

COUNT = 2  # two, so that a backend that keeps returning its first result is found out
REFERENCE = "onnxruntime"
CONTEXT = 1e-3  # largest relative difference of the context
Arrays = NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """Absolute differences of frames, levels of 0..255, over all goldens."""

    median: float
    mean: float
    max: float


def golden_samples(job: Job) -> Samples:
    """The pairs of the recipe's val split that goldens are made from."""
    pictures = data.read(job.recipe.data, job.recipe.image, "val", job.data)
    return pick(pictures, COUNT, job.recipe.evaluate.seed)


@torch.no_grad()
def torch_contexts(generator: Generator, samples: Samples) -> NDArray[np.float32]:
    """f32[n, L, 2, Ns, C]."""
    source = Source(generator)
    return np.stack([source(torch.from_numpy(picture)).numpy() for picture in samples.sources])


@torch.no_grad()
def torch_frames(generator: Generator, contexts: NDArray[np.float32], samples: Samples) -> NDArray[np.uint8]:
    """u8[n, H, W, 3], one by one as the graph does."""
    frames = []
    for context, keypoints in zip(
        torch.from_numpy(contexts), torch.from_numpy(samples.keypoints), strict=True
    ):
        frames.append(to_pictures(generator.pictures(context[None], keypoints[None]))[0])
    return np.stack(frames)


def graph_contexts(path: Path, samples: Samples) -> NDArray[np.float32]:
    """What the source graph gives in the reference backend."""
    return _run(path, lambda i: {"source": samples.sources[i]}, "context", len(samples))


def float8_frames(path: Path, contexts: Arrays, samples: Samples) -> NDArray[np.uint8]:
    """What an FP8 frame graph gives in onnxruntime without its own rewriting.

    With it (`ORT_ENABLE_EXTENDED`, onnxruntime 1.32) FP8 frames of recipes/tiny.yaml were 4.3 levels off in the mean,
    and 0.0 without. No target runs FP8 in onnxruntime; this is for checking the graph.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.stack(
        [
            session.run(["frame"], {"context": contexts[i], "keypoints": samples.keypoints[i]})[0]
            for i in range(len(samples))
        ]
    )


def graph_frames(
    path: Path,
    contexts: Arrays,
    samples: Samples,
    backend: str = REFERENCE,
    times: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """What a frame graph gives in a backend; an any-step graph is given its `times`."""
    grid = {} if times is None else {"times": np.array(times, np.float32)}

    def given(i: int) -> dict[str, Arrays]:
        return {"context": contexts[i], "keypoints": samples.keypoints[i], **grid}

    return _run(path, given, "frame", len(samples), backend)


def _run(
    path: Path, given: Callable[[int], dict[str, Arrays]], output: str, count: int, backend: str = REFERENCE
) -> Arrays:
    graph = open_backend(backend).open(path, 1)
    return np.stack([graph.run(given(i))[output] for i in range(count)])


def frame_parity(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> Parity:
    """Differences of two sets of frames."""
    levels = np.abs(found.astype(np.int16) - expected.astype(np.int16))
    return Parity(float(np.median(levels)), float(levels.mean()), float(levels.max()))


def check_contexts(path: Path, found: Arrays, expected: Arrays) -> float:
    """The largest relative difference of a context.

    Raises:
        ParityError: it is over CONTEXT.
    """
    off = max(
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))
        for a, b in zip(found, expected, strict=True)
    )
    if not off <= CONTEXT:
        raise ParityError(
            path,
            "the source graph differs from torch",
            got=f"{off:.3g}",
            expected=f"<= {CONTEXT:g} (relative)",
        )
    return off


def check_float(path: Path, precision: Precision, parity: Parity, tolerance: float) -> None:
    """Raises ParityError where the mean difference to torch is over the tolerance, in levels."""
    if parity.mean > tolerance:
        raise ParityError(
            path,
            f"the {precision} graph differs from torch",
            got=f"mean {parity.mean:.3g} levels",
            expected=f"<= {tolerance:g}",
        )


def check_quantized(path: Path, precision: Precision, parity: Parity) -> None:
    """Raises ParityError where codes are off in the bulk; single roundings that flip move single pixels far."""
    limits = TOLERANCES[precision]
    if parity.median > limits.median or parity.mean > limits.mean:
        got = f"median {parity.median:.3g}, mean {parity.mean:.3g} levels"
        expected = f"median <= {limits.median:g}, mean <= {limits.mean:g}"
        raise ParityError(
            path, f"the {precision} graph differs from fake quantization in torch", got=got, expected=expected
        )
