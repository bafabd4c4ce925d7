"""flowpose's side of benchmarks/peers.py: one-step frames of a model, in all that can run it here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.recorded import poses_of, recorded
from flowpose.export.untrained import JOINTS
from flowpose.pose import Pose
from flowpose.predict_command import read_costs
from flowpose.runtime.loading import load, precisions
from flowpose.runtime.model import Model
from flowpose.runtime.timing import Action
from flowpose.spec.find import find

BACKENDS = ("onnxruntime", "openvino")
POSES = 8
UNTRAINED = "untrained"


def frames(name: str, threads: int) -> tuple[dict[str, Any], Mapping[str, Action]]:
    """What the model is, and `precision backend` -> a frame of it; poses take turns.

    Args:
        name: a shipped model, or the path of a graph or engine artifact.
        threads: CPU threads of a frame; an engine has its own.
    """
    artifact = open_artifact(find("models", name))
    models = opened(artifact, threads)
    picture, poses = inputs(artifact)
    actions = {label: frame(model, picture, poses) for label, model in models.items()}
    return about(artifact, models), actions


def frame(model: Model, picture: NDArray[np.uint8], poses: list[Pose]) -> Action:
    """A frame: a pose's keypoints in, a picture u8[H, W, 3] out. The source is encoded once, here."""
    context = model.encode(picture)
    turns = cycle([model.keypoints(pose, model.size) for pose in poses])
    return lambda: model.frame_now(context, next(turns))


def opened(artifact: Artifact, threads: int) -> dict[str, Model]:
    """Label -> model; goldens are replayed where there are any."""
    manifest = artifact.manifest
    if manifest.kind == "engine":
        return {f"{manifest.precision} {manifest.backend}": load(artifact.path)}
    known = manifest.golden is not None
    return {
        f"{precision} {backend}": load(
            artifact.path, backend=backend, precision=precision, threads=threads, verify=known
        )
        for precision in precisions(manifest)
        for backend in BACKENDS
        if precision in ("fp32", "int8")
    }


def inputs(artifact: Artifact) -> tuple[NDArray[np.uint8], list[Pose]]:
    """A picture and poses: golden ones, else drawn by chance, which take as long."""
    manifest = artifact.manifest
    if manifest.golden is not None:
        return recorded(artifact, precisions(manifest)[0])
    image, rng = manifest.image, np.random.default_rng(0)
    picture = rng.integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
    places = rng.uniform(0, 1, (POSES, JOINTS, 2)) * (image.width, image.height)
    keypoints = np.concatenate([places, np.ones_like(places[..., :1])], axis=-1).astype(np.float32)
    return picture, poses_of(manifest, keypoints)


def about(artifact: Artifact, models: Mapping[str, Model]) -> dict[str, Any]:
    """What is compared: the model, and what a frame of it costs in each precision."""
    manifest = artifact.manifest
    counted = {graph.file: graph.macs for graph in read_costs(artifact).graphs}
    frames = {
        str(graph.precision): graph.file
        for graph in manifest.graphs
        if graph.name == "frame" and graph.file in counted
    }
    macs = {label: counted[frames[model.precision]] for label, model in models.items()}
    return {
        "model": manifest.name, "key": manifest.key, "size": [manifest.image.height, manifest.image.width],
        "trained": manifest.stage.get("name") != UNTRAINED, "macs": macs,
    }  # fmt: skip
