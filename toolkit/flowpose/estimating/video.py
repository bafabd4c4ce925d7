"""Pictures in time: a video's frames one after the other, or a camera's newest one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError, PoseError
from flowpose.estimating import Estimator
from flowpose.pose_motion import Chooser, Motion

__all__ = ["FILMS", "Camera", "Shot", "find_motion", "frames"]

FILMS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif")


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture.

    Attributes:
        picture: u8[h,w,3], red green blue.
        time: of a video seconds from its start, of a camera `time.perf_counter` when it came in.
    """

    picture: NDArray[np.uint8]
    time: float


def frames(path: Path | str) -> Iterator[Shot]:
    """Yields a video's frames with their own times; videos with a changing rate too.

    Raises:
        ImageError: no such file, or no video.
    """
    file = Path(path)
    if not file.is_file():
        raise ImageError(file, "no such file", expected="a video")
    capture = cv2.VideoCapture(str(file))
    try:
        if not capture.isOpened():
            raise ImageError(file, "not a video that OpenCV reads", expected=", ".join(FILMS))
        rate, last, count = capture.get(cv2.CAP_PROP_FPS), 0.0, 0
        step = 1 / rate if rate > 0 else 1 / 25
        while (picture := _read(capture)) is not None:
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Raw streams carry no times; then their rate is all there is.
            last = stamp if stamp > last or count == 0 else last + step
            count += 1
            yield Shot(picture, last)
        if not count:
            raise ImageError(file, "holds no frame", expected="a video")
    finally:
        capture.release()


def find_motion(
    path: Path | str,
    estimator: Estimator,
    *,
    person: int | str = "nearest",
    say: Callable[[str], None] = print,
) -> Motion:
    """Returns the motion of one person in a video, on its canvas; where nobody is found all joints are missing.

    Args:
        path: the video.
        estimator: finds people in each frame.
        person: which one, see `flowpose.pose_motion.Chooser`.
        say: given a line of progress now and then.

    Raises:
        ImageError: no video.
        PoseError: no frame shows the person.
        BackendError: the estimator failed.
    """
    chooser, found, times = Chooser(person), [], []
    said = perf_counter()
    for shot in frames(path):
        found.append(chooser(estimator.find(shot.picture)))
        times.append(shot.time)
        if perf_counter() - said > 5:
            said = perf_counter()
            say(f"{path}: {len(found)} frames, {shot.time:.1f} s")
    some = next((pose for pose in found if pose is not None), None)
    if some is None:
        raise PoseError(path, "shows nobody", got=f"{len(found)} frames", expected="a person in one of them")
    poses = tuple(some.nobody() if pose is None else pose for pose in found)
    return Motion(poses, tuple(time - times[0] for time in times))


def _read(capture: Any) -> NDArray[np.uint8] | None:
    there, picture = capture.read()
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8) if there else None


@final
class Camera:
    """The newest picture of a camera, or of a video file played at its own pace; read by a thread of its own.

    A picture that is not taken before the next one comes is dropped and counted, as with any live source.

    Args:
        source: a camera's number, a video's file, or an address that OpenCV opens.

    Raises:
        ImageError: it cannot be opened.
    """

    def __init__(self, source: int | str) -> None:
        self.source, self.count, self.dropped = source, 0, 0
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            what = "no such camera" if isinstance(source, int) else "not a video that OpenCV reads"
            expected = "a camera's number, as 0 for /dev/video0, a video file or an address"
            raise ImageError(f"camera {source}", what, expected=expected)
        self._capture.set(
            cv2.CAP_PROP_BUFFERSIZE, 1
        )  # an old picture in a buffer is latency; not all drivers take it
        self._paced = isinstance(source, str) and Path(source).is_file()
        self._changed, self._ended = threading.Condition(), False
        self._shot: Shot | None = None
        self._fault: ImageError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="flowpose-camera", daemon=True)

    def take(self) -> Shot | None:
        """Returns the newest picture that was not taken yet, waited for; None where no more will come.

        The first call starts the camera, so a video does not play while a model is loaded.

        Raises:
            ImageError: a camera stopped by itself (unplugged, or another program has it), or a video holds no frame.
        """
        with self._changed:
            if self._thread.ident is None and not self._closing.is_set():
                self._thread.start()
            self._changed.wait_for(lambda: self._shot is not None or self._ended)
            shot, self._shot = self._shot, None
            if shot is None and self._fault is not None:
                raise self._fault
            return shot

    def close(self) -> None:
        """Ends the thread and gives the camera back."""
        with self._changed:
            self._closing.set()
            started = self._thread.ident is not None
            self._ended = self._ended or not started
            self._changed.notify_all()
        if started:
            self._thread.join()
        self._capture.release()

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        began, fault = perf_counter(), None
        try:
            while not self._closing.is_set() and (picture := _read(self._capture)) is not None:
                if self._paced:
                    due = began + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    self._closing.wait(max(0.0, due - perf_counter()))
                self._put(Shot(picture, perf_counter()))
        except cv2.error as error:
            fault = f"OpenCV cannot read on ({error})"
        finally:
            with self._changed:
                self._ended, self._fault = True, self._stopped(fault)
                self._changed.notify_all()

    def _stopped(self, fault: str | None) -> ImageError | None:
        """The error of an end that nobody asked for; a video that was played to its end has none."""
        if self._closing.is_set() or (fault is None and self.count and not isinstance(self.source, int)):
            return None
        what = fault or ("gives no more pictures" if self.count else "gives no picture")
        fix = "see whether it is plugged in and no other program uses it"
        return ImageError(f"camera {self.source}", what, got=f"{self.count} pictures", fix=fix)

    def _put(self, shot: Shot) -> None:
        with self._changed:
            self.count += 1
            self.dropped += self._shot is not None
            self._shot = shot
            self._changed.notify_all()
