"""How much memory TensorRT may take to build an engine, found before it begins: a board that runs out hangs or kills.

Measured by others, "Init builder kernel library: CPU +1799 MiB, GPU +312 MiB" (TensorRT-LLM, issue 489); people run out
on Orin Nano with 4 and 8 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowpose.errors import BackendError
from flowpose.kernel_files import memory_lines
from flowpose.runtime.cuda import Gpu
from flowpose.runtime.machine import MEMINFO

BUILDER_MB, BUILDER_GPU_MB = 1800, 312  # the builder's own, of the CPU and of the GPU
LEAST_MB = 64  # of workspace; with less, kernels are left out that layers may need
BOUNDS_MB = {5_000: 256, 9_000: 1_024}  # memory of the GPU or board up to -> workspace; a 4 and an 8 GB board
LARGEST_MB = 4_096

ADVICE = (
    "more memory for the build: close the desktop (sudo systemctl isolate multi-user.target) and what else runs, "
    "add swap (sudo fallocate -l 8G /swapfile; sudo chmod 600 /swapfile; sudo mkswap /swapfile; "
    "sudo swapon /swapfile), or give a smaller workspace_mb"
)


@dataclass(frozen=True)
class Free:
    """Memory of the CPU that can be had now, MB: without swap, and swap."""

    ram_mb: int
    swap_mb: int


def free_memory(meminfo: Path = MEMINFO) -> Free | None:
    """Returns the CPU's free memory, None where the system does not tell (it is no Linux).

    Raises:
        DeviceError: the file lacks a line.
    """
    if not meminfo.exists():
        return None
    return Free(*memory_lines(meminfo.read_text(), "MemAvailable", "SwapFree"))


def workspace(asked_mb: int | None, gpu: Gpu, free: Free | None) -> int:
    """Returns the workspace to build with, MB: the one asked for, else what board and free memory bear.

    Args:
        asked_mb: MB, or None.
        gpu: the GPU with its free memory.
        free: the CPU's; None is not checked.

    Raises:
        BackendError: there is not enough memory to build with it.
    """
    room = _room(gpu, free)
    bound = next((mb for total, mb in BOUNDS_MB.items() if gpu.total_mb <= total), LARGEST_MB)
    wanted = asked_mb if asked_mb is not None else max(min(bound, room), LEAST_MB)
    if free is not None and free.ram_mb + free.swap_mb < BUILDER_MB:
        got, expected = f"{free.ram_mb} MB and {free.swap_mb} MB of swap", f"{BUILDER_MB} MB"
        raise BackendError(
            "TensorRT", "not enough free memory to build", got=got, expected=expected, fix=ADVICE
        )
    if wanted > room:
        what = f"not enough free memory to build with a workspace of {wanted} MB"
        got, expected = f"room for {max(room, 0)} MB", f"{wanted} MB beside the builder's own"
        raise BackendError("TensorRT", what, got=got, expected=expected, fix=ADVICE)
    return wanted


def _room(gpu: Gpu, free: Free | None) -> int:
    """MB that are left for the workspace. What the GPU uses of a shared memory is never swapped."""
    if not gpu.integrated or free is None:
        return gpu.free_mb - BUILDER_GPU_MB
    # The driver's figure leaves out what the kernel would give back, and is some 100 MB on a board that has gigabytes.
    return min(free.ram_mb, free.ram_mb + free.swap_mb - BUILDER_MB) - BUILDER_GPU_MB
