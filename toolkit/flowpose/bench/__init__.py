"""Measuring latency and memory: models take turns, percentiles and the machine are named."""

from __future__ import annotations

from flowpose.bench.cold import ColdStart, cold_start, cold_table
from flowpose.bench.measuring import OpenLoop, measure, open_loop
from flowpose.bench.report import Report, StageTiming, ratios, table, to_json
from flowpose.runtime.machine import Machine, machine

__all__ = [
    "ColdStart",
    "Machine",
    "OpenLoop",
    "Report",
    "StageTiming",
    "cold_start",
    "cold_table",
    "machine",
    "measure",
    "open_loop",
    "ratios",
    "table",
    "to_json",
]
