"""A server of a model on a free port of this machine, in a thread of its own, and clients for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from flowpose.pose import Pose
from flowpose.runtime import Model
from flowpose.serve import protocol
from flowpose.serve.clients import House
from flowpose.serve.serving import bound, server_of
from flowpose.serve.settings import Limits, Place

SOON = 20.0
CLIENT = httpx.Client(
    verify=False, timeout=SOON
)  # nothing here speaks TLS, and reading certificates takes long


@dataclass(frozen=True)
class Running:
    """Where a server is, and its inside."""

    port: int
    house: House

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, token: str | None = None, **options: Any) -> ClientConnection:
        protocols = [protocol.VERSION] + ([f"bearer.{token}"] if token else [])
        options = {"subprotocols": protocols, "compression": None, "open_timeout": SOON} | options
        return connect(f"ws://127.0.0.1:{self.port}/live", **options)


@contextmanager
def running(model: Model, place: Place | None = None, limits: Limits | None = None) -> Iterator[Running]:
    listening = bound(place or Place(port=0))
    server = server_of(model, place or Place(port=0), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        gate = server.config.app
        yield Running(listening.getsockname()[1], gate.app.state.house)  # type: ignore[union-attr]
    finally:
        server.should_exit = True
        thread.join(SOON)
        listening.close()
        assert not thread.is_alive()


def until(true: Callable[[], bool], seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def truth(model: Model, picture: NDArray[np.uint8], rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The frame of a pose in pixels of the model's frame, drawn without a server."""
    return model.session(picture).infer(Pose.of(rows, None, model.size)).astype(np.int64)


class Guest:
    """A client that opens sessions, sends poses and takes answers one by one."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        assert self.text()["type"] == "hello"

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def text(self) -> dict[str, Any]:
        found = self.socket.recv(SOON)
        assert isinstance(found, str), "a frame where a text was expected"
        return dict(json.loads(found))

    def open(self, session: int = 0, sample: str = "sweater") -> dict[str, Any]:
        self.say(type="open", session=session, sample=sample)
        return self.text()

    def photo(self, data: bytes, session: int = 0) -> dict[str, Any]:
        self.socket.send(protocol.photo(session, data))
        return self.text()

    def pose(self, rows: NDArray[np.float32], number: int, session: int = 0) -> None:
        self.socket.send(protocol.pose(session, number, rows))

    def ack(self, number: int, session: int = 0) -> None:
        self.socket.send(protocol.ack(session, number))

    def frame(self, timeout: float = SOON) -> tuple[protocol.FrameHead, bytes]:
        found = self.socket.recv(timeout)
        assert isinstance(found, bytes), found
        return protocol.read_frame(found)


__all__ = ["CLIENT", "SOON", "Guest", "Running", "running", "truth", "until"]
