"""The peers and flowpose on the same work, in alternating turns on this processor: how many times faster is a frame?

    python benchmarks/peers.py --model PATH --json benchmarks/results/peers-cpu-epyc.json --table docs/peers.md
    python benchmarks/peers.py --stored --json benchmarks/results/peers-cpu-epyc.json --table docs/peers.md
    python benchmarks/peers.py --smoke --json /tmp/peers.json               # micro sizes

Frames of 256 x 176, batch 1, random weights (peers_networks.py says what is run, and what is left out). Each peer in
each backend is a process; workers that fit into --memory sit together with flowpose and take turns (peers_turns.py).
About 25 minutes on two quiet cores, by estimate; half of it is torch.compile and export. Needs 24 GB of memory and
12 GB of disk in the temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import peers_report
from page_tables import put
from peers_backends import BACKENDS
from peers_networks import PEERS
from peers_shapes import SHAPES
from peers_turns import FLOWPOSE, Job, Rules, Seat, once, sit, sittings

from flowpose.errors import ArtifactError, BackendError
from flowpose.runtime.backend import available_threads
from flowpose.runtime.machine import machine
from flowpose.spec.find import shipped

TOOLS = ("torch", "diffusers", "onnx", "onnxscript", "onnxruntime", "openvino")
FLOAT = 4  # bytes
LIBRARIES_GB = 0.8  # of a worker, beside the weights
DISK_GB = 12


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", help="flowpose's: a shipped model or an artifact; default: people-256, or untrained"
    )
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--backends", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    parser.add_argument("--rounds", type=int, default=4, help="turns of each call")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument(
        "--limit", type=float, default=480, help="seconds that a worker or an export may take to be ready"
    )
    parser.add_argument("--whole", type=float, default=20, help="seconds of whole frames a worker")
    parser.add_argument("--memory", type=float, default=16, help="GB that workers may take at once")
    parser.add_argument("--smoke", action="store_true", help="micro sizes")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="page that gets the tables")
    parser.add_argument(
        "--stored", action="store_true", help="measure nothing: the table of what --json holds"
    )
    return parser.parse_args()


def flowpose_job(asked: argparse.Namespace, folder: Path, plan: Mapping[str, Any]) -> Job:
    """flowpose's worker: the model that was asked for, the shipped one, or graphs of the recipe with random weights."""
    recipe = SHAPES[plan["shapes"]].recipe
    model = asked.model or (recipe if recipe in shipped("models") else None)
    if model is None:
        say(f"{recipe} is not shipped: its graphs are made with random weights, in fp32")
        make = {"job": "untrained", "recipe": recipe, "folder": str(folder)}
        model = once("untrained", make, folder, asked.threads, asked.limit)["model"]
    return Job(FLOWPOSE, "", {**plan, "job": "flowpose", "model": model}, LIBRARIES_GB)


def exported(
    asked: argparse.Namespace, folder: Path, plan: Mapping[str, Any], networks: Sequence[str]
) -> dict[str, Any]:
    """Network -> seconds that its ONNX file took; `failed` says why there are not all."""
    found: dict[str, Any] = {}
    for name in networks:
        label = f"export {plan['peer']} {name}"
        try:
            answer = once(
                label, {**plan, "job": "export", "network": name}, folder, asked.threads, asked.limit
            )
        except BackendError as error:
            return {**found, "failed": f"export of {name} {error.what}"}
        found[name] = round(answer["seconds"], 1)
        say(f"{label}: {found[name]} s, {answer['memory_mb']:.0f} MB")
    return found


def peer_jobs(
    asked: argparse.Namespace, folder: Path, plan: Mapping[str, Any], about: dict[str, Any]
) -> Iterator[Job]:
    """A job of every peer and backend; what each peer is, costs, and took to be exported is put into `about`."""
    for peer in asked.peers:
        own = {**plan, "peer": peer}
        exports = any(BACKENDS[name].exported for name in asked.backends)
        count = {
            **own,
            "job": "count",
            "exports": exports and asked.smoke,
        }  # micro exports are no load on its memory
        about[peer] = once(f"count {peer}", count, folder, asked.threads, asked.limit)
        networks = about[peer]["networks"]
        calls = {name: int(each["calls"]) for name, each in networks.items()}
        weights = FLOAT * sum(each["parameters"] for each in networks.values()) / 1e9
        if exports and not asked.smoke:
            about[peer]["export_s"] = exported(asked, folder, own, list(networks))
        for name in asked.backends:
            gb = LIBRARIES_GB + BACKENDS[name].weights * weights
            yield Job(peer, name, {**own, "job": "peer", "backend": name}, gb, calls)


