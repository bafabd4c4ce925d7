"""The models that a student is compared with, kept beside its graphs: teacher, L1 baseline, its own two steps.

Weights are kept in a byte each (export/storage.py), so a reference costs a quarter of its fp32 size, and pictures
stay within what nobody sees; both are checked here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from flowpose.artifact import Artifact, Draft, find_by_key, open_artifact
from flowpose.errors import ArtifactError, ParityError
from flowpose.evaluate import teacher_grid, teacher_middle
from flowpose.export import goldens
from flowpose.export.anystep import any_step
from flowpose.export.files import LARGEST, exported, halved, save
from flowpose.export.modules import Source, rounded, same_source
from flowpose.export.storage import stored_int8
from flowpose.job import Job, steps_of
from flowpose.metrics import psnr
from flowpose.model.generator import Generator
from flowpose.model.weights import STUDENT_GRID, load_generator
from flowpose.quantize.samples import Samples
from flowpose.spec.manifest import Measurement, Reference

FOLDER = "references"
STORED = (
    42.0  # dB, the least PSNR of pictures from stored weights to those from the weights themselves: 2 levels
)

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Contender:
    """A model to compare with: which, where its weights are, and row of the table -> its grid."""

    name: Literal["teacher", "l1", "student"]
    artifact: Artifact
    grids: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Own:
    """The student that others are compared with: its source graph, itself, and its contexts f32[n, ...]."""

    source: str
    generator: Generator
    contexts: NDArray[np.float32]


def contenders(job: Job) -> tuple[Contender, ...]:
    """What the student of a job is compared with: what its line and its recipe have of teacher, L1 and two steps.

    Raises:
        ArtifactError: an ancestor is not in the job's root any more.
    """
    found: list[Contender] = []
    finished = job.sibling("teacher_finish") if job.recipe.teacher_finish else None
    teacher = finished or _nearest(job, "model")
    if teacher:
        middle, steps = teacher_middle(teacher), steps_of(job.recipe.evaluate)
        found.append(Contender("teacher", teacher, {f"teacher-{n}": teacher_grid(n, middle) for n in steps}))
    regressor = job.sibling("regressor") if job.recipe.regressor else None
    if regressor:
        found.append(Contender("l1", regressor, {"l1": STUDENT_GRID}))
    student = _nearest(job, "student")
    if student and len(student.manifest.times) == 3:
        found.append(Contender("student", student, {"student-2": student.manifest.times}))
    return tuple(found)


def _nearest(job: Job, kind: str) -> Artifact | None:
    """The job's parent or its nearest ancestor of a kind; None where its line has none."""
    if job.parent is None or job.parent.manifest.kind == kind:
        return job.parent
    line = [each for each in job.parent.manifest.history if each.kind == kind]
    if not line:
        return None
    path = find_by_key(job.root, line[-1].key)
    if path is None:
        raise ArtifactError(
            job.root, f"the {kind} that the student was made from is not there", expected=line[-1].key[:12],
            fix=f"flowpose run {job.recipe.name}",
        )  # fmt: skip
    return open_artifact(path, verify=False)


