"""Where live poses come from: a camera and an estimator, lines of JSON from another program, or a motion at its pace.

A feed gives one arrival after the other and waits between them; `close`, from another thread, ends the waiting.
"""

from __future__ import annotations

import os
import select
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol, final

from flowpose.errors import PoseError
from flowpose.estimating import Estimator
from flowpose.estimating.video import Camera
from flowpose.pose import Pose
from flowpose.pose_files import coco
from flowpose.pose_files.frames import Asked, Frame, read_json
from flowpose.pose_files.reading import JSON, JSON_FRAMES
from flowpose.pose_motion import Chooser, Motion

__all__ = ["Arrival", "CameraFeed", "Feed", "LinesFeed", "MotionFeed", "frame_of_line"]

TICK = 0.1  # s; how long a feed waits before it looks whether it was closed
LONGEST = 1 << 22  # bytes of a line; a frame of ten people of 553 joints has a tenth of that


@dataclass(frozen=True, eq=False)
class Arrival:
    """What one frame of a feed holds.

    Attributes:
        pose: of the person; None where nobody is.
        time: `time.perf_counter` when the frame came in, before anything was computed of it.
        problem: why the frame could not be read, then there is no pose.
    """

    pose: Pose | None
    time: float
    problem: PoseError | None = None


class Feed(Protocol):
    """Arrivals, until the end or until it is closed.

    Attributes:
        estimating: seconds that the estimator took for each frame it saw; empty where there is none.
    """

    estimating: array[float]

    @property
    def count(self) -> int:
        """Frames that came in."""

    @property
    def dropped(self) -> int:
        """Of them, those that were replaced by a newer one before anybody looked at them."""

    def __iter__(self) -> Iterator[Arrival]: ...

    def close(self) -> None:
        """Ends the iteration; may be called from any thread."""


@final
class CameraFeed:
    """A camera's newest picture, one person of those that an estimator finds in it."""

    def __init__(self, camera: Camera, estimator: Estimator, person: int | str = "nearest") -> None:
        self._camera, self._estimator, self._chooser = camera, estimator, Chooser(person)
        self.estimating = array("d")

    @property
    def count(self) -> int:
        """Pictures that the camera gave."""
        return self._camera.count

    @property
    def dropped(self) -> int:
        """Pictures that were replaced while the estimator worked."""
        return self._camera.dropped

    def __iter__(self) -> Iterator[Arrival]:
        while (shot := self._camera.take()) is not None:
            began = perf_counter()
            people = self._estimator.find(shot.picture)
            self.estimating.append(perf_counter() - began)
            yield Arrival(self._chooser(people), shot.time)

    def close(self) -> None:
        self._camera.close()


@final
class MotionFeed:
    """A motion at its own pace, once."""

    def __init__(self, motion: Motion) -> None:
        self._motion, self._closing = motion, threading.Event()
        self.count, self.dropped, self.estimating = 0, 0, array("d")

    def __iter__(self) -> Iterator[Arrival]:
        began = perf_counter()
        for pose, time in zip(self._motion.poses, self._motion.times, strict=True):
            if self._closing.wait(max(0.0, began + time - perf_counter())):
                return
            self.count += 1
            yield Arrival(pose if pose.seen.any() else None, perf_counter())

    def close(self) -> None:
        self._closing.set()


@final
class LinesFeed:
    """JSON lines from a pipe, one frame a line, as another program writes them.

    A line that cannot be read gives an arrival with the problem, and the feed goes on.

    Args:
        descriptor: an open file descriptor; it stays open.
        asked: what is said of the lines: format, canvas, units.
        person: which of several.
    """

    def __init__(self, descriptor: int, asked: Asked, person: int | str = 0) -> None:
        self._descriptor, self._asked, self._chooser = descriptor, asked, Chooser(person)
        self._closing = threading.Event()
        self.count, self.dropped, self.estimating = 0, 0, array("d")

    def __iter__(self) -> Iterator[Arrival]:
        for line, time in self._lines():
            self.count += 1
            try:
                frame = frame_of_line(f"line {self.count}", line, self._asked)
            except PoseError as error:
                yield Arrival(None, time, error)
                continue
            yield Arrival(self._chooser(frame.people), time)

    def close(self) -> None:
        self._closing.set()

    def _lines(self) -> Iterator[tuple[bytes, float]]:
        rest = b""
        while not self._closing.is_set():
            if not select.select([self._descriptor], [], [], TICK)[0]:
                continue
            data = os.read(self._descriptor, 1 << 16)
            time = perf_counter()
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LONGEST:
                raise PoseError(
                    f"line {self.count + 1}",
                    "is too long",
                    got=f"{len(rest)} bytes",
                    expected="one frame a line",
                )
            for line in lines if data else [rest]:
                if line.strip():
                    yield line, time
            if not data:
                return


def frame_of_line(where: str, line: bytes, asked: Asked) -> Frame:
    """Returns the people in one line of JSON: OpenPose's, COCO's or MediaPipe's frame; null is one without people.

    Raises:
        PoseError: not JSON, none of these, or what is wrong with a pose.
    """
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PoseError(where, f"not text ({error})", expected=JSON) from error
    data = read_json(where, text)
    if data is None or data == {}:
        return Frame(where, ())
    if coco.is_result(data):
        return coco.results(Path(where), [data], asked, every=True).frames[0]
    for is_frame, frame, _ in JSON_FRAMES:
        if is_frame(data):
            return frame(where, data, asked)
    raise PoseError(where, "neither OpenPose's nor COCO's nor MediaPipe's", expected=JSON)
