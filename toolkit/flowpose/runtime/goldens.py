"""Replaying an artifact's golden inputs: does this backend, here and now, compute what was recorded at
export?

Seen in the libraries below: outputs of zeros, outputs of the run before, swapped colours, a quantized
convolution that is plainly wrong. Each is looked for by name, so that the error says what to search for.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, BackendError

# What NumPy raises on a file that is no .npz of numbers; an array of objects gives a ValueError and is not unpickled.
_BROKEN = (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)

Picture = NDArray[np.uint8]
Encode = Callable[[Picture], NDArray[np.float32]]
Decode = Callable[[NDArray[np.float32], NDArray[np.float32]], Picture]


@dataclass(frozen=True)
class Tolerance:
    """Largest differences to a recorded frame, levels of 0..255, and to a context, relative to its norm."""

    median: float
    mean: float
    max: float
    context: float


# INT8 kernels round differently from backend to backend, so single pixels may be far off there and the bulk
# may not. The source graph beside an INT8 frame graph is fp32 (fp16 on GPUs: 0.001 off), and so is what its
# context may differ by. Pixels of the source are sampled at computed places: beside an outline a place that is a tenth
# of a pixel off is worth ten levels.
TOLERANCES = {
    "fp32": Tolerance(median=1.0, mean=0.5, max=32, context=0.01),
    "fp16": Tolerance(median=1.0, mean=1.0, max=96, context=0.03),
    "int8": Tolerance(median=1.0, mean=2.5, max=255, context=0.01),
    "fp8": Tolerance(median=1.0, mean=2.5, max=255, context=0.01),  # as int8; nobody has measured it
}


@dataclass(frozen=True)
class Replay:
    """How far the replayed frames were from the recorded ones, grey levels of 0..255, worst sample of n."""

    n: int
    precision: str
    median: float
    mean: float
    max: float
    context: float


@dataclass(frozen=True)
class Goldens:
    """Recorded source u8[n,H,W,3], keypoints f32[n,J,3], context f32[n,...] and frames u8[n,H,W,3]."""

    source: Picture
    keypoints: NDArray[np.float32]
    context: NDArray[np.float32]
    frame: Picture


def read_goldens(artifact: Artifact, precision: str) -> Goldens:
    """Returns the goldens of an artifact for a precision.

    Raises:
        ArtifactError: the artifact has none, or none of that precision.
    """
    golden = artifact.manifest.golden
    if golden is None:
        raise ArtifactError(artifact.path, "has no golden files", fix="make it again with flowpose export")
    try:
        with np.load(artifact.file(golden.inputs)) as given, np.load(artifact.file(golden.outputs)) as made:
            missing = [n for n in ("source", "keypoints") if n not in given]
            missing += [n for n in ("context", precision) if n not in made]
            if missing:
                raise ArtifactError(artifact.path, "its golden files lack arrays", got=", ".join(missing))
            context = made["context"].astype(np.float32)  # kept as float16, half the file
            return Goldens(given["source"], given["keypoints"], context, made[precision])
    except _BROKEN as error:
        what, fix = f"its golden files cannot be read ({error})", "make it again with flowpose export"
        raise ArtifactError(artifact.path, what, fix=fix) from error


def replay(goldens: Goldens, precision: str, encode: Encode, frame: Decode, where: str) -> Replay:
    """Returns the differences of a replay of all goldens.

    Args:
        goldens: what was recorded.
        precision: row of TOLERANCES.
        encode, frame: the two graphs.
        where: the backend and the artifact, for error texts.

    Raises:
        BackendError: an output is not what was recorded; says in which way.
    """
    limits = TOLERANCES[precision]
    contexts = [encode(source) for source in goldens.source]
    for i, context in enumerate(contexts):
        _check_context(context, goldens.context[i], limits, f"{where}: golden {i}")
    handed_out = [frame(context, goldens.keypoints[i]) for i, context in enumerate(contexts)]
    kept = [np.array(picture) for picture in handed_out]
    _check_fresh(kept, goldens, lambda: frame(contexts[0], goldens.keypoints[0]), handed_out, where)
    rows = [_check_frame(kept[i], goldens.frame[i], limits, f"{where}: golden {i}") for i in range(len(kept))]
    worst = np.max([[row.median, row.mean, row.max] for row in rows], axis=0)
    off = max(_relative(c, g) for c, g in zip(contexts, goldens.context, strict=True))
    return Replay(len(kept), precision, float(worst[0]), float(worst[1]), float(worst[2]), off)


def _check_context(context: NDArray[Any], golden: NDArray[Any], limits: Tolerance, where: str) -> None:
    if context.shape != golden.shape:
        raise BackendError(where, "context of another shape", got=context.shape, expected=golden.shape)
    if not np.isfinite(context).all():
        share = f"{np.mean(~np.isfinite(context)):.1%} of the values"
        raise BackendError(where, "the context has NaN or infinity", got=share, expected="none")
    if not context.any() and golden.any():
        raise BackendError(where, "the context is all zeros")
    off = _relative(context, golden)
    if off > limits.context:
        raise BackendError(
            where, "the context differs", got=f"{off:.3g}", expected=f"<= {limits.context:g} (relative)"
        )


def _check_fresh(
    kept: list[Picture],
    goldens: Goldens,
    again: Callable[[], Picture],
    handed_out: list[Picture],
    where: str,
) -> None:
    """Looks for outputs that are those of another run, or that a later run wrote over."""
    first = again()
    for i, (before, now) in enumerate(zip(kept, handed_out, strict=True)):
        if not np.array_equal(before, now):
            raise BackendError(
                f"{where}: golden {i}", "a later run wrote over an earlier output (shared buffer)"
            )
    for i in range(1, len(kept)):
        same_before = np.array_equal(goldens.frame[i], goldens.frame[i - 1])
        if kept[i].any() and np.array_equal(kept[i], kept[i - 1]) and not same_before:
            raise BackendError(f"{where}: golden {i}", "the output is that of the run before (stale buffer)")
    if _levels(first, kept[0]).mean() > 0.5:
        raise BackendError(f"{where}: golden 0", "the same input gave another output (stale buffer)")


def _check_frame(frame: Picture, golden: Picture, limits: Tolerance, where: str) -> Tolerance:
    if frame.shape != golden.shape or frame.dtype != np.uint8:
        got, expected = f"{frame.dtype}{list(frame.shape)}", f"uint8{list(golden.shape)}"
        raise BackendError(where, "frame of another kind", got=got, expected=expected)
    found = _difference(frame, golden)
    if found.median <= limits.median and found.mean <= limits.mean and found.max <= limits.max:
        return found
    got = f"median {found.median:.3g}, mean {found.mean:.3g}, max {found.max:.0f} levels"
    expected = f"median <= {limits.median:g}, mean <= {limits.mean:g}, max <= {limits.max:g}"
    fix = "take another backend (backend=...), and compile again on this machine: flowpose compile"
    raise BackendError(where, _fault(frame, golden, found), got=got, expected=expected, fix=fix)


def _fault(frame: Picture, golden: Picture, found: Tolerance) -> str:
    if not frame.any():
        return "the frame is all zeros"
    if _difference(frame[..., ::-1], golden).mean < 0.25 * found.mean:
        return "the colours are swapped (blue for red)"
    return "the frame is not the recorded one"


def _difference(frame: Picture, golden: Picture) -> Tolerance:
    levels = _levels(frame, golden)
    return Tolerance(float(np.median(levels)), float(levels.mean()), float(levels.max()), 0.0)


def _levels(a: Picture, b: Picture) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))


def _relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))
