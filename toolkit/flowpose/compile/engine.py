"""Writing the engine: the graphs, the choice of backend, and everything that was measured to make it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flowpose.artifact import Artifact, ancestors, creating, open_artifact, place, stage_key
from flowpose.compile.building import Options, builds, identity
from flowpose.compile.candidates import (
    AUTO,
    Candidate,
    Excluded,
    Workshop,
    check_target,
    compare,
    usable_backends,
    with_backend,
)
from flowpose.compile.contest import Decision, Quality, decide
from flowpose.compile.memory import memory_to_run
from flowpose.compile.quality import quality_of
from flowpose.errors import ArtifactError, TargetMismatch
from flowpose.runtime.backend import available_threads
from flowpose.runtime.loading import check_threads, onnx_graph
from flowpose.runtime.machine import cpu_model, versions
from flowpose.spec.costs import COSTS
from flowpose.spec.graphs import is_onnx
from flowpose.spec.manifest import Ancestor, Contestant, GateResult, GraphSpec, Manifest, Measurement
from flowpose.spec.recipe import MARGIN
from flowpose.spec.target import Target

STAGE = "compile"
EXCLUDED = "excluded "  # begins the card's entry of a backend that was left out


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of an engine beside its target.

    Attributes:
        precision: fp32, fp16, int8 or fp8; `auto` measures all that graph and target have.
        backend: the only one of the target's that takes part; None lets all take part. A CPU takes the place of a
            target's GPU only where its backend is asked for by name.
        margin: how many times as fast a reduced precision must be, by the median and by p95; for `auto`.
        threads: CPU threads of a run; None takes the target's, else every core of this process.
        gates: results that reduced precisions are judged by; None takes those that the graph's line keeps.
        workspace_mb, level: for backends that build, see `building.Options`.
    """

    precision: str = AUTO
    backend: str | None = None
    margin: float = MARGIN
    threads: int | None = None
    gates: tuple[GateResult, ...] | None = None
    workspace_mb: int | None = None
    level: int = 3


def compile_graph(
    graph: Artifact,
    target: Target,
    out_root: str | Path,
    request: Request = Request(),
    *,
    rounds: int = 100,
    warmup: int = 10,
    say: Callable[[str], None] = lambda text: None,
) -> Artifact:
    """Returns the engine for a target, made on this machine; the one that is there already if nothing has
    changed.

    What a backend needs built is built first. Every backend of the target replays all golden inputs in every
    precision; those that give other outputs are left out, with the reason in the engine's card. The others take turns
    `rounds` times, and `contest.decide` chooses: the fastest in full precision, or one in a reduced precision that is
    faster by the margin and whose gates hold. All that was measured is in the manifest, as `contest`. A budget that is
    exceeded, of latency or of memory, is recorded as a gate that failed.

    Args:
        graph: a graph artifact, or an engine to be made anew (after an upgrade, say).
        target: where it is to run.
        out_root: the engine is made at `<out_root>/<name>/compile-<key>`.
        request: precision, margin, threads and gates.
        rounds, warmup: timed and untimed frames of each candidate.
        say: is told what was left out and what was taken, a line each.

    Raises:
        ArtifactError: neither a graph nor an engine.
        TargetMismatch: another processor, a precision that target or graph lacks, a backend that the target lacks, or
            none that works here.
        BackendError: the target has a GPU, and only the CPU runs the graph here.
    """
    config = engine_config(graph, target, request)
    key = stage_key(_parent(graph.manifest), STAGE, config)
    path = place(out_root, graph.manifest.name, STAGE, key)
    if path.exists():
        return open_artifact(path)
    wanted = check_target(graph, target, request.precision)
    options = _options(request, config["threads"], Path(out_root), path)
    with TemporaryDirectory() as folder:
        candidates, excluded = compare(
            graph, with_backend(target, request.backend), wanted, Workshop(Path(folder), options),
            rounds=rounds, warmup=warmup, say=say,
        )  # fmt: skip
        decision = _decision(graph, candidates, request)
        say(decision.sentence)
        ordered = _chosen_first(candidates, decision)
        fields = _fields(graph, target, config, ordered, decision)
        fields.update(key=key, card={**_card(graph.manifest, excluded), "choice": decision.sentence})
        with creating(path, **fields) as draft:
            for name in _own_files(graph.manifest):
                shutil.copyfile(graph.file(name), draft / name)
            for file in (ordered[0].built or {}).values():
                shutil.copyfile(file, draft / file.name)
    return open_artifact(path)


