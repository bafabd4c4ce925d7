"""The backends of a target on this machine, in every precision: which run the graph rightly, and how fast."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpose.artifact import Artifact
from flowpose.compile.building import Options, Say, build
from flowpose.compile.contest import ORDER, Entry
from flowpose.errors import BackendError, MissingDependency, TargetMismatch
from flowpose.runtime.backend import BACKENDS, Backend, open_backend
from flowpose.runtime.executed import Executed
from flowpose.runtime.goldens import Replay, read_goldens
from flowpose.runtime.loading import assemble, precisions
from flowpose.runtime.machine import machine_arch
from flowpose.runtime.model import Model
from flowpose.runtime.timing import Action, Timing, alternate
from flowpose.spec.target import Target, within

AUTO = "auto"  # in place of a precision: measure them all


@dataclass(frozen=True)
class Candidate:
    """A backend and precision that give the recorded outputs here: how close, how fast, and what the backend runs.

    `built` are `source` and `frame` as they were built for it; None where it runs the ONNX files.
    """

    backend: str
    precision: str
    version: str
    replay: Replay
    source: Timing
    frame: Timing
    executed: Executed | None
    built: Mapping[str, Path] | None = None

    @property
    def entry(self) -> Entry:
        """The candidate as the contest sees it."""
        return Entry(self.backend, self.precision, self.frame.percentile(50), self.frame.percentile(95))


@dataclass(frozen=True)
class Workshop:
    """Where and how things are built for the candidates; the folder may go when the engine is written."""

    folder: Path
    options: Options


@dataclass(frozen=True)
class Excluded:
    """A backend of the target, `openvino`, or one in a precision, `int8 openvino`, that cannot be taken, and why."""

    label: str
    reason: str


def check_target(graph: Artifact, target: Target, precision: str) -> tuple[str, ...]:
    """Returns the precisions to measure: the one asked for, or with `auto` all that both graph and target have.

    Raises:
        TargetMismatch: another processor, or a precision that the target or the graph lacks.
    """
    where = f"target {target.name}"
    _check_arch(target)
    have = precisions(graph.manifest)
    expected = " or ".join(target.precisions)
    if precision == AUTO:
        both = tuple(each for each in ORDER if each in have and each in target.precisions)
        if not both:
            raise TargetMismatch(
                where, "runs no precision of the graph", got=", ".join(have), expected=expected
            )
        return both
    if precision not in target.precisions:
        raise TargetMismatch(where, "cannot run the precision", got=precision, expected=expected)
    if precision not in have:
        fix = "a recipe with a quantize stage" if precision == "int8" else f"take precision {have[0]}"
        expected = " or ".join(have)
        raise TargetMismatch(graph.path, "lacks the precision", got=precision, expected=expected, fix=fix)
    return (precision,)


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
        BackendError: the target has a GPU, and only the CPU is usable.
    """
    _check_arch(target)
    usable_backends(target)


def with_backend(target: Target, name: str | None) -> Target:
    """Returns the target with that backend alone; as it is without a name.

    Raises:
        TargetMismatch: the target lacks it.
    """
    if name is None:
        return target
    if name not in target.backends:
        what, expected = "has no such backend", ", ".join(target.backends)
        raise TargetMismatch(f"target {target.name}", what, got=name, expected=expected)
    return target.model_copy(update={"backends": (name,)})


def usable_backends(target: Target) -> tuple[dict[str, Backend], list[Excluded]]:
    """Returns the target's backends that are installed in a version it allows, and those that are not.

    Raises:
        TargetMismatch: none is.
        BackendError: the target has a GPU, and only what runs on the CPU is installed.
    """
    found: dict[str, Backend] = {}
    excluded = []
    for name in target.backends:
        try:
            backend = open_backend(name)
            _check_version(name, backend.version, target)
            _check_gpu(name, backend.identity(), target)
        except (BackendError, MissingDependency, TargetMismatch) as error:
            excluded.append(Excluded(name, str(error)))
        else:
            found[name] = backend
    if not found:
        _refuse(target, excluded)
    _check_no_stand_in(target, found, excluded)
    return found, excluded


