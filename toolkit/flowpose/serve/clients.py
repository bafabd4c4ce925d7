"""Who is there: clients, their sessions, and the memory that those take."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpose import samples
from flowpose.errors import FlowposeError
from flowpose.estimating import Estimator, open_estimator
from flowpose.pose import Pose
from flowpose.runtime import Model
from flowpose.runtime.model import tensor_shape
from flowpose.serve.drawer import Drawer, Drawn, Look, Seat
from flowpose.serve.drawing_requests import on_frame
from flowpose.serve.meters import Meters
from flowpose.serve.problems import Refused
from flowpose.serve.settings import MB, Limits

__all__ = ["Client", "House", "Opened"]

Made = TypeVar("Made")
Deliver = Callable[[int, "Drawn | FlowposeError", int], None]
"""(session, frame or error, number of its pose): called on the event loop's thread."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A session that was opened.

    Attributes:
        session: the client's number for it.
        size: (height, width) of the photo.
        own: the photo's own pose in pixels of the frame, in the model's format; None where nobody was found.
    """

    session: int
    size: tuple[int, int]
    own: Pose | None


class Client:
    """One WebSocket: its sessions, and how its frames look. Used on the event loop's thread."""

    def __init__(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self.seats: dict[int, Seat] = {}
        self.look = Look()
        self.gone = False


class House:
    """The model, the thread that draws, and the clients within the limits.

    Methods are called on the event loop's thread; what takes long runs in a thread of its own, one thing at a time.

    Args:
        model: what draws.
        limits: how much of everything.
        meters: what happens is counted here.
    """

    def __init__(self, model: Model, limits: Limits, meters: Meters) -> None:
        self.model, self.limits, self.meters = model, limits, meters
        self._clients: set[Client] = set()
        self._opening = 0  # sessions whose photo is being encoded
        self._queued = 0  # jobs at the worker
        self._context = (
            math.prod(tensor_shape(model.manifest, "frame", "context")) * np.dtype(np.float32).itemsize
        )
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="flowpose-open")
        self._estimator: Estimator = open_estimator("judge")
        self._warm()
        self.drawer = Drawer(model, meters)
        meters.watch(lambda: len(self._clients), lambda: self.sessions, lambda: self.context_bytes)

    @property
    def sessions(self) -> int:
        """How many people are kept, those being encoded too."""
        return sum(len(client.seats) for client in list(self._clients)) + self._opening

    @property
    def context_bytes(self) -> int:
        """Bytes of their contexts."""
        return self.sessions * self._context

    async def work(self, job: Callable[[], Made]) -> Made:
        """Returns what a job of some milliseconds returns; the event loop goes on meanwhile.

        Raises:
            Refused: too many jobs wait already.
        """
        if self._queued >= self.limits.jobs:
            raise Refused(
                503, "server", "is busy", got=f"{self._queued} requests in work", fix="try again later"
            )
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, job)
        finally:
            self._queued -= 1

    def enter(self, deliver: Deliver) -> Client:
        """Returns a new client; Refused where there are too many."""
        if len(self._clients) >= self.limits.clients:
            raise Refused(
                503, "server", "is full", got=f"{len(self._clients)} clients", fix="try again later"
            )
        client = Client(deliver)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Frees a client's sessions."""
        client.gone = True
        for number in list(client.seats):
            self.close(client, number)
        self._clients.discard(client)

    async def open(self, client: Client, number: int, read: Callable[[], NDArray[np.uint8]]) -> Opened:
        """Encodes a person for a client's session; one that has the number already gets the new person.

        Args:
            read: gives the u8[h,w,3] photo; runs in the worker's thread.

        Raises:
            Refused: too many sessions of this client, or too much memory.
            FlowposeError: what reading and encoding the photo raises; the session stays as it was.
        """
        self._check(client, number)
        loop = asyncio.get_running_loop()

        def deliver(answer: Drawn | FlowposeError, pose: int) -> None:
            loop.call_soon_threadsafe(client.deliver, number, answer, pose)

        def make() -> tuple[Seat, Opened]:
            picture = read()
            session = self.model.session(picture)
            return Seat(session, client.look, deliver), Opened(number, session.size, self._own(picture))

        self._opening += 1
        try:
            seat, opened = await self.work(make)
        finally:
            self._opening -= 1
        if not client.gone:
            self.close(client, number)
            self.drawer.sit(seat)
            client.seats[number] = seat
        return opened

    def close(self, client: Client, number: int) -> None:
        """Frees one session; one that is not there is freed already."""
        seat = client.seats.pop(number, None)
        if seat is not None:
            self.drawer.leave(seat)

    def seat(self, client: Client, number: int) -> Seat:
        """Returns a session's seat.

        Raises:
            Refused: no such session, or its frame was not acknowledged for too long.
        """
        seat = client.seats.get(number)
        if seat is None:
            fix = "send open, or a photo, with this number first"
            raise Refused(404, f"session {number}", "is not open", fix=fix)
        sent = seat.sent
        if sent is not None and perf_counter() - sent > self.limits.unanswered:
            got, fix = f"{self.limits.unanswered:g} s", "acknowledge each frame"
            raise Refused(408, f"session {number}", "a frame was not acknowledged", got=got, fix=fix)
        return seat

    def look(self, client: Client, look: Look) -> None:
        """Sets how a client's frames are encoded from now on."""
        client.look = look
        for seat in client.seats.values():
            seat.look = look

    def stop(self) -> None:
        """Ends all threads."""
        self.drawer.close()
        self._worker.shutdown(cancel_futures=True)

    def _check(self, client: Client, number: int) -> None:
        if number not in client.seats and len(client.seats) >= self.limits.sessions:
            got, fix = f"{len(client.seats)} open", "close one, or open with the number of one"
            raise Refused(
                429,
                f"session {number}",
                "too many sessions",
                got=got,
                expected=f"at most {self.limits.sessions}",
                fix=fix,
            )
        needed = self.context_bytes + self._context  # while one replaces another both are there
        if needed > self.limits.context_mb * MB:
            got, expected = f"{needed / MB:.0f} MB", f"at most {self.limits.context_mb:g} MB"
            raise Refused(
                503,
                "server",
                "has no memory for another person",
                got=got,
                expected=expected,
                fix="try again later",
            )

    def _own(self, picture: NDArray[np.uint8]) -> Pose | None:
        found = self._estimator.find(picture)
        return on_frame(self.model, found[0]) if found else None

    def _warm(self) -> None:
        """Draws what the first clients would wait for: a batch opens what the backend needs for it."""
        motion = samples.motion()
        session = self.model.session(motion.source)
        count = max(2, self.model.threads)
        self.model.infer_batch([session] * count, list(motion.poses[:count]))
