"""The targets that ship with the package, as a table: what `flowpose targets` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from flowpose.spec.find import shipped
from flowpose.spec.reading import load_target
from flowpose.spec.target import Gpu, PowerMode, Target

HEADS = ("target", "SM", "fp16 TFLOP/s", "int8 TOP/s", "GB/s", "GB", "first backend", "starts in")
LEGEND = (
    "Peaks of the GPU, dense, in the mode that a new board starts in and in its fastest one: SMs x operations x"
    " clock, not measured; of a processor what one thread was measured to do. Sources, all modes, backends and software"
    " stand in each file (--json prints them)."
)


def targets() -> list[dict[str, Any]]:
    """Returns every shipped target as JSON data, with the peaks of each mode, operations a second."""
    return [_plain(name, load_target(name), str(path)) for name, path in sorted(shipped("targets").items())]


def _plain(name: str, target: Target, path: str) -> dict[str, Any]:
    about = target.model_dump(mode="json")
    modes = [_mode(target.gpu, mode) for mode in target.gpu.modes] if target.gpu is not None else []
    return {"name": name, "path": path, "about": target.note, "modes": modes, "target": about}


def _mode(gpu: Gpu, mode: PowerMode) -> dict[str, Any]:
    peaks = {each: gpu.peak(mode, each) for each in gpu.ops}
    return {**mode.model_dump(mode="json"), "label": mode.label, "peaks": peaks}


def targets_table() -> Table:
    """Returns the shipped targets as a table for the terminal."""
    made = Table(title="Targets", caption=LEGEND, caption_justify="left", box=None, pad_edge=False)
    for at, head in enumerate(HEADS):
        made.add_column(head, justify="right" if 1 < at < 6 else "left", no_wrap=at == 0)
    for name in sorted(shipped("targets")):
        made.add_row(*_cells(load_target(name)))
    return made


def _cells(target: Target) -> tuple[str, ...]:
    memory = target.gpu.memory_mb if target.gpu is not None and not target.gpu.unified else target.memory_mb
    size, first = f"{memory / 1024:.0f}" if memory else "-", target.backends[0]
    if target.gpu is None:
        peaks = target.cpu.peaks if target.cpu is not None else {}
        speed = f"{target.cpu.bandwidth:.0f}" if target.cpu is not None else "-"
        return (target.name, "-", "-", _tera(peaks.get("int8")), speed, size, first, "-")
    shown = _shown(target.gpu.default, target.gpu.best)
    fp16, int8 = (
        " / ".join(_tera(target.gpu.peak(mode, each)) for mode in shown) for each in ("fp16", "int8")
    )  # fmt: skip
    speeds = " / ".join(dict.fromkeys(f"{mode.bandwidth:.0f}" for mode in shown))
    start = target.gpu.default.label if target.gpu.default is not None else "-"
    return (target.name, target.gpu.sm, fp16, int8, speeds, size, first, start)


def _shown(default: PowerMode | None, best: PowerMode) -> Sequence[PowerMode]:
    return [best] if default is None or default == best else [default, best]


def _tera(rate: float | None) -> str:
    return "-" if rate is None else f"{rate / 1e12:.1f}"