@torch.no_grad()
def write_reference(
    job: Job, draft: Draft, contender: Contender, samples: Samples, own: Own
) -> tuple[Reference, list[Measurement]]:
    """Writes a contender's graphs into a draft; what the manifest says of them, and how near they are.

    Args:
        job, draft: of the student's graphs.
        contender: from `contenders`.
        samples: the pairs that are compared.
        own: the student, whose source graph is shared by all that make the same of a source.

    Raises:
        ArtifactError: the frame graph would be larger than one ONNX file may be.
        ParityError: the graph does not compute what torch computes, or storing the weights shows.
    """
    generator, name = rounded(load_generator(contender.artifact)), contender.name
    _check_size(job, contender, generator)
    key, opset = contender.artifact.manifest.key, job.recipe.export.opset
    shared = same_source(generator, own.generator)
    contexts = own.contexts if shared else goldens.torch_contexts(generator, samples)
    example = {"context": torch.from_numpy(contexts[0]), "keypoints": torch.from_numpy(samples.keypoints[0])}
    grids = tuple(contender.grids.values())
    exact = any_step(generator, example, opset, grids[0] if len(grids) == 1 else None)
    made = _exact_frames(job, contender, generator, exact, contexts, samples)
    source = own.source
    if not shared:
        source = f"{FOLDER}/{name}.source.onnx"
        given = {"source": torch.from_numpy(samples.sources[0])}
        save(_small(exported(Source(generator), given, ["context"], opset)), draft / source, key)
    frame = f"{FOLDER}/{name}.frame.onnx"
    save(_small(exact), draft / frame, key)
    reference = Reference(
        name=name, source=source, frame=frame, context=contexts.shape[1:], grids=dict(contender.grids)
    )
    return reference, _stored(job, draft, reference, samples, made)


def _check_size(job: Job, contender: Contender, generator: Generator) -> None:
    """Raises before anything is traced: a frame graph is whole, and fp32, before its weights are stored in a byte."""
    drawn = job.recipe.model.pose == "skeleton-latent"  # which the encoder looks at, frame by frame
    outside = ["flow.source.", *([] if drawn else ["autoencoder.encoder."])]
    if len(contender.grids) == 1:  # its modulation is a table
        outside.append("flow.time.")
    weights = [each for name, each in generator.named_parameters() if not name.startswith(tuple(outside))]
    size = sum(each.numel() * each.element_size() for each in weights)
    if size > LARGEST:
        raise ArtifactError(
            job.path, f"the {contender.name} to compare with is too large for one ONNX file",
            got=f"{size} bytes of weights", expected=f"<= {LARGEST}", fix="--set export.references=false",
        )  # fmt: skip


def _small(model: onnx.ModelProto) -> onnx.ModelProto:
    return halved(stored_int8(model))


def _exact_frames(
    job: Job, contender: Contender, generator: Generator, model: onnx.ModelProto,
    contexts: NDArray[np.float32], samples: Samples,
) -> dict[str, Images]:  # fmt: skip
    """Row -> frames u8[n, H, W, 3] of the graph before its weights are stored, which are torch's."""
    made: dict[str, Images] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{contender.name}.onnx"
        save(model, path, contender.artifact.manifest.key)
        for row, times in contender.grids.items():
            made[row] = goldens.graph_frames(path, contexts, samples, times=times)
            expected = goldens.torch_frames(generator.on_grid(times, "euler"), contexts, samples)
            parity = goldens.frame_parity(made[row], expected)
            goldens.check_float(Path(row), "fp32", parity, job.recipe.export.tolerance)
    return made


def _stored(
    job: Job, draft: Draft, reference: Reference, samples: Samples, made: Mapping[str, Images]
) -> list[Measurement]:
    """PSNR of each row's pictures from the stored weights to those from the weights themselves."""
    contexts = goldens.graph_contexts(draft / reference.source, samples)
    found = []
    for row, times in reference.grids.items():
        frames = goldens.graph_frames(draft / reference.frame, contexts, samples, times=times)
        value = likeness(frames, made[row])
        if value < STORED:
            raise ParityError(
                f"{job.path} {row}", "weights of a byte change the pictures", got=f"{value:.1f} dB",
                expected=f">= {STORED:g} dB",
            )  # fmt: skip
        found.append(
            job.measured(f"{row}_stored_psnr", value, n=len(samples), split="val", unit="dB", against=row)
        )
    return found


def likeness(a: Sequence[Images] | Images, b: Sequence[Images] | Images) -> float:
    """Mean PSNR of two sets of pictures, dB."""
    return float(np.mean([psnr(x, y) for x, y in zip(a, b, strict=True)]))