def compare(
    graph: Artifact,
    target: Target,
    wanted: Sequence[str],
    workshop: Workshop,
    *,
    rounds: int,
    warmup: int,
    say: Say,
) -> tuple[list[Candidate], list[Excluded]]:
    """Returns every backend in every precision of `wanted`, timed in turns, and what was excluded.

    Raises:
        TargetMismatch: no backend is installed, or none gives the recorded outputs.
        BackendError: the target has a GPU, and only the CPU gives them.
    """
    backends, excluded = usable_backends(target)
    models, replays, failed = _sound(graph, backends, wanted, workshop, say)
    excluded += failed
    for out in excluded:
        say(f"{out.label} is left out: {out.reason}")
    if not models:
        _refuse(target, excluded)
    _check_no_stand_in(target, {model.backend for model in models.values()}, excluded)
    encoding = {label: _encoding(model) for label, model in models.items()}
    drawing = {label: _drawing(model) for label, model in models.items()}
    sources = alternate(encoding, rounds=max(5, rounds // 5), warmup=2)
    frames = alternate(drawing, rounds=rounds, warmup=warmup, settle=1)  # in use a frame follows its own like
    found = [
        Candidate(
            model.backend, model.precision, backends[model.backend].version, replays[label], sources[label],
            frames[label], _executed(model), model.built,
        )
        for label, model in models.items()
    ]  # fmt: skip
    return found, excluded


def _sound(
    graph: Artifact, backends: Mapping[str, Backend], wanted: Sequence[str], workshop: Workshop, say: Say
) -> tuple[dict[str, Model], dict[str, Replay], list[Excluded]]:
    """The models that replay all goldens, as `int8 openvino` -> model, their replays, and those that do not."""
    models: dict[str, Model] = {}
    replays: dict[str, Replay] = {}
    failed = []
    for precision, (name, backend) in itertools.product(wanted, backends.items()):
        label = f"{precision} {name}"
        try:
            built = build(graph, name, precision, workshop.folder, workshop.options, say)
            model = assemble(graph, backend, name, precision, workshop.options.threads, built)
            replays[label] = model.verify()
        except (BackendError, MissingDependency) as error:
            failed.append(Excluded(label, str(error)))
        else:
            models[label] = model
    return models, replays, failed


def _encoding(model: Model) -> Action:
    """Encodes the golden pictures, one a call."""
    pictures = itertools.cycle(read_goldens(model.artifact, model.precision).source)
    return lambda: model.encode_now(next(pictures))


def _drawing(model: Model) -> Action:
    """Draws the golden frames, one a call."""
    goldens = read_goldens(model.artifact, model.precision)
    inputs = itertools.cycle(list(zip(goldens.context, goldens.keypoints, strict=True)))
    return lambda: model.frame_now(*next(inputs))


def _executed(model: Model) -> Executed | None:
    goldens = read_goldens(model.artifact, model.precision)
    return model.executed(goldens.context[0], goldens.keypoints[0])


def _check_version(name: str, version: str, target: Target) -> None:
    allowed = target.software.get(name)
    if allowed is not None and not within(version, allowed):
        fix = f'pip install "{name}{allowed}"'
        raise TargetMismatch(
            f"target {target.name}", f"{name} version", got=version, expected=allowed, fix=fix
        )


def _check_gpu(name: str, identity: Mapping[str, str], target: Target) -> None:
    """Whether a backend runs graphs on the target's GPU: a library may be there without one, or with another.

    Raises:
        TargetMismatch: it is not.
    """
    if identity and target.gpu is not None and identity.get("sm") != target.gpu.sm:
        raise TargetMismatch(
            f"target {target.name}", f"{name} sees another GPU", got=f"SM {identity.get('sm', 'of none')}",
            expected=f"SM {target.gpu.sm}", fix="compile on the device itself, or take --target auto",
        )  # fmt: skip


def _check_no_stand_in(target: Target, left: Collection[str], excluded: Sequence[Excluded]) -> None:
    """Whether a backend for the GPU is left, where the target has both: a CPU is asked for by name, or not taken.

    Raises:
        BackendError: none is; says why each was left out.
    """
    meant = [name for name in target.backends if BACKENDS[name].gpu]
    if target.gpu is None or not meant or any(BACKENDS[name].gpu for name in left):
        return
    cpu = sorted(left)
    raise BackendError(
        f"target {target.name}", f"nothing runs the graph on the GPU here ({_reasons(excluded)})",
        got=f"{', '.join(cpu)} on the CPU", expected=" or ".join(meant),
        fix=f"mend what {meant[0]} lacks; or take the CPU by name: flowpose compile ... --backend {cpu[0]}",
    )  # fmt: skip


def _refuse(target: Target, excluded: Sequence[Excluded]) -> None:
    what = f"no backend can run the graph here ({_reasons(excluded)})"
    raise TargetMismatch(f"target {target.name}", what)


def _reasons(excluded: Sequence[Excluded]) -> str:
    return "; ".join(f"{out.label}: {out.reason}" for out in excluded)
