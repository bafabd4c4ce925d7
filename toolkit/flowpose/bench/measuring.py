"""Timing models against each other, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from flowpose import image
from flowpose.bench.report import Report, StageTiming
from flowpose.errors import FlowposeError
from flowpose.runtime.machine import machine, peak_memory_mb
from flowpose.runtime.model import Model
from flowpose.runtime.timing import Action, alternate

STAGES = ("source", "frame", "session", "infer")


def measure(
    models: Mapping[str, Model],
    source: Any,
    poses: Sequence[Any],
    *,
    n: int = 200,
    warmup: int = 20,
    others: Mapping[str, Mapping[str, Action]] | None = None,
    stages: Sequence[str] = STAGES,
) -> Report:
    """Returns how long each stage of each model takes; in a stage the models take turns.

    Args:
        models: label -> model.
        source: u8[h,w,3] or a picture file.
        poses: used one after the other, round and round.
        n: timed runs of each stage of each model.
        warmup: untimed runs before.
        others: label -> stage -> what to time beside the models (a teacher in PyTorch, say).
        stages: of source, frame, session, infer.

    Raises:
        FlowposeError: no poses, fewer than one run, an unknown stage, or what the models raise.
    """
    _check(poses, n, stages)
    actions = {label: _actions(model, source, poses) for label, model in models.items()}
    actions.update({label: dict(found) for label, found in (others or {}).items()})
    timed = []
    for stage in stages:
        turns = {label: found[stage] for label, found in actions.items() if stage in found}
        for label, timing in alternate(turns, rounds=n, warmup=warmup).items():
            timed.append(StageTiming(label, stage, timing))
    about = {label: _about(model) for label, model in models.items()}
    return Report(machine(), about, tuple(timed), peak_memory_mb(), warmup)


def _actions(model: Model, source: Any, poses: Sequence[Any]) -> dict[str, Action]:
    """What each stage does, one run at a time."""
    picture = image.read(source) if not hasattr(source, "shape") else image.check(source, "source")
    fitted = image.fit(picture, *model.size)
    session = model.session(picture)
    keypoints = cycle([model.keypoints(pose, session.size) for pose in poses])
    streamed, single = cycle(poses), cycle(poses)

    def infer() -> object:
        model.forget()
        return model.infer(picture, next(single))

    return {
        "source": lambda: model.encode_now(fitted),
        "frame": lambda: model.frame_now(session.context, next(keypoints)),
        "session": lambda: session.infer(next(streamed)),
        "infer": infer,
    }


def _about(model: Model) -> dict[str, Any]:
    height, width = model.size
    return {
        "name": model.manifest.name,
        "backend": model.backend,
        "precision": model.precision,
        "threads": model.threads,
        "size": [height, width],
        "path": str(model.path),
        "key": model.manifest.key,
    }


def _check(poses: Sequence[Any], n: int, stages: Sequence[str]) -> None:
    if not len(poses):
        raise FlowposeError("poses", "nothing to measure", got="no poses", expected="at least one")
    if n < 1:
        raise FlowposeError("n", "nothing to measure", got=n, expected="at least 1")
    for stage in stages:
        if stage not in STAGES:
            raise FlowposeError("stages", "unknown stage", got=f"'{stage}'", expected=", ".join(STAGES))
