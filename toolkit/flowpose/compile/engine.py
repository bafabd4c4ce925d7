"""Writing the engine: the graphs, the choice of backend, and everything that was measured to make it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowpose.artifact import Artifact, ancestors, creating, open_artifact, place, stage_key
from flowpose.compile.candidates import Candidate, Excluded, check_target, compare, usable_backends
from flowpose.compile.memory import memory_to_run
from flowpose.errors import ArtifactError
from flowpose.runtime.backend import available_threads
from flowpose.runtime.loading import check_threads
from flowpose.runtime.machine import cpu_model, versions
from flowpose.spec.manifest import Ancestor, GateResult, Manifest, Measurement
from flowpose.spec.target import Target

STAGE = "compile"
EXCLUDED = "excluded "  # begins the card's entry of a backend that was left out


def compile_graph(
    graph: Artifact,
    target: Target,
    out_root: str | Path,
    *,
    threads: int | None = None,
    precision: str | None = None,
    rounds: int = 100,
    warmup: int = 10,
    say: Callable[[str], None] = lambda text: None,
) -> Artifact:
    """Returns the engine for a target, made on this machine; the one that is there already if nothing has
    changed.

    Every backend of the target replays all golden inputs; those that give other outputs are left out, with
    the reason in the engine's card. The others take turns `rounds` times, and the one with the fastest median
    frame is taken. A budget that is exceeded, of latency or of memory, is recorded as a gate that failed.

    Args:
        graph: a graph artifact, or an engine to be made anew (after an upgrade, say).
        target: where it is to run.
        out_root: the engine is made at `<out_root>/<name>/compile-<key>`.
        threads: CPU threads of a run; the target's, else every core of this process.
        precision: fp32, fp16 or int8; without it int8 where graph and target have it, else fp32.
        rounds, warmup: timed and untimed frames of each backend.
        say: is told what was left out and what was taken, a line each.

    Raises:
        ArtifactError: neither a graph nor an engine.
        TargetMismatch: another processor, a precision that target or graph lacks, or no backend that works
            here.
    """
    config = engine_config(graph, target, threads=threads, precision=precision)
    key = stage_key(_parent(graph.manifest), STAGE, config)
    path = place(out_root, graph.manifest.name, STAGE, key)
    if path.exists():
        return open_artifact(path)
    candidates, excluded = compare(
        graph, target, config["precision"], config["threads"], rounds=rounds, warmup=warmup, say=say
    )
    choice = _choice(candidates)
    say(choice)
    fields = _fields(graph, target, config, candidates)
    fields.update(key=key, card={**_card(graph.manifest, excluded), "choice": choice})
    with creating(path, **fields) as draft:
        for name in graph.manifest.run_files():  # references stay with the graph
            shutil.copyfile(graph.file(name), draft / name)
    return open_artifact(path)


def engine_config(
    graph: Artifact, target: Target, *, threads: int | None = None, precision: str | None = None
) -> dict[str, Any]:
    """Returns everything that an engine depends on besides its graph, as its key and its manifest have it.

    Raises:
        ArtifactError, TargetMismatch: as `compile_graph`.
    """
    if graph.manifest.kind not in ("graph", "engine"):
        fix = f"flowpose export {graph.path}"
        raise ArtifactError(
            graph.path, "cannot be compiled", got=graph.manifest.kind, expected="graph", fix=fix
        )
    found = check_target(graph, target, precision)
    backends, _ = usable_backends(target)
    return {
        "target": target.model_dump(mode="json"),
        "precision": found,
        "threads": _threads(threads, target),
        "backends": {name: backend.version for name, backend in backends.items()},
        "cpu": cpu_model(),
    }


def engine_key(
    graph: Artifact, target: Target, *, threads: int | None = None, precision: str | None = None
) -> str:
    """Returns the key that `compile_graph` would give the engine, for finding out whether it is there."""
    config = engine_config(graph, target, threads=threads, precision=precision)
    return stage_key(_parent(graph.manifest), STAGE, config)


def _threads(asked: int | None, target: Target) -> int:
    if asked is not None:
        return check_threads(asked)
    return target.threads if target.threads is not None else available_threads()


def _parent(manifest: Manifest) -> str | None:
    """Key of the graph: an engine that is made anew keeps its parent."""
    return manifest.parent if manifest.kind == "engine" else manifest.key


def _history(graph: Artifact) -> tuple[Ancestor, ...]:
    return graph.manifest.history if graph.manifest.kind == "engine" else ancestors(graph)


def _fields(
    graph: Artifact,
    target: Target,
    config: dict[str, Any],
    candidates: Sequence[Candidate],
) -> dict[str, Any]:
    manifest, best = graph.manifest, candidates[0]
    same = {name: getattr(manifest, name) for name in ("name", "image", "pose", "times", "graphs", "golden")}
    device = f"{config['cpu']}, {config['threads']} threads"
    return {
        **same,
        "kind": "engine",
        "parent": _parent(manifest),
        "stage": config,
        "backend": best.backend,
        "precision": config["precision"],
        "target": config["target"],
        "built_with": versions(),
        "measurements": tuple(m for candidate in candidates for m in _measurements(candidate, device)),
        "gates": _gates(graph, best, target, config),
        "history": _history(graph),
    }


def _measurements(candidate: Candidate, device: str) -> list[Measurement]:
    """What was measured of a backend, which is named with its version after the device."""
    where = {"device": f"{device}, {candidate.backend} {candidate.version}", "set": "golden", "stage": STAGE}
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


def _gates(
    graph: Artifact, best: Candidate, target: Target, config: dict[str, Any]
) -> tuple[GateResult, ...]:
    """The target's budget against what was measured; what has no limit is not measured."""
    found = []
    if target.budget.latency_ms_p95 is not None:
        found.append(_gate("frame_ms_p95", target.budget.latency_ms_p95, best.frame.percentile(95)))
    if target.budget.memory_mb is not None:
        memory = memory_to_run(graph, best.backend, config["precision"], config["threads"])
        found.append(_gate("peak_memory_mb", target.budget.memory_mb, memory))
    return tuple(found)


def _gate(metric: str, limit: float, value: float) -> GateResult:
    return GateResult(stage=STAGE, metric=metric, limit=limit, value=value, passed=value <= limit)


def _card(manifest: Manifest, excluded: Sequence[Excluded]) -> dict[str, str]:
    """The graph's card, and what was left out this time instead of an earlier one."""
    kept = {name: text for name, text in manifest.card.items() if not name.startswith(EXCLUDED)}
    return {**kept, **{EXCLUDED + out.backend: out.reason for out in excluded}}


def _choice(candidates: Sequence[Candidate]) -> str:
    """`openvino: 8.6 ms a frame; onnxruntime: 9.9 ms (1.15 times as long)`."""
    best = candidates[0].frame.percentile(50)
    text = f"{candidates[0].backend}: {best:.2f} ms a frame (median)"
    for other in candidates[1:]:
        median = other.frame.percentile(50)
        text += f"; {other.backend}: {median:.2f} ms ({median / best:.2f} times as long)"
    return text
