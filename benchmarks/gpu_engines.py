"""The shipped model compiled for the machine at hand: every backend that runs here, in turns, goldens replayed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_training import say

from flowpose.artifact import open_artifact
from flowpose.compile import Request, compile_graph
from flowpose.spec.find import find
from flowpose.targeting import find_target

MODEL = "people-128"


def engine_of(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """What compiling MODEL for this machine found: the contest, what was left out and why, what it was built for."""
    target = find_target("auto")
    request = Request(threads=1) if smoke else Request()
    if smoke:  # the way is the same, and nothing is built for minutes
        target = target.model_copy(update={"backends": ("onnxruntime",)})
        request = replace(request, precision="fp32")
    graph = open_artifact(find("models", MODEL))
    engine = compile_graph(
        graph, target, folder, request, rounds=3 if smoke else 300, warmup=1 if smoke else 30, say=say
    )
    manifest = engine.manifest
    kept = ("backend", "precision", "built_for", "built_with", "contest", "measurements", "card")
    plain = manifest.model_dump(mode="json", include=set(kept))
    return {"model": MODEL, "target": target.name, **plain}
