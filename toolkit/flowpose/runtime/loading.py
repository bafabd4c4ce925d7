"""From a name or a directory to a model that runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowpose.artifact import Artifact, open_artifact
from flowpose.errors import ArtifactError, TargetMismatch
from flowpose.runtime.backend import (
    BACKENDS,
    ONNX,
    Backend,
    available_threads,
    default_backend,
    open_backend,
)
from flowpose.runtime.machine import machine_arch, machine_identity
from flowpose.runtime.model import Model, Picture
from flowpose.spec.find import find
from flowpose.spec.graphs import graph_for, is_onnx
from flowpose.spec.manifest import GraphSpec, Manifest, Reference

DEFAULT_MODEL = "people-128"
REPLAYED = 2  # goldens at each load: the least that shows a stale buffer


def load(
    name_or_path: str | Path,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    verify: bool = True,
    keep_mb: float | None = None,
) -> Model:
    """Returns a model that is ready to run.

    Args:
        name_or_path: a shipped model's name, or the directory of a graph or engine artifact.
        backend: a name of BACKENDS. Without it: the engine's own; for a graph openvino on x86_64, onnxruntime
            elsewhere.
        precision: fp32, fp16 or int8. Without it: the engine's own; for a graph int8 if it has it, else fp32.
        threads: CPU threads for one run. Without it: the engine's own; for a graph every core of this
            process.
        verify: check every file's sha256 and replay two golden inputs.
        keep_mb: MB of contexts of sources that the model keeps, 0 for none. Without it 64, or what one needs.

    Raises:
        SpecError: no such model; lists the shipped ones.
        ArtifactError, IntegrityError: not a graph or engine, or a changed file.
        TargetMismatch: a backend, precision or processor that this artifact is not made for.
        MissingDependency: the backend's library is not installed.
        BackendError: the backend cannot open the graphs, or does not compute what was recorded.
        FlowposeError: a keep_mb that is no amount of memory.
    """
    artifact = open_artifact(find("models", name_or_path), verify=verify)
    chosen_backend, chosen_precision = choose(artifact, backend, precision)
    count = threads if threads is not None else _threads(artifact.manifest)
    model = assemble(artifact, open_backend(chosen_backend), chosen_backend, chosen_precision, count)
    if keep_mb is not None:
        model.keep(keep_mb)
    if verify:
        model.verify(REPLAYED)
    return model


def load_reference(
    name_or_path: str | Path,
    row: str,
    *,
    backend: str | None = None,
    threads: int | None = None,
    verify: bool = True,
) -> Model:
    """Returns a model that is kept beside a graph to be compared with, such as its teacher at 16 evaluations.

    Args:
        name_or_path: a shipped model's name, or the directory of a graph artifact.
        row: a row of its references' grids, such as `teacher-16` or `l1`.
        backend, threads: as for `load` of a graph.
        verify: check every file's sha256.

    Raises:
        SpecError: no such model.
        ArtifactError, IntegrityError: it has no such reference, or a file was changed.
        MissingDependency, BackendError: the backend's library is not installed, or cannot open the graphs.
    """
    artifact = open_artifact(find("models", name_or_path), verify=verify)
    found = reference_rows(artifact.manifest)
    if row not in found:
        expected = f"one of {', '.join(found)}" if found else "a graph with references"
        fix = "export the recipe again: flowpose export RECIPE"
        raise ArtifactError(artifact.path, "has no such reference", got=row, expected=expected, fix=fix)
    reference, name = found[row], backend if backend is not None else default_backend()
    count = check_threads(threads if threads is not None else available_threads())
    opened = open_backend(name)
    return Model(
        artifact,
        backend=name,
        precision="fp32",
        threads=count,
        source=opened.open(artifact.file(reference.source), count),
        frame=opened.open(artifact.file(reference.frame), count),
        reference=(reference, row),
    )


def reference_rows(manifest: Manifest) -> dict[str, Reference]:
    """Returns row -> the reference that draws it, in the manifest's order."""
    return {row: each for each in manifest.references for row in each.grids}


def infer(source: Any, pose: Any, *, model: str | Path = DEFAULT_MODEL) -> Picture:
    """Returns u8[H,W,3]: the person of `source` in the pose, by a model that is loaded once and kept.

    Args:
        source, pose: as for `Model.infer`.
        model: as for `load`.
    """
    return _loaded(str(model)).infer(source, pose)


@functools.lru_cache(maxsize=2)
def _loaded(name_or_path: str) -> Model:
    return load(name_or_path)


def assemble(
    artifact: Artifact,
    backend: Backend,
    name: str,
    precision: str,
    threads: int,
    built: Mapping[str, Path] | None = None,
) -> Model:
    """Returns the model of an artifact with its graphs opened by a backend; nothing is replayed.

    `built` are files that were built of its graphs for the backend and are no part of it: `source` and `frame`.

    Raises:
        TargetMismatch: the backend needs built files and there are none, or they were built for another machine.
    """
    check_threads(threads)
    if built is None:
        files = {
            each: artifact.file(_found(artifact, artifact.manifest.graphs, each, precision, name).file)
            for each in ("source", "frame")
        }
        _check_built(artifact, backend, name, files.values())
    else:
        files = dict(built)
    return Model(
        artifact,
        backend=name,
        precision=precision,
        threads=threads,
        source=backend.open(files["source"], threads),
        frame=backend.open(files["frame"], threads),
        built=built,
    )