def _options(request: Request, threads: int, root: Path, engine: Path) -> Options:
    return Options(
        threads=threads,
        workspace_mb=request.workspace_mb,
        level=request.level,
        cache=root / "cache",
        logs=engine.parent / "logs" / engine.name,
    )


def _onnx_graphs(manifest: Manifest) -> tuple[GraphSpec, ...]:
    """The graphs without what was built for a backend: an engine that is made anew starts from these."""
    return tuple(filter(is_onnx, manifest.graphs))


def _own_files(manifest: Manifest) -> tuple[str, ...]:
    """What an engine takes from its graph: its references stay behind."""
    golden = (manifest.golden.inputs, manifest.golden.outputs) if manifest.golden else ()
    costs = (COSTS,) if COSTS in manifest.files else ()
    return tuple(dict.fromkeys((*(graph.file for graph in _onnx_graphs(manifest)), *golden, *costs)))


def _built_graphs(graph: Artifact, best: Candidate) -> tuple[GraphSpec, ...]:
    """The built files as graphs of the chosen backend."""
    found = []
    for part, file in (best.built or {}).items():
        spec = onnx_graph(graph, part, best.precision, best.backend)
        found.append(spec.model_copy(update={"backend": best.backend, "file": file.name}))
    return tuple(found)


def engine_config(graph: Artifact, target: Target, request: Request = Request()) -> dict[str, Any]:
    """Returns everything that an engine depends on besides its graph, as its key and its manifest have it.

    Raises:
        ArtifactError, TargetMismatch, BackendError: as `compile_graph`.
    """
    if graph.manifest.kind not in ("graph", "engine"):
        fix = f"flowpose export {graph.path}"
        raise ArtifactError(
            graph.path, "cannot be compiled", got=graph.manifest.kind, expected="graph", fix=fix
        )
    wanted = check_target(graph, target, request.precision)
    contest = request.precision == AUTO
    failed = [each for each, quality in _qualities(graph, wanted, request).items() if quality.failed]
    backends, _ = usable_backends(with_backend(target, request.backend))
    identities = {name: identity(backend) for name, backend in backends.items()}
    return {
        "target": target.model_dump(mode="json"),
        "precision": request.precision,
        "margin": _margin(request.margin) if contest else None,
        "disqualified": failed if contest else [],
        "threads": _threads(request.threads, target),
        "backends": {name: backend.version for name, backend in backends.items()},
        "built_for": {name: found for name, found in identities.items() if found},
        "building": {"workspace_mb": request.workspace_mb, "level": request.level},
        "cpu": cpu_model(),
    }


def engine_key(graph: Artifact, target: Target, request: Request = Request()) -> str:
    """Returns the key that `compile_graph` would give the engine, for finding out whether it is there."""
    return stage_key(_parent(graph.manifest), STAGE, engine_config(graph, target, request))


def _margin(margin: float) -> float:
    if not 1 <= margin < math.inf:
        raise TargetMismatch("margin", "not a margin", got=margin, expected="at least 1")
    return margin


def _threads(asked: int | None, target: Target) -> int:
    if asked is not None:
        return check_threads(asked)
    return target.threads if target.threads is not None else available_threads()


def _parent(manifest: Manifest) -> str | None:
    """Key of the graph: an engine that is made anew keeps its parent."""
    return manifest.parent if manifest.kind == "engine" else manifest.key


def _history(graph: Artifact) -> tuple[Ancestor, ...]:
    return graph.manifest.history if graph.manifest.kind == "engine" else ancestors(graph)


def _decision(graph: Artifact, candidates: Sequence[Candidate], request: Request) -> Decision:
    entries = [each.entry for each in candidates]
    qualities = _qualities(graph, [each.precision for each in entries], request)
    return decide(entries, qualities, margin=request.margin, forced=request.precision != AUTO)


