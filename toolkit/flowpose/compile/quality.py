"""What a graph's line says of a precision: its gates, and how much of the graph is in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowpose.compile.contest import ORDER, Quality
from flowpose.spec.manifest import Ancestor, GateResult

FULL = ORDER[0]
EIGHT_BITS = ("fp8", "int8")  # stage quantize makes one of these, and its gates are about that one
COUNTS = ("{}_share", "{}_layers", "float_layers", "float_islands", "boundaries")
"""Ends of the names of what export counted in the graph; `{}` is the precision."""


def quality_of(
    history: Sequence[Ancestor], precision: str, gates: Sequence[GateResult] | None = None
) -> Quality:
    """Returns what is known of a precision from a graph and its ancestors.

    A failed gate speaks against it whether it was waived or not: a waiver lets a run go on, and whoever wants the
    precision nevertheless asks for it by name.

    Args:
        history: oldest first, the graph itself last.
        precision: fp32 is what gates compare with, and has none.
        gates: results to judge by; None takes those that the history keeps.
    """
    if precision == FULL:
        return Quality()
    known = gates if gates is not None else [gate for each in history for gate in each.gates]
    own = [gate for gate in known if _is_about(gate, precision)]
    failed = ", ".join(_told(gate) for gate in own if not gate.passed) or None
    held = tuple(_told(gate) for gate in own if gate.passed)
    return Quality(failed, (*held, *(() if own else ("no gate",)), *_counted(history, precision)))


def _is_about(gate: GateResult, precision: str) -> bool:
    """Gates of the quantize stage are, and those on what export measures of the precision, as `int8_parity_mean`."""
    metric = gate.metric.rpartition(".")[2]
    return (gate.stage == "quantize" and precision in EIGHT_BITS) or metric.startswith(f"{precision}_")


def _told(gate: GateResult) -> str:
    verdict = "holds" if gate.passed else "failed"
    waived = f", waived: {gate.waived}" if gate.waived else ""
    return f"gate {gate.metric} {verdict} ({gate.value:.4g}, limit {gate.limit:.4g}{waived})"


def _counted(history: Sequence[Ancestor], precision: str) -> Iterator[str]:
    """`in the graph: int8 share 0.78, float islands 11`; nothing for graphs whose export did not count."""
    found = []
    others = tuple(f"{each}_" for each in ORDER if each != precision)
    rows = [m for each in reversed(history) for m in each.measurements if not m.metric.startswith(others)]
    for name in (each.format(precision) for each in COUNTS if precision in EIGHT_BITS):
        values = [m.value for m in rows if m.metric.endswith(name)]
        found += [f"{name.replace('_', ' ')} {value:.4g}" for value in values[:1]]
    if found:
        yield f"in the graph: {', '.join(found)}"
