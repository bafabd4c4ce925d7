"""Running a model: `load` it, then `infer`, or open a `session` for a stream of poses. Needs no PyTorch."""

from __future__ import annotations

from flowpose.runtime.backend import BACKENDS, Backend, BackendEntry, Graph, default_backend, open_backend
from flowpose.runtime.goldens import TOLERANCES, Replay
from flowpose.runtime.loading import infer, load, load_reference, reference_rows
from flowpose.runtime.model import Model
from flowpose.runtime.session import Session
from flowpose.runtime.stream import Stream, StreamCounts, StreamFrame

__all__ = [
    "BACKENDS",
    "TOLERANCES",
    "Backend",
    "BackendEntry",
    "Graph",
    "Model",
    "Replay",
    "Session",
    "Stream",
    "StreamCounts",
    "StreamFrame",
    "default_backend",
    "infer",
    "load",
    "load_reference",
    "open_backend",
    "reference_rows",
]
