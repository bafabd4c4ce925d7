"""One thread that draws for all sessions: of each the newest pose, of all those that wait as many at once as pay.

A session's seat takes one pose that waits, a newer one in its place, and has at most one frame on its way: until that
one is acknowledged, its pose waits and costs nothing. So a client who is slow draws at its own pace, and the others at
theirs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import BackendError, FlowposeError, ImageError, PoseError
from flowpose.pose import Pose
from flowpose.runtime import BACKENDS, Model, Session
from flowpose.serve.meters import Meters
from flowpose.serve.protocol import Encoding

__all__ = ["Counts", "Drawer", "Drawn", "Look", "Seat"]


@dataclass(frozen=True)
class Look:
    """How frames are encoded: the kind of file, and its quality from 1 to 100."""

    encoding: Encoding = "jpeg"
    quality: int = 90


@dataclass(frozen=True)
class Counts:
    """What became of a seat's poses: put = replaced + made + failed + at most one that waits and one in work."""

    put: int = 0
    replaced: int = 0
    made: int = 0
    failed: int = 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A frame, ready to be sent.

    Attributes:
        number: the client's, of its pose.
        data: a picture file.
        look: its kind.
        size: (height, width).
        arrived: when its pose came, seconds of `time.perf_counter`.
        waited, drawn, encoded: seconds; `drawn` is the whole batch that it was drawn in.
        counts: of its seat.
    """

    number: int
    data: bytes
    look: Look
    size: tuple[int, int]
    arrived: float
    waited: float
    drawn: float
    encoded: float
    counts: Counts


@dataclass(frozen=True, eq=False)
class _Job:
    number: int
    rows: NDArray[np.float32]
    arrived: float


class Seat:
    """A session's place at the drawer. Everything in it is the drawer's, and changed under the drawer's lock.

    Attributes:
        session: whose poses.
        look: how its frames are encoded.
        sent: when the frame on its way was handed over, `perf_counter` seconds; None where there is none.
    """

    def __init__(
        self, session: Session, look: Look, deliver: Callable[[Drawn | FlowposeError, int], None]
    ) -> None:
        self.session, self.look, self.deliver = session, look, deliver
        self.waiting: _Job | None = None
        self.out: int | None = None  # number of the pose in work or of the frame on its way
        self.sent: float | None = None
        self.queued = self.gone = False
        self.put = self.replaced = self.made = self.failed = 0

    @property
    def counts(self) -> Counts:
        """What has become of its poses."""
        return Counts(self.put, self.replaced, self.made, self.failed)


class Drawer:
    """Draws until it is closed, or until the backend fails: then `failure` says why, and every seat is told.

    Args:
        model: whose sessions sit here. Two frames are drawn before anybody is let in.
        meters: what happens is counted here.
    """

    def __init__(self, model: Model, meters: Meters) -> None:
        self._model, self._meters = model, meters
        self._at_once = model.threads if BACKENDS[model.backend].many == "in parallel" else 1
        self._changed = threading.Condition()
        self._ready: deque[Seat] = deque()
        self._seats: set[Seat] = set()
        self._closing = False
        self.failure: FlowposeError | None = None
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="flowpose-encode")
        self._thread = threading.Thread(target=self._work, name="flowpose-draw", daemon=True)
        self._thread.start()

    def sit(self, seat: Seat) -> None:
        """Takes a seat in; BackendError where the backend has failed."""
        with self._changed:
            if self.failure is not None:
                raise self._told()
            self._seats.add(seat)

    def leave(self, seat: Seat) -> None:
        """Frees a seat: its pose is forgotten, and a frame in work goes nowhere."""
        with self._changed:
            seat.gone, seat.waiting = True, None
            self._seats.discard(seat)

    def put(self, seat: Seat, number: int, rows: NDArray[np.float32]) -> None:
        """Gives a seat its newest pose, f32[J,3] in pixels of the frame; one that waits is replaced.

        Raises:
            BackendError: the backend has failed.
        """
        with self._changed:
            if self.failure is not None:
                raise self._told()
            replaced = seat.waiting is not None
            seat.put, seat.replaced = seat.put + 1, seat.replaced + replaced
            seat.waiting = _Job(number, rows, perf_counter())
            self._queue(seat)
        self._meters.posed(replaced)

    def acknowledge(self, seat: Seat, number: int) -> None:
        """Says that the client has taken the frame of that number; another number is one of long ago."""
        with self._changed:
            if seat.out == number and seat.sent is not None:
                seat.out = seat.sent = None
                self._queue(seat)

    def close(self) -> None:
        """Ends the thread; frames in work go nowhere."""
        with self._changed:
            self._closing = True
            for seat in self._seats:
                seat.gone = True
            self._changed.notify_all()
        self._thread.join()
        self._encoders.shutdown()

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _queue(self, seat: Seat) -> None:
        if seat.waiting is not None and seat.out is None and not seat.queued and not seat.gone:
            seat.queued = True
            self._ready.append(seat)
            self._changed.notify_all()

    def _work(self) -> None:
        with _Ending(self):
            while batch := self._take():
                self._draw(batch)

    def _take(self) -> list[tuple[Seat, _Job]]:
        """Those who have waited longest and their poses; none where it is closed."""
        batch: list[tuple[Seat, _Job]] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._ready or self._closing)
                if self._closing:
                    return []
                while self._ready and len(batch) < self._at_once:
                    seat = self._ready.popleft()
                    seat.queued, job, seat.waiting = False, seat.waiting, None
                    if job is not None:  # else it has left
                        batch.append((seat, job))
                        seat.out = job.number
        return batch

    def _draw(self, batch: Sequence[tuple[Seat, _Job]]) -> None:
        started, good = perf_counter(), []
        found: dict[Seat, NDArray[np.uint8] | PoseError] = {}
        for seat, job in batch:
            try:
                good.append((seat, Pose.of(job.rows, self._model.manifest.pose.format, self._model.size)))
            except PoseError as error:
                found[seat] = error
        sessions, poses = [seat.session for seat, _ in good], [pose for _, pose in good]
        made = self._model.infer_batch(sessions, poses) if good else []
        found |= {seat: each for (seat, _), each in zip(good, made, strict=True)}
        seconds = perf_counter() - started
        for seat, job in batch:
            each = found[seat]
            if isinstance(each, PoseError):
                self._hand(seat, job, each)
            else:
                self._encoders.submit(self._encode, seat, job, each, started, seconds)

    def _encode(
        self, seat: Seat, job: _Job, picture: NDArray[np.uint8], started: float, seconds: float
    ) -> None:
        look, begun = seat.look, perf_counter()
        try:
            data = image.encode(picture, f".{look.encoding}", look.quality)
        except ImageError as error:
            self._hand(seat, job, error)
            return
        size = (picture.shape[0], picture.shape[1])
        waited, encoded = started - job.arrived, perf_counter() - begun
        counts = Counts(seat.put, seat.replaced, seat.made + 1, seat.failed)
        frame = Drawn(job.number, data, look, size, job.arrived, waited, seconds, encoded, counts)
        self._meters.drew(frame)
        self._hand(seat, job, frame)

    def _hand(self, seat: Seat, job: _Job, answer: Drawn | FlowposeError) -> None:
        with self._changed:
            if seat.gone:
                return
            failed = isinstance(answer, FlowposeError)
            seat.made, seat.failed, seat.sent = seat.made + (not failed), seat.failed + failed, perf_counter()
            seat.deliver(answer, job.number)

    def fail(self, error: FlowposeError) -> None:
        """Ends all drawing with an error that everybody is told, those who come later too."""
        with self._changed:
            self.failure, seats = error, list(self._seats)
            for seat in seats:
                seat.deliver(self._told(), seat.out or 0)

    def _told(self) -> FlowposeError:
        assert self.failure is not None
        return self.failure.at(self.failure.where)  # an error a client: each is raised in a thread of its own


class _Ending:
    """The drawer's thread as a context: whatever ends it is kept, and everybody told."""

    def __init__(self, drawer: Drawer) -> None:
        self._drawer = drawer

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            own = error if isinstance(error, FlowposeError) else _own(error)
            self._drawer.fail(own)
        return True


def _own(error: BaseException) -> BackendError:
    found = BackendError(
        "server", f"its drawing thread failed ({type(error).__name__})", fix="start it again"
    )
    found.__cause__ = error
    return found
