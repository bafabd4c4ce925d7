"""From a graph to an engine, on the machine that runs it: backends are checked, the fastest is taken."""

from __future__ import annotations

from flowpose.compile.candidates import Candidate, Excluded, check_machine
from flowpose.compile.engine import compile_graph, engine_config, engine_key

__all__ = ["Candidate", "Excluded", "check_machine", "compile_graph", "engine_config", "engine_key"]