def _check_built(artifact: Artifact, backend: Backend, name: str, files: Iterable[Path]) -> None:
    """Whether the files are what the backend opens, and were built for what is here."""
    suffix = BACKENDS[name].suffix if name in BACKENDS else ONNX
    if suffix == ONNX:
        return
    fix = f"{_compile(artifact)} --target auto"
    if any(file.suffix != suffix for file in files):
        what = f"{name} runs what was compiled for it"
        raise TargetMismatch(artifact.path, what, got="a graph", expected="an engine", fix=fix)
    here = {**machine_identity(), **backend.identity()}
    for field, was in artifact.manifest.built_for.items():
        if here.get(field) != was:
            what = f"the engine was built for another {field.replace('_', ' ')}"
            raise TargetMismatch(artifact.path, what, got=here.get(field, "none"), expected=was, fix=fix)


def check_threads(threads: int) -> int:
    """Returns a number of CPU threads as it is; TargetMismatch when it is less than 1."""
    if threads < 1:
        raise TargetMismatch("threads", "not a number of threads", got=threads, expected="at least 1")
    return threads


def precisions(manifest: Manifest) -> tuple[str, ...]:
    """Returns the precisions that the artifact's frame graph has."""
    return tuple(dict.fromkeys(graph.precision for graph in manifest.graphs if graph.name == "frame"))


def choose(artifact: Artifact, backend: str | None, precision: str | None) -> tuple[str, str]:
    """Returns the backend and precision to run an artifact with, as `load` documents.

    Raises:
        ArtifactError: the artifact has no graphs.
        TargetMismatch: it was compiled for another processor, backend or precision, or lacks the precision.
    """
    manifest = artifact.manifest
    have = precisions(manifest)
    if manifest.kind not in ("graph", "engine") or not have:
        fix = f"flowpose export {artifact.path}"
        raise ArtifactError(
            artifact.path, "cannot be run", got=manifest.kind, expected="graph or engine", fix=fix
        )
    if manifest.kind == "engine":
        _check_engine(artifact, backend, precision)
        return str(manifest.backend), str(manifest.precision)
    found = precision if precision is not None else "int8" if "int8" in have else "fp32"
    if found not in have:
        fix = f"precision='{have[0]}'"
        raise TargetMismatch(
            artifact.path, "lacks the precision", got=found, expected=" or ".join(have), fix=fix
        )
    return backend if backend is not None else default_backend(), found


def _check_engine(artifact: Artifact, backend: str | None, precision: str | None) -> None:
    manifest = artifact.manifest
    arch = (manifest.target or {}).get("arch", "any")
    if arch not in ("any", machine_arch()):
        what, fix = "the engine is for another processor", f"{_compile(artifact)} --target auto"
        raise TargetMismatch(artifact.path, what, got=machine_arch(), expected=arch, fix=fix)
    for what, asked, own, mend in (
        ("backend", backend, manifest.backend, _other_backend),
        ("precision", precision, manifest.precision, _other_precision),
    ):
        if asked is not None and asked != own:
            raise TargetMismatch(
                artifact.path,
                f"the engine has another {what}",
                got=asked,
                expected=own,
                fix=mend(artifact, asked),
            )


def _compile(artifact: Artifact) -> str:
    return f"flowpose compile {artifact.path}"


def _other_backend(artifact: Artifact, asked: str) -> str:
    if asked not in BACKENDS:
        return f"backend='{artifact.manifest.backend}'"
    return f"{_compile(artifact)} --target FILE.yaml (a target file with backends: [{asked}])"


def _other_precision(artifact: Artifact, asked: str) -> str:
    if asked not in precisions(artifact.manifest):
        return f"precision='{artifact.manifest.precision}'"
    return f"{_compile(artifact)} --target auto --precision {asked}"


def onnx_graph(artifact: Artifact, name: str, precision: str, backend: str) -> GraphSpec:
    """Returns the ONNX graph of that name that files for a backend are built of, see `graph_for`.

    Raises:
        ArtifactError: there is none.
    """
    return _found(artifact, filter(is_onnx, artifact.manifest.graphs), name, precision, backend)


def _found(
    artifact: Artifact, graphs: Iterable[GraphSpec], name: str, precision: str, backend: str
) -> GraphSpec:
    graph = graph_for(graphs, name, precision, backend)
    if graph is None:
        expected = precision if name == "frame" else f"{precision} or fp32"
        raise ArtifactError(
            artifact.path, f"has no {name} graph for {backend}", expected=f"{name} in {expected}"
        )
    return graph


def _threads(manifest: Manifest) -> int:
    threads = manifest.stage.get("threads") if manifest.kind == "engine" else None
    return threads if isinstance(threads, int) else available_threads()
