"""Which of an artifact's graphs a backend is given: one rule for what runs, what is built and what is predicted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from .manifest import GraphSpec

ONNX = ".onnx"


def is_onnx(graph: GraphSpec) -> bool:
    """Whether a graph's file is ONNX, and not what was built of one."""
    return PurePosixPath(graph.file).suffix == ONNX


def graph_for(graphs: Iterable[GraphSpec], name: str, precision: str, backend: str) -> GraphSpec | None:
    """Returns the graph of that name that a backend runs in a precision; None where there is none.

    One that was made for the backend goes before the one that all backends run, and what was built before the ONNX file
    that it was built of. A source may stay in another precision than its frames: in fp16 where it was made for the
    backend, else in fp32.

    Args:
        graphs: those to choose from, all or some of a manifest's.
        name: source or frame.
        precision, backend: of the frames.
    """
    wanted = [(precision, backend), (precision, None)]
    if name == "source":
        wanted += [("fp16", backend), ("fp32", backend), ("fp32", None)]
    fitting = sorted((graph for graph in graphs if graph.name == name), key=is_onnx)
    for pair in wanted:
        for graph in fitting:
            if (graph.precision, graph.backend) == pair:
                return graph
    return None
