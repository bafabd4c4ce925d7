"""From a graph to an engine, on the machine that runs it: candidates are checked, timed in turns, and one is chosen."""

from __future__ import annotations

from flowpose.compile.candidates import AUTO, Candidate, Excluded, check_machine
from flowpose.compile.contest import Decision, Entry, Quality, decide
from flowpose.compile.engine import EXCLUDED, Request, compile_graph, engine_config, engine_key
from flowpose.compile.quality import quality_of

__all__ = [
    "AUTO",
    "EXCLUDED",
    "Candidate",
    "Decision",
    "Entry",
    "Excluded",
    "Quality",
    "Request",
    "check_machine",
    "compile_graph",
    "decide",
    "engine_config",
    "engine_key",
    "quality_of",
]
