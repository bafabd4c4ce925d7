"""Where the quantizers of a generator sit, and their scales as a portable file.

The frame rate runs in INT8: pose embedding, blocks, head and decoder. What is computed once a person (source
branch) or once at export (time embedding, and `flow.embed`, which meets only z* at one step) stays in fp32.
Rules that TensorRT and OpenVINO share: symmetric, zero point 0, weights per output channel, inputs per tensor,
outputs not quantized.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, MissingDependency, SpecError
from flowpose.model.attention import Scores
from flowpose.model.generator import Generator
from flowpose.model.weights import load_generator

SCALES = "scales.safetensors"
TUNED = "tuned.safetensors"  # weights that were trained under quantization, where some were
# detail.offsets is left out: OpenVINO 2026.4 scales its input, latents joined with places, 30 times too coarsely.
# Of products of two activations q k^T alone is quantized: with the softmax's shares in INT8, too, people-128 loses
# 2.4 dB in attention (docs/performance-log.md), and shares are most of what a match is.
EDGE = ("flow.before", "flow.down", "flow.low", "flow.attention", "flow.up", "flow.after")
FLOW = ("flow.pose", "flow.source.match.scores", "flow.blocks", *EDGE, "flow.head")
FRAME_RATE = (*FLOW, "autoencoder.decoder", "detail.refine", "detail.choice")
# Weights use the codes -64..64 of INT8. x86 CPUs without VNNI add two u8 x s8 products in 16 bits, which saturate
# beyond: on an AVX2 EPYC OpenVINO's frames of recipes/tiny.yaml were 4 levels off in the mean with -127..127, 0.5 with
# -64..64. The bit costs 2 dB of PSNR to the student there (46.8 -> 44.6 dB).
WEIGHT_CODES = 64
SMALLEST = 1e-6  # of a range: an input or a weight row that is always zero must not give a scale of zero
WEIGHT, INPUT, OTHER = "weight_quantizer", "input_quantizer", "other_quantizer"
CHANNEL_AXIS: Mapping[str, int | None] = {WEIGHT: 0, INPUT: None, OTHER: None}
"""Quantizer of a layer's weight, of its input, and of a product's other input -> the axis with a range each."""
QuantizedPrecision = Literal["int8", "fp8"]
BITS: Mapping[QuantizedPrecision, int | tuple[int, int]] = {"int8": 8, "fp8": (4, 3)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what modelopt and the exporter print: notes on GPUs, counts of quantizers, tracing."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split between threads, so ranges would differ with their number in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def modelopt() -> ModuleType:
    """modelopt.torch.quantization, imported when first needed (about a second).

    Raises:
        MissingDependency: nvidia-modelopt or a package that it needs is not installed.
    """
    try:
        with quiet():
            import modelopt.torch.quantization as found
    except ModuleNotFoundError as error:
        what = f"needs the package {error.name}"
        raise MissingDependency("quantize", what, fix="pip install flowpose[quantize]") from error
    _know_scores(found)
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _know_scores(library: ModuleType) -> None:
    """Tells modelopt how a product of two activations is quantized: both sides, before it."""

    class QuantizedScores(Scores):
        def _setup(self) -> None:
            for kind in (INPUT, OTHER):
                setattr(self, kind, library.nn.TensorQuantizer())

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return super().forward(getattr(self, INPUT)(q), getattr(self, OTHER)(k))

    library.register(original_cls=Scores, quantized_cls=QuantizedScores)


def quantizable(generator: nn.Module) -> dict[str, nn.Module]:
    """Name -> what can be quantized of what each frame computes: layers with weights, and products q k^T."""
    products = {
        name: module
        for name, module in generator.named_modules()
        if isinstance(module, Scores) and name.startswith(FRAME_RATE)
    }
    return {**weighted(generator), **products}


def weighted(generator: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Name -> linear and convolution layers that each frame computes."""
    return {
        name: module
        for name, module in generator.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name.startswith(FRAME_RATE)
    }


