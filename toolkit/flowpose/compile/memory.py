"""How much memory a graph takes to run, without what else this process holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flowpose.artifact import Artifact
from flowpose.runtime.fresh import run_fresh

PROGRAM = """
import json, sys
from pathlib import Path
from flowpose.artifact import open_artifact
from flowpose.runtime.backend import open_backend
from flowpose.runtime.loading import assemble
from flowpose.runtime.machine import peak_memory_mb
path, backend, precision, threads, built = json.loads(sys.argv[1])
files = built and {part: Path(file) for part, file in built.items()}
assemble(open_artifact(path), open_backend(backend), backend, precision, threads, files).verify(2)
print(json.dumps(peak_memory_mb()))
"""


def memory_to_run(
    graph: Artifact, backend: str, precision: str, threads: int, built: Mapping[str, Path] | None = None
) -> float:
    """Returns the peak resident memory, MB, of a fresh process that loads a graph and makes its first goldens.

    Raises:
        BackendError: that process failed; holds the end of what it said.
    """
    files = {part: str(file) for part, file in built.items()} if built else None
    return float(run_fresh(graph.path, PROGRAM, str(graph.path), backend, precision, threads, files))
