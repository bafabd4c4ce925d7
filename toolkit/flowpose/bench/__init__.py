"""Measuring latency and memory: models take turns, percentiles and the machine are named, nothing is trimmed."""

from __future__ import annotations

from flowpose.bench.closed_loops import MULTI_STREAM, SINGLE_STREAM, closed_loop
from flowpose.bench.cold import ColdStart, cold_start, cold_starts, cold_table
from flowpose.bench.document import BenchDocument
from flowpose.bench.frame_parts import frame_parts
from flowpose.bench.measuring import measure
from flowpose.bench.open_loops import StreamLane, Waiting, open_loop
from flowpose.bench.report import Report, StageTiming, ratios, table, to_json
from flowpose.bench.verdict import Evidence, judge
from flowpose.bench.watching import Watch
from flowpose.runtime.machine import Machine, machine

__all__ = [
    "MULTI_STREAM",
    "SINGLE_STREAM",
    "BenchDocument",
    "ColdStart",
    "Evidence",
    "Machine",
    "Report",
    "StageTiming",
    "StreamLane",
    "Waiting",
    "Watch",
    "closed_loop",
    "cold_start",
    "cold_starts",
    "cold_table",
    "frame_parts",
    "judge",
    "machine",
    "measure",
    "open_loop",
    "ratios",
    "table",
    "to_json",
]
