"""Load on `flowpose serve`: eight clients for ten minutes, a slow one beside them in every other phase.

    python benchmarks/serve_load.py people-128 --seconds 600 --json benchmarks/results/serve-load.json

The server is a process of its own (`flowpose serve`), the clients are another one. Each client plays the sample motion
at 30 poses a second, acknowledges each frame at once, and counts the time from a pose's sending to its frame. Phases
come in turns: without and with one more client that is slow (it reads a frame, and acknowledges it half a second later)
and vanishes at the phase's end. The first phase of each kind is warm-up and counts for nothing. What must hold: no
error, the server's memory at the end within 2 % of that after warm-up, and the others' 95th percentile with the slow
client less than 10 % above that without it. Latencies are of a closed loop (one frame of a client on its way), so with
more clients than the machine can serve they are the turn round all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from flowpose import samples
from flowpose.artifact import open_artifact
from flowpose.runtime.machine import machine
from flowpose.serve import protocol
from flowpose.spec.find import find
from flowpose.spec.manifest import Manifest

RATE = 30.0  # poses a second of a client
SLOW = 0.5  # s that the slow client keeps a frame
MEMORY, COST = 0.02, 0.10  # what may be lost


@dataclass
class Tally:
    """What happened to the quick clients in one phase."""

    slow: bool
    warm_up: bool
    seconds: float = 0.0
    frames: int = 0
    sent: int = 0
    errors: list[str] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    by_client: dict[int, int] = field(default_factory=dict)
    slow_frames: int = 0
    resident_mb: float = 0.0

    def note(self, client: int, seconds: float, data: bytes) -> None:
        self.latency.append(seconds)
        self.frames, self.by_client[client] = self.frames + 1, self.by_client.get(client, 0) + 1
        if not data.startswith(b"\xff\xd8"):
            self.errors.append(f"client {client}: not a JPEG")

    def row(self) -> dict[str, Any]:
        ms = np.array(self.latency) * 1e3 if self.latency else np.zeros(1)
        figures = {f"p{share}": round(float(np.percentile(ms, share)), 3) for share in (50, 95, 99)}
        kept = {key: value for key, value in asdict(self).items() if key not in ("latency", "errors")}
        return {
            **kept,
            "n": len(self.latency),
            "ms": figures,
            "fps": self.frames / self.seconds,
            "errors": self.errors[:20],
        }


@contextmanager
def served(model: str, threads: int | None) -> Iterator[tuple[int, int]]:
    """Starts `flowpose serve` on a free port; yields its port and process number."""
    command = [sys.executable, "-m", "flowpose.cli", "serve", model, "--port", "0", "--clients", "32"]
    command += ["--threads", str(threads)] if threads else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def rows_of(number: int, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    poses = samples.motion().poses
    turned = poses[number % len(poses) :] + poses[: number % len(poses)]
    return [pose.fit(*size).inside().to("coco-wholebody-133").array() for pose in turned]


class Guest:
    """One client with one session; what happens to it is counted in the tally of the phase."""

    def __init__(self, link: ClientConnection, number: int, size: tuple[int, int], slow: bool) -> None:
        self.link, self.slow, self.number, self.index = link, slow, 0, number
        self.rows, self.person = rows_of(7 * number, size), samples.PEOPLE[number % len(samples.PEOPLE)]
        self.sent: dict[int, float] = {}
        self.tally: Tally | None = None
        self.reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        assert json.loads(await self.link.recv())["type"] == "hello"
        await self.link.send(json.dumps({"type": "open", "session": 0, "sample": self.person}))
        assert json.loads(await self.link.recv())["type"] == "opened"
        self.reader = asyncio.create_task(self.read())

    async def play(self, until: float, tally: Tally) -> None:
        self.tally, due = tally, time.perf_counter()
        while due < until:
            self.number += 1
            self.sent[self.number] = time.perf_counter()
            await self.link.send(protocol.pose(0, self.number, self.rows[self.number % len(self.rows)]))
            tally.sent += not self.slow
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self.reader is None or self.reader.done():
                tally.errors.append(f"client {self.index}: the connection ended")
                return

    async def read(self) -> None:
        async for found in self.link:
            now, tally = time.perf_counter(), self.tally
            assert tally is not None
            if isinstance(found, str):
                tally.errors.append(found)
                continue
            head, data = protocol.read_frame(found)
            begun = self.sent.pop(head.number)
            self.sent = {number: at for number, at in self.sent.items() if number > head.number}
            if self.slow:
                tally.slow_frames += 1
                await asyncio.sleep(SLOW)
            else:
                tally.note(self.index, now - begun, data)
            await self.link.send(protocol.ack(0, head.number))


async def phase(
    address: str, guests: list[Guest], size: tuple[int, int], tally: Tally, seconds: float
) -> None:
    lazy = [await slow_guest(address, size)] if tally.slow else []
    began = time.perf_counter()
    await asyncio.gather(*(guest.play(began + seconds, tally) for guest in [*guests, *lazy]))
    tally.seconds = time.perf_counter() - began
    for guest in lazy:  # gone without a word
        assert guest.reader is not None
        guest.reader.cancel()
        guest.link.transport.abort()


async def slow_guest(address: str, size: tuple[int, int]) -> Guest:
    link = await connect(address, subprotocols=[protocol.VERSION], compression=None)
    guest = Guest(link, 99, size, slow=True)
    await guest.open()
    return guest


async def load(port: int, pid: int, asked: argparse.Namespace) -> list[Tally]:
    address, size = f"ws://127.0.0.1:{port}/live", (asked.height, asked.width)
    links = [
        await connect(address, subprotocols=[protocol.VERSION], compression=None)
        for _ in range(asked.clients)
    ]
    guests = [Guest(link, i, size, slow=False) for i, link in enumerate(links)]
    for guest in guests:
        await guest.open()
    count = max(4, round(asked.seconds / asked.phase))
    tallies = []
    for i in range(count):
        tally = Tally(slow=i % 2 == 1, warm_up=i < 2)
        await phase(address, guests, size, tally, asked.seconds / count)
        tally.resident_mb = resident_mb(pid)
        tallies.append(tally)
        row, kind = tally.row(), "with the slow one" if tally.slow else "alone"
        sys.stdout.write(
            f"phase {i}, {kind}: {row['fps']:.1f} frames/s, {row['ms']} ms, {tally.resident_mb:.1f} MB, "
        )
        sys.stdout.write(f"{len(tally.errors)} errors, {tally.slow_frames} slow frames\n")
        sys.stdout.flush()
    for link in links:
        await link.close()
    return tallies


def judged(tallies: list[Tally]) -> dict[str, Any]:
    counted = [tally for tally in tallies if not tally.warm_up]
    latency = {
        slow: np.concatenate([tally.latency for tally in counted if tally.slow == slow])
        for slow in (False, True)
    }
    p95 = {slow: float(np.percentile(each, 95)) * 1e3 for slow, each in latency.items()}
    pairs = [
        float(np.percentile(two.latency, 95) / np.percentile(one.latency, 95))
        for one, two in zip(counted[::2], counted[1::2], strict=False)
    ]
    after, end = tallies[1].resident_mb, tallies[-1].resident_mb
    errors = sum(len(tally.errors) for tally in tallies)
    found = {
        "errors": errors, "frames": sum(tally.frames for tally in tallies),
        "n": {"alone": len(latency[False]), "slow": len(latency[True])},
        "p95_ms": {"alone": p95[False], "slow": p95[True]}, "cost_of_slow": p95[True] / p95[False] - 1,
        "cost_by_pair": {"p50": float(np.median(pairs)) - 1, "all": [each - 1 for each in pairs]},
        "frames_a_second": {
            "alone": float(np.median([tally.frames / tally.seconds for tally in counted if not tally.slow])),
            "slow": float(np.median([tally.frames / tally.seconds for tally in counted if tally.slow])),
        },
        "memory_mb": {"after_warm_up": after, "end": end, "change": end / after - 1},
    }  # fmt: skip
    found["met"] = {
        "no_error": errors == 0, "memory": abs(end / after - 1) <= MEMORY, "slow": found["cost_of_slow"] < COST,
    }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--phase", type=float, default=30, help="seconds of a phase, about")
    parser.add_argument("--threads", type=int, help="of the server's model")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    manifest = manifest_of(asked.model)
    asked.height, asked.width = manifest.image.height, manifest.image.width
    load_before = os.getloadavg()
    with served(asked.model, asked.threads) as (port, pid):
        tallies = asyncio.run(load(port, pid, asked))
    verdict = judged(tallies)
    sys.stdout.write(json.dumps(verdict, indent=1) + "\n")
    if asked.json:
        report = {
            "model": asked.model, "key": manifest.key, "clients": asked.clients, "seconds": asked.seconds,
            "poses_a_second": RATE, "slow_client_keeps_a_frame_s": SLOW, "machine": asdict(machine()),
            "load_before": load_before, "load_after": os.getloadavg(), **verdict,
            "phases": [tally.row() for tally in tallies],
        }  # fmt: skip
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if all(verdict["met"].values()) else 1)


def manifest_of(model: str) -> Manifest:
    return open_artifact(find("models", model), verify=False).manifest


if __name__ == "__main__":
    main()
