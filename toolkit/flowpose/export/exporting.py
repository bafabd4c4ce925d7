"""The export stage: quantized student -> source graph and frame graphs, goldens, and the models to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from flowpose.artifact import Artifact, Draft, creating, open_artifact
from flowpose.errors import ArtifactError
from flowpose.export import goldens
from flowpose.export.anatomy import CODES, anatomy
from flowpose.export.costs import costs_text
from flowpose.export.files import exported, halved, save
from flowpose.export.frames import Form, forms, frame_model
from flowpose.export.goldens import Parity
from flowpose.export.integer import with_integer_kernels, with_weights_of
from flowpose.export.modules import Source, rounded
from flowpose.export.references import Own, contenders, write_reference
from flowpose.export.storage import stored_int8
from flowpose.job import Job
from flowpose.model.generator import Generator
from flowpose.model.weights import load_generator
from flowpose.quantize.samples import Samples
from flowpose.runtime.goldens import TOLERANCES
from flowpose.spec.base import Precision
from flowpose.spec.costs import COSTS
from flowpose.spec.manifest import GraphSpec, Measurement, TensorSpec

SOURCE, FRAME = "source.onnx", "frame.{}.onnx"
KERNELS, KERNELS_BACKEND = FRAME.format("int8.onnxruntime"), "onnxruntime"
GOLDEN = {"inputs": "golden/inputs.npz", "outputs": "golden/outputs.npz"}


def export(job: Job) -> Artifact:
    """Makes the graph artifact of a student: source and frame graphs, goldens, parity and file sizes.

    The fp32 graphs compute in fp32 with weights rounded to what their files hold (see `rounded`); goldens are made with
    the rounded weights, so nothing is lost between golden and graph. INT8 weights are quantized from fp32.

    Args:
        job: its parent is a quantized artifact or a student, which has no quantized form.

    Raises:
        ArtifactError: the job has no parent of these kinds.
        DataError: goldens cannot be drawn.
        ParityError: a graph does not compute what torch computes.
    """
    kind = job.parent.manifest.kind if job.parent else None
    if job.parent is None or kind not in ("student", "quantized"):
        raise ArtifactError(
            job.path,
            "export needs a student",
            got=kind,
            expected="quantized or student",
            fix="flowpose quantize",
        )
    return _export(job, rounded(load_generator(job.parent), job.recipe.export.weights))


@torch.no_grad()
def _export(job: Job, fp32: Generator) -> Artifact:
    """Makes the graph artifact of a one-step student with weights as its graphs hold them, in every precision."""
    samples = goldens.golden_samples(job)
    contexts = goldens.torch_contexts(fp32, samples)
    kept = forms(job, fp32)
    specs = specs_of(contexts.shape[1:], samples.sources.shape[1:], tuple(kept))
    with creating(job.path, **{**job.fields("graph"), "times": fp32.times}) as draft:
        off = _write_source(job, draft, fp32, samples, contexts)
        frames, measured = (
            {},
            [job.measured("context_parity", off, n=len(samples), split="val", against="torch")],
        )
        for precision, form in kept.items():
            frames[precision], parity = _write_frame(job, draft, precision, form, contexts, samples)
            measured += _parity_rows(job, precision, parity, len(samples))
            measured += _coverage_rows(job, draft, precision)
        _write_goldens(draft, samples, contexts, frames)
        own, compared = Own(SOURCE, fp32, contexts), contenders(job) if job.recipe.export.references else ()
        written = [write_reference(job, draft, each, samples, own) for each in compared]
        measured += [measurement for _, found in written for measurement in found]
        (draft / COSTS).write_bytes(costs_text(draft.path, specs))
        draft.add(
            graphs=specs, golden=GOLDEN, references=tuple(reference for reference, _ in written),
            measurements=[*measured, *_sizes(job, draft)],
        )  # fmt: skip
    return open_artifact(job.path, verify=False)


def origin(job: Job) -> str:
    """The key that graphs carry: of the artifact whose weights they hold."""
    return job.parent.manifest.key if job.parent else job.key


def _write_source(
    job: Job, draft: Draft, generator: Generator, samples: Samples, contexts: NDArray[np.float32]
) -> float:
    """Writes the source graph; its difference to torch, relative."""
    example = {"source": torch.from_numpy(samples.sources[0])}
    model = halved(stored_int8(exported(Source(generator), example, ["context"], job.recipe.export.opset)))
    save(model, draft / SOURCE, origin(job))
    return goldens.check_contexts(draft / SOURCE, goldens.graph_contexts(draft / SOURCE, samples), contexts)


def _write_frame(
    job: Job,
    draft: Draft,
    precision: Precision,
    form: Form,
    contexts: NDArray[np.float32],
    samples: Samples,
) -> tuple[NDArray[np.uint8], Parity]:
    """Writes a frame graph; its golden frames, and how far graph and torch are apart.

    Goldens are torch's. Quantized ones are the graph's own in onnxruntime, after it was found near torch's fake
    quantization: which of two codes a value on the edge gets is decided by the kernels, not by torch.
    """
    example = {"context": torch.from_numpy(contexts[0]), "keypoints": torch.from_numpy(samples.keypoints[0])}
    path = draft / FRAME.format(precision)
    save(frame_model(precision, form.traced, example, job.recipe.export), path, origin(job))
    expected = goldens.torch_frames(form.own, contexts, samples)
    run = goldens.float8_frames if precision == "fp8" else goldens.graph_frames
    found = run(path, contexts, samples)
    parity = goldens.frame_parity(found, expected)
    if precision in ("int8", "fp8"):
        goldens.check_quantized(path, precision, parity)
        if precision == "int8":
            _write_kernels(job, draft, path, contexts, samples, found)
        return found, parity
    limit = job.recipe.export.tolerance if precision == "fp32" else TOLERANCES[precision].mean
    goldens.check_float(path, precision, parity, limit)
    return expected, parity


def _write_kernels(
    job: Job,
    draft: Draft,
    path: Path,
    contexts: NDArray[np.float32],
    samples: Samples,
    expected: NDArray[np.uint8],
) -> None:
    """Writes the INT8 frame graph in onnxruntime's integer kernels, checked against the Q/DQ graph's frames.

    Its large weights are references into the Q/DQ graph's file.
    """
    made = with_integer_kernels(onnx.load(path))
    kernels = draft / KERNELS
    save(made, kernels, origin(job))
    kernels.write_bytes(with_weights_of(made, path).SerializeToString(deterministic=True))
    parity = goldens.frame_parity(goldens.graph_frames(kernels, contexts, samples), expected)
    goldens.check_quantized(kernels, "int8", parity)


def _write_goldens(
    draft: Draft,
    samples: Samples,
    contexts: NDArray[np.float32],
    frames: Mapping[Precision, NDArray[np.uint8]],
) -> None:
    np.savez_compressed(draft / GOLDEN["inputs"], source=samples.sources, keypoints=samples.keypoints)
    # fp16: four digits are enough for a tolerance of 1 %, and contexts are most of an artifact's goldens.
    outputs: dict[str, Any] = {"context": contexts.astype(np.float16)}
    outputs |= {str(precision): frame for precision, frame in frames.items()}
    np.savez_compressed(draft / GOLDEN["outputs"], **outputs)


def specs_of(
    context: tuple[int, ...], picture: tuple[int, ...], precisions: Sequence[Precision]
) -> tuple[GraphSpec, ...]:
    """What a manifest says of the graphs: their files, and the tensors of a context and a picture of these shapes."""
    source = TensorSpec(name="source", dtype="u8", shape=picture, low=0, high=255)
    keys = TensorSpec(name="context", dtype="f32", shape=context)
    pose = TensorSpec(name="keypoints", dtype="f32", shape=(133, 3))
    frame = TensorSpec(name="frame", dtype="u8", shape=picture, low=0, high=255)
    found = [GraphSpec(name="source", precision="fp32", file=SOURCE, inputs=(source,), outputs=(keys,))]
    files: list[tuple[Precision, str, str | None]] = [(each, FRAME.format(each), None) for each in precisions]
    if "int8" in precisions:
        files.append(("int8", KERNELS, KERNELS_BACKEND))
    for precision, file, backend in files:
        found.append(
            GraphSpec(
                name="frame",
                precision=precision,
                backend=backend,
                file=file,
                inputs=(keys, pose),
                outputs=(frame,),
            )
        )
    return tuple(found)


def _parity_rows(job: Job, precision: str, parity: Parity, n: int) -> list[Measurement]:
    return [
        job.measured(f"{precision}_parity_{name}", value, n=n, split="val", unit="levels", against="torch")
        for name, value in vars(parity).items()
    ]


def _coverage_rows(job: Job, draft: Draft, precision: str) -> list[Measurement]:
    """How much of a quantized frame graph computes in 8 bits, see `Coverage`; nothing of the others."""
    if precision not in CODES.values():
        return []
    file = FRAME.format(precision)
    found = anatomy(onnx.load(draft / file), file).coverage
    counts = {
        "layers": found.quantized_layers, "float_layers": found.float_layers,
        "float_islands": found.float_islands, "boundaries": found.boundaries,
    }  # fmt: skip
    share = job.measured(f"{precision}_share", found.share, n=1, split="val", unit="share", against="")
    return [share] + [
        job.measured(f"{precision}_{name}", count, n=1, split="val", against="")
        for name, count in counts.items()
    ]


def _sizes(job: Job, draft: Draft) -> list[Measurement]:
    """Size of every graph file, MB of 10^6 bytes."""
    return [
        job.measured(
            f"size_{Path(path).stem}", path.stat().st_size / 1e6, n=1, split="val", unit="MB", against=""
        )
        for path in sorted(draft.path.rglob("*.onnx"))
    ]
