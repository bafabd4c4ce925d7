"""The backends of a target on this machine: which can run the graph rightly, and how fast."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowpose.artifact import Artifact
from flowpose.errors import BackendError, MissingDependency, TargetMismatch
from flowpose.runtime.backend import Backend, open_backend
from flowpose.runtime.goldens import Replay, read_goldens
from flowpose.runtime.loading import assemble, precisions
from flowpose.runtime.machine import machine_arch
from flowpose.runtime.model import Model
from flowpose.runtime.timing import Timing, alternate
from flowpose.spec.target import Target, within


@dataclass(frozen=True)
class Candidate:
    """A backend that gives the recorded outputs here: how close, and how fast."""

    backend: str
    version: str
    replay: Replay
    source: Timing
    frame: Timing


@dataclass(frozen=True)
class Excluded:
    """A backend of the target that cannot be taken here, and why."""

    backend: str
    reason: str


def check_target(graph: Artifact, target: Target, precision: str | None) -> str:
    """Returns the precision to compile for: the one asked for, else int8 where graph and target have it, else
    fp32.

    Raises:
        TargetMismatch: another processor, or a precision that the target or the graph lacks.
    """
    where = f"target {target.name}"
    _check_arch(target)
    have = precisions(graph.manifest)
    both = [p for p in target.precisions if p in have]
    found = precision if precision is not None else "int8" if "int8" in both else "fp32"
    if found not in target.precisions:
        expected = " or ".join(target.precisions)
        raise TargetMismatch(where, "cannot run the precision", got=found, expected=expected)
    if found not in have:
        fix = "a recipe with a quantize stage" if found == "int8" else f"take precision {have[0]}"
        expected = " or ".join(have)
        raise TargetMismatch(graph.path, "lacks the precision", got=found, expected=expected, fix=fix)
    return found


def _check_arch(target: Target) -> None:
    if target.arch not in ("any", machine_arch()):
        fix = "compile on the device itself, or take another target"
        raise TargetMismatch(
            f"target {target.name}", "is another processor", got=machine_arch(), expected=target.arch, fix=fix
        )


def check_machine(target: Target) -> None:
    """Raises when nothing could be compiled for the target on this machine, whatever the graph.

    Raises:
        TargetMismatch: another processor, or no usable backend.
    """
    _check_arch(target)
    usable_backends(target)


def usable_backends(target: Target) -> tuple[dict[str, Backend], list[Excluded]]:
    """Returns the target's backends that are installed in a version it allows, and those that are not.

    Raises:
        TargetMismatch: none is.
    """
    found: dict[str, Backend] = {}
    excluded = []
    for name in target.backends:
        try:
            backend = open_backend(name)
            _check_version(name, backend.version, target)
        except (MissingDependency, TargetMismatch) as error:
            excluded.append(Excluded(name, str(error)))
        else:
            found[name] = backend
    if not found:
        _refuse(target, excluded)
    return found, excluded


def compare(
    graph: Artifact,
    target: Target,
    precision: str,
    threads: int,
    *,
    rounds: int,
    warmup: int,
    say: Callable[[str], None],
) -> tuple[list[Candidate], list[Excluded]]:
    """Returns the candidates, fastest median frame first, and the backends that were excluded.

    Raises:
        TargetMismatch: no backend is installed, or none gives the recorded outputs.
    """
    backends, excluded = usable_backends(target)
    models: dict[str, Model] = {}
    replays: dict[str, Replay] = {}
    for name, backend in backends.items():
        try:
            models[name] = assemble(graph, backend, name, precision, threads)
            replays[name] = models[name].verify()
        except BackendError as error:
            excluded.append(Excluded(name, str(error)))
            models.pop(name, None)
    for out in excluded:
        say(f"{out.backend} is left out: {out.reason}")
    if not models:
        _refuse(target, excluded)
    sources = _time(models, "source", precision, rounds=max(5, rounds // 5), warmup=2)
    frames = _time(models, "frame", precision, rounds=rounds, warmup=warmup)
    found = [
        Candidate(name, backends[name].version, replays[name], sources[name], frames[name]) for name in models
    ]
    return sorted(found, key=lambda candidate: candidate.frame.percentile(50)), excluded


def _time(
    models: dict[str, Model], graph: str, precision: str, *, rounds: int, warmup: int
) -> dict[str, Timing]:
    """Times a graph of every model in turn on the golden inputs."""
    actions = {}
    for name, model in models.items():
        goldens = read_goldens(model.artifact, precision)
        pictures = itertools.cycle(goldens.source)
        inputs = itertools.cycle(list(zip(goldens.context, goldens.keypoints, strict=True)))
        if graph == "source":
            actions[name] = lambda model=model, pictures=pictures: model.encode_now(next(pictures))
        else:
            actions[name] = lambda model=model, inputs=inputs: model.frame_now(*next(inputs))
    return alternate(actions, rounds=rounds, warmup=warmup)


def _check_version(name: str, version: str, target: Target) -> None:
    allowed = target.software.get(name)
    if allowed is not None and not within(version, allowed):
        fix = f'pip install "{name}{allowed}"'
        raise TargetMismatch(
            f"target {target.name}", f"{name} version", got=version, expected=allowed, fix=fix
        )


def _refuse(target: Target, excluded: Sequence[Excluded]) -> None:
    reasons = "; ".join(f"{out.backend}: {out.reason}" for out in excluded)
    raise TargetMismatch(f"target {target.name}", f"no backend can run the graph here ({reasons})")
