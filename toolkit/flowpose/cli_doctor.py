"""The command `flowpose doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowpose.cli_options import AsJson, put, say

if TYPE_CHECKING:
    from flowpose.device.advice import Advice
    from flowpose.device.facts import Device
    from flowpose.device.kernels import KernelCheck
    from flowpose.doctoring import Report

Build = Annotated[
    bool,
    typer.Option("--build", help="build a small graph for backends that run no ONNX files, and run it; slow"),
]
STATE = {True: "runs", False: "does not run", None: "not run"}


def doctor(build: Build = False, as_json: AsJson = False) -> None:
    """This machine: what it is, which backends compute on it rightly, and what would make it faster."""
    from flowpose.doctoring import examine

    report = examine(build=build, say=say)
    put(report.plain(), as_json, lambda: _show(report), "flowpose run tiny --target auto")
    if not report.runs:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    console = Console()
    console.print(machine_table(report.device, report.versions), kernel_table(report.kernels), sep="\n")
    for line in advice_lines(report.advice):
        console.print(line, soft_wrap=True)


def machine_table(device: Device, versions: Mapping[str, str]) -> Table:
    """Returns what the machine is, a fact a line; what is not told has no line."""
    table = Table(title="This machine", show_header=False, box=None, title_justify="left")
    for name, value in {**_facts(device), **versions}.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _facts(device: Device) -> dict[str, str]:
    cpu, memory, mode, jetpack = device.cpu, device.memory, device.power_mode, device.jetpack
    return {
        "kind": device.kind,
        "name": device.name,
        "module": device.module or "",
        "processor": f"{cpu.name or device.name}, {cpu.allowed} of {cpu.cores} cores" if cpu else "",
        "governor": (cpu.governor or "") if cpu else "",
        "compute capability": device.sm or "",
        "SMs switched on": str(device.sms or ""),
        "power mode": f"{mode.id} {mode.name}" if mode else "",
        **_loads(device),
        "GPU memory": _of(device.gpu_memory_free_mb, device.gpu_memory_total_mb),
        "memory": _of(memory.free_mb, memory.total_mb) if memory else "",
        "swap": _of(memory.swap_free_mb, memory.swap_total_mb) if memory and memory.swap_total_mb else "",
        **_sensors(device),
        "driver": device.driver or "",
        "L4T": device.l4t or "",
        "JetPack": f"{jetpack.name} (TensorRT {jetpack.tensorrt}, CUDA {jetpack.cuda})" if jetpack else "",
    }


def _loads(device: Device) -> dict[str, str]:
    """Clocks and loads: of the kernel or the driver, else of tegrastats, which alone knows the loads."""
    stats = device.stats
    clock = f"{device.gpu_mhz} of {device.gpu_max_mhz} MHz" if device.gpu_mhz is not None else ""
    if stats is None:
        return {"GPU clock": clock}
    memory = (f"{stats.emc_mhz} MHz" if stats.emc_mhz is not None else "", _percent(stats.emc_load))
    return {
        "GPU clock": clock or (f"{max(stats.gpu_mhz)} MHz" if stats.gpu_mhz else ""),
        "GPU load": _percent(stats.gpu_load),
        "memory clock": ", ".join(filter(None, memory)),
    }


def _sensors(device: Device) -> dict[str, str]:
    """Temperatures and power: of the kernel or the driver, else of tegrastats."""
    stats = device.stats
    rails = {name: rail.now_mw / 1000 for name, rail in stats.rails.items()} if stats else {}
    heat = device.temperatures or (stats.temperatures if stats else {})
    return {
        "temperature": ", ".join(f"{name} {value:.0f} C" for name, value in heat.items()),
        "power": ", ".join(f"{name} {value:.1f} W" for name, value in (device.power or rails).items()),
    }


def _percent(load: int | None) -> str:
    return "" if load is None else f"{load} % busy"


def _of(free: int | None, total: int | None) -> str:
    return "" if free is None or total is None else f"{free:,} of {total:,} MB free"


def kernel_table(kernels: Sequence[KernelCheck]) -> Table:
    """Returns whether each backend computes a small graph rightly."""
    table = Table(title="Backends", box=None, title_justify="left")
    table.add_column("backend", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("version, or what is wrong")
    for kernel in kernels:
        took = "-" if kernel.seconds is None else f"{kernel.seconds * 1000:.1f}"
        table.add_row(kernel.backend, STATE[kernel.ok], took, Text(kernel.text))
    return table


def advice_lines(advice: Sequence[Advice]) -> list[Text]:
    """Returns the advice, a sentence a line and its command below it, unbroken, so that it can be copied."""
    lines: list[Text] = []
    for each in advice:
        lines.append(Text(f"* {each.text}"))
        if each.command:
            lines.append(Text(f"    {each.command}", style="bold"))
    return lines or [Text("Nothing to advise.")]
