"""Runs what tests/train/ranks_at_work.py has, with one process and with two, and writes what became of each process.

    python ranks_driver.py FOLDER

A process that has imported everything forks them; they meet over gloo as those of torchrun do. Prints one JSON
document: scenario -> for each process its exit code and the error it ended with, and how long the scenario took.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard
from train.ranks_at_work import FAULTS, fault, line, taken_over, work

from flowpose.errors import FlowposeError

LIMIT = 240  # seconds of one scenario, on a crowded core


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun tells a process; nothing where there is only one."""
    if world == 1:
        return {}
    return {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def process(do: Callable[[Path], None], folder: Path, told: Mapping[str, str], report: Path) -> None:
    os.environ.update(told)
    torch.set_num_threads(1)
    try:
        do(folder)
    except FlowposeError as error:
        report.write_text(f"{type(error).__name__}: {error}")
        sys.exit(errno.EADDRINUSE if "EADDRINUSE" in str(error.__cause__) else 1)


def together(do: Callable[[Path], None], folder: Path, world: int) -> dict[str, Any]:
    """Exit codes and errors of `world` processes that do the same; again where somebody else took their port."""
    while errno.EADDRINUSE in (found := once(do, folder, world))["exits"]:
        sys.stderr.write("the port was taken meanwhile: once more\n")
    return found


def once(do: Callable[[Path], None], folder: Path, world: int) -> dict[str, Any]:
    """As `together`; the first process meets the others at a port that was free a moment ago."""
    fork, port, begun = multiprocessing.get_context("fork"), free_port(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    reports = [folder / f"error-{world}-{rank}" for rank in range(world)]
    for each in reports:
        each.unlink(missing_ok=True)
    children = [
        fork.Process(target=process, args=(do, folder, environment(rank, world, port), reports[rank]))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    for child in children:
        vain = children[0].exitcode == errno.EADDRINUSE  # nobody will be met
        child.join(0 if vain else max(0.0, LIMIT + begun - time.monotonic()))
        if child.is_alive():
            child.kill()
            child.join()
    return {
        "exits": [each.exitcode for each in children],
        "errors": [each.read_text() if each.is_file() else "" for each in reports],
        "seconds": time.monotonic() - begun,
    }


def main(folder: Path) -> None:
    report = {f"work of {world}": together(work, folder / "work", world) for world in (1, 2)}
    report |= {f"taken over by {world}": together(taken_over, folder / "work", world) for world in (1, 2)}
    report["line"] = together(line, folder / "line", 2)
    report |= {name: together(fault(name), folder / name, 2) for name in FAULTS}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
