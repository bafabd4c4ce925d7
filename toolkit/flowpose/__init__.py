"""flowpose: one photo of a person and a pose in, that person in that pose out.

    model = flowpose.load("people-128")
    frame = model.infer(source, pose)

Importing this loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowpose.errors import FlowposeError
    from flowpose.pose import Pose
    from flowpose.pose_files import read_motion, read_poses
    from flowpose.runtime import Model, Session, infer, load

__version__ = "0.1.0"

__all__ = [
    "FlowposeError",
    "Model",
    "Pose",
    "Session",
    "__version__",
    "infer",
    "load",
    "read_motion",
    "read_poses",
]

_HOME = {
    "FlowposeError": "flowpose.errors",
    "Pose": "flowpose.pose",
    "read_motion": "flowpose.pose_files",
    "read_poses": "flowpose.pose_files",
    "Model": "flowpose.runtime",
    "Session": "flowpose.runtime",
    "infer": "flowpose.runtime",
    "load": "flowpose.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'flowpose' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