def _qualities(graph: Artifact, wanted: Sequence[str], request: Request) -> dict[str, Quality]:
    history = _history(graph)
    return {each: quality_of(history, each, request.gates) for each in wanted}


def _chosen_first(candidates: Sequence[Candidate], decision: Decision) -> list[Candidate]:
    """The chosen one, whose measurements a recipe's gates find first, then the others, fastest first."""
    fastest = sorted(candidates, key=lambda each: each.entry.p50)
    return sorted(fastest, key=lambda each: each.entry != decision.chosen)


def _fields(
    graph: Artifact,
    target: Target,
    config: dict[str, Any],
    candidates: Sequence[Candidate],
    decision: Decision,
) -> dict[str, Any]:
    manifest, best = graph.manifest, candidates[0]
    same = {name: getattr(manifest, name) for name in ("name", "image", "pose", "times", "golden")}
    device = f"{config['cpu']}, {config['threads']} threads"
    return {
        **same,
        "kind": "engine",
        "graphs": (*_onnx_graphs(manifest), *_built_graphs(graph, best)),
        "built_for": config["built_for"].get(best.backend, {}) if builds(best.backend) else {},
        "parent": _parent(manifest),
        "stage": config,
        "backend": best.backend,
        "precision": best.precision,
        "target": config["target"],
        "contest": tuple(_contestant(each, decision) for each in candidates),
        "built_with": versions(),
        "measurements": tuple(m for candidate in candidates for m in _measurements(candidate, device)),
        "gates": _gates(graph, best, target, config["threads"]),
        "history": _history(graph),
    }


def _contestant(candidate: Candidate, decision: Decision) -> Contestant:
    entry, executed = candidate.entry, candidate.executed
    return Contestant(
        **asdict(entry),
        n=len(candidate.frame.ms),
        ratio=entry.p50 / decision.chosen.p50,
        chosen=entry == decision.chosen,
        reason=decision.reasons[entry],
        **asdict(executed) if executed else {},
    )


def _measurements(candidate: Candidate, device: str) -> list[Measurement]:
    """What was measured of a candidate; precision and backend with its version are named after the device."""
    where = {
        "device": f"{device}, {candidate.precision}, {candidate.backend} {candidate.version}",
        "set": "golden", "stage": STAGE,
    }  # fmt: skip
    found = [
        Measurement(
            metric=f"{graph}_ms_p{share}",
            value=timing.percentile(share),
            unit="ms",
            n=len(timing.ms),
            **where,
        )
        for graph, timing in (("source", candidate.source), ("frame", candidate.frame))
        for share in (50, 95)
    ]
    replay = candidate.replay
    for metric, value in (("golden_mean", replay.mean), ("golden_max", replay.max)):
        found.append(
            Measurement(metric=metric, value=value, unit="levels", n=replay.n, against="golden", **where)
        )
    return found


def _gates(graph: Artifact, best: Candidate, target: Target, threads: int) -> tuple[GateResult, ...]:
    """The target's budget against what was measured; what has no limit is not measured."""
    found = []
    if target.budget.latency_ms_p95 is not None:
        found.append(_gate("frame_ms_p95", target.budget.latency_ms_p95, best.frame.percentile(95)))
    if target.budget.memory_mb is not None:
        memory = memory_to_run(graph, best.backend, best.precision, threads, best.built)
        found.append(_gate("peak_memory_mb", target.budget.memory_mb, memory))
    return tuple(found)


def _gate(metric: str, limit: float, value: float) -> GateResult:
    return GateResult(stage=STAGE, metric=metric, limit=limit, value=value, passed=value <= limit)


def _card(manifest: Manifest, excluded: Sequence[Excluded]) -> dict[str, str]:
    """The graph's card, and what was left out this time instead of an earlier one."""
    kept = {name: text for name, text in manifest.card.items() if not name.startswith(EXCLUDED)}
    return {**kept, **{EXCLUDED + out.label: out.reason for out in excluded}}
