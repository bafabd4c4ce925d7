"""A process of benchmarks/peers.py: it prepares what one backend runs of one peer, then runs what it is told to.

    python benchmarks/peers_worker.py '{"job": "peer", "peer": "sd-turbo-shape", "backend": "eager", ...}'

Jobs that only leave something (`count`, `export`, `untrained`) answer one line of JSON and end. The others answer a
line when they are ready, then one for each line that they read: `{"call": label, "warmup": n, "times": n}` is
answered by `{"ms": [...]}`. Between two lines a worker sleeps. What libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from flowpose.runtime.machine import peak_memory_mb
from flowpose.runtime.timing import Action, alternate

WHOLE = "whole"
"""The label of a peer's whole frame; all others are its networks'."""

Plan = Mapping[str, Any]
Answer = Callable[[Mapping[str, Any]], None]


def made(plan: Plan) -> Any:
    """The peer that a plan names."""
    from peers_networks import PEERS
    from peers_shapes import SHAPES

    return PEERS[plan["peer"]](SHAPES[plan["shapes"]])


def file_of(plan: Plan, network: str) -> Path:
    """Where the exported network of a peer lies."""
    return Path(plan["folder"]) / f"{plan['peer']}.{network}.onnx"


def count(plan: Plan, answer: Answer) -> None:
    """What every network of a peer costs, and what the peer is; with `exports` it writes them all as ONNX, too."""
    from peers_backends import counted

    peer = made(plan)
    costs = {name: counted(each) for name, each in peer.networks.items()}
    seconds = {name: round(written(plan, name), 1) for name in costs if plan["exports"]}
    answer({"about": peer.about, "networks": costs, "export_s": seconds})


def export(plan: Plan, answer: Answer) -> None:
    """Writes one network of a peer as ONNX."""
    answer({"seconds": written(plan, plan["network"]), "memory_mb": peak_memory_mb()})


def written(plan: Plan, network: str) -> float:
    """Seconds that writing a network as ONNX took."""
    from peers_backends import export as write

    begun = time.perf_counter()
    write(made(plan).networks[network], file_of(plan, network))
    return time.perf_counter() - begun


def untrained(plan: Plan, answer: Answer) -> None:
    """Makes the graphs of a recipe with random weights."""
    from flowpose.export.untrained import untrained_graphs
    from flowpose.spec.reading import load_recipe

    answer(
        {"model": str(untrained_graphs(load_recipe(plan["recipe"]), Path(plan["folder"]) / "flowpose").path)}
    )


def peer(plan: Plan, answer: Answer) -> None:
    """Serves the networks and the whole frame of a peer in one backend."""
    from peers_backends import BACKENDS

    own, backend = made(plan), BACKENDS[plan["backend"]]
    opened, prepared = {}, {}
    for name, network in own.networks.items():
        if not backend.exported:
            network.make()  # drawing random weights is no preparation
        begun = time.perf_counter()
        opened[name] = backend.open(network, file_of(plan, name), plan["threads"])
        result = opened[name](network.inputs)  # a network is compiled when it runs first
        prepared[name] = time.perf_counter() - begun
        keep(plan, name, result)

    def run(name: str, **changed: NDArray[Any]) -> NDArray[Any]:
        return opened[name]({**own.networks[name].inputs, **changed})

    actions: dict[str, Action] = {name: lambda name=name: run(name) for name in opened}
    serve({**actions, WHOLE: lambda: own.frame(run)}, {"prepare_s": prepared}, answer)


def keep(plan: Plan, network: str, result: NDArray[Any]) -> None:
    """Writes a result for the comparison of backends."""
    if not np.isfinite(result).all():
        raise ValueError(f"{plan['peer']} {network}: numbers that are not finite")
    np.save(Path(plan["folder"]) / f"{plan['peer']}.{network}.{plan['backend']}.npy", result)


def flowpose(plan: Plan, answer: Answer) -> None:
    """Serves the frame graph of a model in every precision and backend that it has: keypoints to picture."""
    from peers_flowpose import frames

    about, actions = frames(plan["model"], plan["threads"])
    serve(actions, about, answer)


def serve(actions: Mapping[str, Action], about: Mapping[str, Any], answer: Answer) -> None:
    """Says that all is ready and how long a call of each takes, then answers lines until there are none."""
    first = {label: timed(action, 1, 1)[0] for label, action in actions.items() if label != WHOLE}
    answer({**about, "first_ms": first, "memory_mb": peak_memory_mb()})
    for line in sys.stdin:
        asked = json.loads(line)
        answer({"ms": timed(actions[asked["call"]], asked["warmup"], asked["times"])})


def timed(action: Action, warmup: int, times: int) -> list[float]:
    """Milliseconds of so many calls, one after the other."""
    return list(alternate({"": action}, rounds=times, warmup=warmup)[""].ms)


JOBS: Mapping[str, Callable[[Plan, Answer], None]] = {
    "count": count, "export": export, "untrained": untrained, "peer": peer, "flowpose": flowpose,
}  # fmt: skip


def main() -> None:
    plan = json.loads(sys.argv[1])
    lines: TextIO = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer

    def answer(message: Mapping[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    JOBS[plan["job"]](plan, answer)


if __name__ == "__main__":
    main()