def refused(job: Job, about: Mapping[str, Any]) -> str:
    """Why a job cannot be sat: its files are not there."""
    return (
        str(about[job.name].get("export_s", {}).get("failed", "")) if BACKENDS[job.backend].exported else ""
    )


def measured(asked: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the report after each sitting, of all that has been measured; the last one is whole.

    Raises:
        BackendError: flowpose was not measured, or no peer can be.
        ArtifactError: flowpose's model makes frames of another size.
    """
    plan = {"shapes": "micro" if asked.smoke else "full", "folder": str(folder), "threads": asked.threads}
    about: dict[str, Any] = {}
    load = os.getloadavg()[0]
    first = flowpose_job(asked, folder, plan)
    jobs = list(peer_jobs(asked, folder, plan, about))
    rules = Rules(asked.rounds, asked.whole, asked.limit, asked.threads)
    last = {
        job.name: job.label for job in jobs
    }  # in a peer's last sitting one whole frame is drawn in any case
    seats: list[tuple[int, Seat]] = [
        (0, Seat(job, failed=why)) for job in jobs if (why := refused(job, about))
    ]
    there = [job for job in jobs if not refused(job, about)]
    if not there:
        raise BackendError(
            "peers", "nothing can be measured", got="; ".join(seat.failed for _, seat in seats)
        )
    for number, group in enumerate(sittings(there, asked.memory - first.gb), start=1):
        say(f"sitting {number}: {', '.join(job.label for job in group)}")
        checked = {job.name for job in group if last[job.name] == job.label}
        found = sit([first, *group], folder, rules, checked, say)
        check_flowpose(found[0], SHAPES[plan["shapes"]])
        seats += [(number, seat) for seat in found]
        yield report(asked, seats, about, folder, load)


def check_flowpose(seat: Seat, shapes: Any) -> None:
    """Refuses what is not the same work, or was not measured.

    Raises:
        BackendError: flowpose's worker failed: without it there are no ratios.
        ArtifactError: its frames have another size.
    """
    if seat.failed:
        raise BackendError(FLOWPOSE, seat.failed)
    if seat.about["size"] != [shapes.height, shapes.width]:
        fix = "give a model of this size with --model"
        expected = f"{shapes.height}x{shapes.width}, as the peers"
        got = "{}x{}".format(*seat.about["size"])
        raise ArtifactError(
            seat.about["model"], "frames of another size", got=got, expected=expected, fix=fix
        )


def report(
    asked: argparse.Namespace, seats: Sequence[tuple[int, Seat]], about: Mapping[str, Any], folder: Path,
    load: float,
) -> dict[str, Any]:  # fmt: skip
    """Everything as JSON data."""
    rows = peers_report.peer_rows(seats, {name: each.precision for name, each in BACKENDS.items()})
    order = {name: number for number, name in enumerate((*PEERS, *BACKENDS))}
    rows.sort(key=lambda row: (order[row["peer"]], order[row["backend"]]))
    own = peers_report.flowpose_rows(seats)
    peers_report.agreement(rows, folder)
    ratios = peers_report.add_ratios(rows, own)
    first = next(seat for _, seat in seats if seat.job.name == FLOWPOSE).about
    shapes = SHAPES["micro" if asked.smoke else "full"]
    return {
        "command": "python " + " ".join(sys.argv), "weights": "random", "smoke": asked.smoke, "batch": 1,
        "size": [shapes.height, shapes.width], "threads": asked.threads, "rounds": asked.rounds, **ratios,
        "flowpose": {name: first[name] for name in ("model", "key", "trained", "macs", "memory_mb")},
        "peers": {name: each["about"] for name, each in about.items()},
        "networks": {name: each["networks"] for name, each in about.items()},
        "export_s": {name: each.get("export_s", {}) for name, each in about.items()},
        "machine": asdict(machine()), "load_before": load,
        "versions": {tool: metadata.version(tool) for tool in TOOLS},
        "flowpose_rows": own, "rows": rows,
    }  # fmt: skip


def measure_and_store(asked: argparse.Namespace) -> None:
    """Measures, and writes --json after each sitting.

    Raises:
        ArtifactError: the temporary folder has too little room.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        free = shutil.disk_usage(folder).free / 1e9
        if not asked.smoke and free < DISK_GB:
            fix, room = "set TMPDIR to a larger disk", f"{DISK_GB} GB"
            raise ArtifactError(folder, "too little room", got=f"{free:.0f} GB", expected=room, fix=fix)
        for found in measured(asked, Path(folder)):
            asked.json.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    asked = options()
    if not asked.stored:
        measure_and_store(asked)
    found = json.loads(asked.json.read_text())
    if asked.table:
        put(asked.table, "peers.py", peers_report.table(found))
    sys.stdout.write(peers_report.table(found))


if __name__ == "__main__":
    main()
