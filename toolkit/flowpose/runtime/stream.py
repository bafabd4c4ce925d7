"""A live stream: poses go in whenever they come, the newest one is drawn, the newest picture comes out.

A camera or a network gives poses at its own pace. Whoever draws them all, one after the other, falls behind as soon as
one frame takes longer than the time between two poses, and never catches up. Here a pose that waits is replaced by the
next one, and a picture that nobody has taken by a newer one: what is shown is as new as the machine allows.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import BackendError, FlowposeError

Draw = Callable[..., NDArray[np.uint8]]
"""(pose, format=...) -> u8[H,W,3], as `Session.infer`."""

PATIENCE = 5.0  # s; for a frame in work when the interpreter ends


@dataclass(frozen=True, eq=False)
class StreamFrame:
    """A picture, and the way of its pose through the stream.

    Attributes:
        picture: u8[H,W,3].
        number: of its pose, as `put` returned it: 0 for the first one; those replaced are counted too.
        time: what the caller gave with the pose.
        arrived, started, finished: when the pose was put, its turn came and the picture was there; seconds of
            `time.perf_counter`.
    """

    picture: NDArray[np.uint8]
    number: int
    time: float | None
    arrived: float
    started: float
    finished: float

    @property
    def waited(self) -> float:
        """Seconds that the pose waited for its turn."""
        return self.started - self.arrived

    @property
    def age(self) -> float:
        """Seconds from the pose's arrival until now."""
        return perf_counter() - self.arrived


@dataclass(frozen=True)
class StreamCounts:
    """What became of the poses of a stream: put = replaced + made + failed + those that wait or are in work.

    Attributes:
        put: poses given.
        replaced: of them, by a newer one before their turn came.
        made: pictures, whether somebody took them or not.
        failed: poses that gave an error, or waited when the backend failed.
    """

    put: int
    replaced: int
    made: int
    failed: int


@dataclass(frozen=True, eq=False)
class _Waiting:
    pose: Any
    format: str | None
    number: int
    time: float | None
    arrived: float


@dataclass(frozen=True, eq=False)
class _Failed:
    number: int
    error: FlowposeError

    def told(self) -> FlowposeError:
        """The same error with the pose's number before its place."""
        return self.error.at(f"pose {self.number}: {self.error.where}")


class _Desk:
    """What a stream and its worker hand each other; the worker knows the desk and not the stream.

    As a context it is the worker's: whatever ends the worker is kept for `Stream.get`.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: _Waiting | None = None
        self.frame: StreamFrame | None = None
        self.failed: _Failed | None = None
        self.ended_by: _Failed | None = None
        self.closing = self.ended = False
        self.put = self.replaced = self.made = self.failures = 0
        self._working = -1  # number of the pose in work

    def __enter__(self) -> _Desk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        with self.changed:
            self.closing = self.ended = True
            left, self.waiting = self.waiting is not None, None
            if error is not None:
                self.failures += 1 + left
                self.ended_by = _Failed(self._working, _typed(error))
            self.changed.notify_all()
        return True

    def take(self) -> _Waiting | None:
        """The pose whose turn it is, waited for; None where no more will come."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting is not None or self.closing)
            job, self.waiting = self.waiting, None
            self._working = -1 if job is None else job.number
            return job

    def deliver(self, frame: StreamFrame) -> None:
        """Puts a picture out, in place of one that nobody has taken."""
        with self.changed:
            self.frame, self.made = frame, self.made + 1
            self.changed.notify_all()

    def refuse(self, number: int, error: FlowposeError) -> None:
        """Keeps the error of a pose for `Stream.get`, in place of one that nobody has seen."""
        with self.changed:
            self.failed, self.failures = _Failed(number, error), self.failures + 1
            self.changed.notify_all()

    def close(self, *, drop: bool = False) -> None:
        """Takes no more poses; with `drop` the one that waits is not drawn."""
        with self.changed:
            self.closing = True
            if drop:
                self.waiting = None
            self.changed.notify_all()

    @property
    def full(self) -> bool:
        """Whether there is something to get."""
        return self.frame is not None or self.failed is not None

    def first(self) -> StreamFrame | _Failed | None:
        """Picture or error, whichever is of the older pose; it is gone then."""
        frame, failed = self.frame, self.failed
        if failed is not None and (frame is None or failed.number < frame.number):
            self.failed = None
            return failed
        self.frame = None
        return frame