def choose(generator: nn.Module, keep: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers to quantize: those of the frame rate that no glob of `keep` matches.

    Raises:
        SpecError: a pattern matches nothing, or nothing is left.
    """
    names = list(quantizable(generator))
    unmatched = [glob for glob in keep if not any(fnmatchcase(name, glob) for name in names)]
    problems = [
        f"quantize.keep: no layer matches, got {glob!r}, expected such as {names[0]!r}" for glob in unmatched
    ]
    chosen = tuple(name for name in names if not any(fnmatchcase(name, glob) for glob in keep))
    if not chosen:
        problems.append("quantize.keep: keeps every layer in floating point, nothing is left to quantize")
    if problems:
        raise SpecError("recipe", problems)
    return chosen


def settings(
    names: Sequence[str], precision: QuantizedPrecision = "int8", inputs: str = "max"
) -> list[dict[str, Any]]:
    """modelopt's rules: everything off, then the quantizers of each named layer or product, as far as it has them.

    Args:
        names: layers.
        precision: of both.
        inputs: the calibrator of inputs, `max` or `histogram`; weights are all known, theirs is their maximum.
    """
    rules: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    for name in names:
        for kind, axis in CHANNEL_AXIS.items():
            own: dict[str, Any] = {"num_bits": BITS[precision], "axis": axis}
            if kind != WEIGHT:
                own["calibrator"] = inputs
            rules.append({"quantizer_name": f"{name}.{kind}", "cfg": own, "enable": True})
    return rules


def quantizers(generator: nn.Module) -> dict[str, Any]:
    """`<layer>.<quantizer>` -> quantizer, of every enabled one (see CHANNEL_AXIS)."""
    return {
        name: module
        for name, module in generator.named_modules()
        if name.endswith(tuple(CHANNEL_AXIS)) and module.is_enabled
    }


def switch(generator: nn.Module, on: Collection[str], names: Sequence[str]) -> None:
    """Of the layers `names`, quantizes those in `on` and no other."""
    for name in names:
        layer = generator.get_submodule(name)
        for quantizer in (getattr(layer, kind) for kind in CHANNEL_AXIS if hasattr(layer, kind)):
            if name in on:
                quantizer.enable()
            else:
                quantizer.disable()


@torch.no_grad()
def follow_weights(generator: nn.Module, precision: QuantizedPrecision) -> None:
    """Sets the ranges of weights to those of weights that have changed, widened."""
    for name, quantizer in quantizers(generator).items():
        if name.endswith(WEIGHT):
            weight: Any = generator.get_submodule(name.rpartition(".")[0]).weight
            largest = weight.abs().flatten(1).amax(1).clamp_min(SMALLEST) * _wider(f"{name}.amax", precision)
            quantizer.amax = largest.reshape(quantizer.amax.shape)


def _wider(name: str, precision: QuantizedPrecision) -> float:
    """How many times a weight's largest magnitude its range is."""
    return 127 / WEIGHT_CODES if precision == "int8" and name.endswith(f"{WEIGHT}.amax") else 1.0


def ranges_of(generator: nn.Module) -> dict[str, Tensor]:
    """`<layer>.<quantizer>.<amax or pre_quant_scale>` -> f32 tensor, of every enabled quantizer.

    `amax` is the value of the largest code: 127 in INT8, 448 in FP8.
    """
    found = {}
    for name, quantizer in quantizers(generator).items():
        for field in ("amax", "pre_quant_scale"):
            value = getattr(quantizer, field)
            if value is not None:
                found[f"{name}.{field}"] = value.detach().float().contiguous().clone()
    return found


def widened(ranges: Mapping[str, Tensor], precision: QuantizedPrecision) -> dict[str, Tensor]:
    """Calibrated ranges as they are used: none is zero, and in INT8 a weight's largest magnitude has WEIGHT_CODES."""
    return {
        name: value.clamp_min(SMALLEST) * _wider(name, precision) if name.endswith(".amax") else value
        for name, value in ranges.items()
    }


def apply_scales(
    generator: Generator, ranges: Mapping[str, Tensor], precision: QuantizedPrecision = "int8"
) -> Generator:
    """The same generator with quantizers that have these ranges; needs no calibration.

    A smoothed layer's weights are divided by its `pre_quant_scale`, as its inputs are multiplied by it.
    """
    library = modelopt()
    names = sorted({key.removesuffix(f".{INPUT}.amax") for key in ranges if key.endswith(f".{INPUT}.amax")})
    with quiet():
        library.replace_quant_module(generator)
        library.set_quantizer_by_cfg(generator, settings(names, precision))
    for key, value in ranges.items():
        name, _, field = key.rpartition(".")
        quantizer: Any = generator.get_submodule(name)
        if field == "pre_quant_scale":
            quantizer._enable_pre_quant_scale = True
            _divide(generator.get_submodule(name.rpartition(".")[0]), value)
        setattr(quantizer, field, value)
    return generator.eval()


@torch.no_grad()
def _divide(layer: Any, scale: Tensor) -> None:
    layer.weight.mul_(1.0 / scale)


def load_quantized(artifact: Artifact, *, codes: QuantizedPrecision | None = None) -> Generator:
    """The generator of a quantized artifact with its quantizers: forward computes in fp32 what the codes compute.

    Args:
        artifact: of kind `quantized`.
        codes: INT8 or FP8 codes over the same ranges; without it the artifact's own.

    Raises:
        ArtifactError: the artifact is of another kind.
        MissingDependency: nvidia-modelopt is not installed.
    """
    if artifact.manifest.kind != "quantized":
        raise ArtifactError(
            artifact.path,
            "has no scales of a quantization",
            got=artifact.manifest.kind,
            expected="quantized",
            fix="flowpose quantize",
        )
    generator = load_generator(artifact)
    if TUNED in artifact.manifest.files:
        generator.load_state_dict(load_file(artifact.file(TUNED)), strict=False)
    return apply_scales(generator, load_file(artifact.file(SCALES)), codes or precision_of(artifact))


def precision_of(artifact: Artifact) -> QuantizedPrecision:
    """What a quantized artifact's layers compute in.

    Raises:
        ArtifactError: its manifest does not say, as those of older versions.
    """
    found = artifact.manifest.precision
    if found not in BITS:
        expected = " or ".join(BITS)
        raise ArtifactError(
            artifact.path, "no quantized precision", got=found, expected=expected, fix="flowpose quantize"
        )
    return found  # type: ignore[return-value]