class Stream:
    """Poses in, pictures out, drawn by a thread of its own; made by `Session.stream`. Any thread may put and get.

    A pose that cannot be used does not end the stream: its error is raised by `get`, and the next pose is drawn. A
    backend that fails does: from then on `put` and `get` raise its error. Leave it by `close` or as a context manager;
    one that is only forgotten ends by itself.
    """

    def __init__(self, draw: Draw) -> None:
        self._desk = _Desk()
        self._thread = threading.Thread(
            target=_work, args=(self._desk, draw), name="flowpose-stream", daemon=True
        )
        self._forgotten = weakref.finalize(self, self._desk.close, drop=True)
        self._forgotten.atexit = False
        _AT_WORK[self._thread] = self._desk
        self._thread.start()

    def put(self, pose: Any, time: float | None = None, *, format: str | None = None) -> int:
        """Returns the pose's number, at once: nothing is waited for, and a pose that waits for its turn is replaced.

        Args:
            pose: as for `Session.infer`; an array is copied, so its memory may be used again.
            time: anything that tells when the pose is of; comes out as `StreamFrame.time`.
            format: name of the array's format.

        Raises:
            FlowposeError: the stream is closed, or the error that closed it.
        """
        arrived, desk = perf_counter(), self._desk
        own = pose.copy() if isinstance(pose, np.ndarray) else pose
        with desk.changed:
            if desk.closing:
                self._raise_closed()
            number = desk.put
            desk.put, desk.replaced = desk.put + 1, desk.replaced + (desk.waiting is not None)
            desk.waiting = _Waiting(own, format, number, time, arrived)
            desk.changed.notify_all()
        return number

    @overload
    def get(self, timeout: None = None) -> StreamFrame: ...

    @overload
    def get(self, timeout: float) -> StreamFrame | None: ...

    def get(self, timeout: float | None = None) -> StreamFrame | None:
        """Returns the newest picture that has not been taken, waiting for one; None where none came in time.

        An error that has not been seen comes first where its pose is the older one; of several errors the newest.

        Args:
            timeout: seconds to wait, 0 not at all; without it as long as it takes.

        Raises:
            PoseError: what is wrong with a pose; `where` begins with its number. The stream goes on.
            BackendError: the backend failed; the stream is closed.
            FlowposeError: the stream is closed and all has been taken.
        """
        desk = self._desk
        with desk.changed:
            desk.changed.wait_for(lambda: desk.full or desk.ended, timeout)
            found = desk.first()
            if found is None and desk.ended:
                self._raise_closed()
        if isinstance(found, _Failed):
            raise found.told() from found.error
        return found

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> StreamFrame:
        """Returns the next picture as `get` does; the end comes when the stream is closed and all has been taken."""
        desk = self._desk
        with desk.changed:
            desk.changed.wait_for(lambda: desk.full or desk.ended)
            if not desk.full and desk.ended_by is None:
                raise StopIteration
            return self.get()  # under the lock still, or another thread may take it first

    @property
    def counts(self) -> StreamCounts:
        """What has become of the poses so far."""
        desk = self._desk
        with desk.changed:
            return StreamCounts(desk.put, desk.replaced, desk.made, desk.failures)

    @property
    def closed(self) -> bool:
        """Whether it takes no more poses."""
        return self._desk.closing

    def close(self) -> None:
        """Draws what was put, then ends the thread; what it drew may still be taken. Closing twice is closing once."""
        self._desk.close()
        self._thread.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raise_closed(self) -> None:
        by = self._desk.ended_by
        if by is not None:
            raise by.told() from by.error
        raise FlowposeError("stream", "is closed", fix="make another one: session.stream()")


_AT_WORK: weakref.WeakKeyDictionary[threading.Thread, _Desk] = weakref.WeakKeyDictionary()


def _end_all() -> None:
    """Ends the threads of streams that nobody closed.

    One that comes back from a library when the interpreter is gone aborts the process (onnxruntime and OpenVINO, seen).
    """
    at_work = list(_AT_WORK.items())
    for _, desk in at_work:
        desk.close(drop=True)
    for thread, _ in at_work:
        thread.join(PATIENCE)


atexit.register(_end_all)


def _work(desk: _Desk, draw: Draw) -> None:
    """Draws pose after pose until the desk closes or the backend fails."""
    with desk:
        while (job := desk.take()) is not None:
            started = perf_counter()
            try:
                picture = draw(job.pose, format=job.format)
            except BackendError:
                raise
            except FlowposeError as error:
                desk.refuse(job.number, error)
            else:
                times = (job.time, job.arrived, started, perf_counter())
                desk.deliver(StreamFrame(picture, job.number, *times))


def _typed(error: BaseException) -> FlowposeError:
    if isinstance(error, FlowposeError):
        return error
    found = FlowposeError("stream", f"its thread failed ({type(error).__name__}: {error})")
    found.__cause__ = error
    return found
