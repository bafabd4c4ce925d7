"""What `flowpose live` does: poses in as they come, frames out as they are made, and at the end what it cost."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.background import Alpha, Composer, Keep, parse_background
from flowpose.errors import FlowposeError, ImageError, PoseError
from flowpose.infer_command import InferOptions, Say, draw, own_pose
from flowpose.live_feeds import Arrival, Feed
from flowpose.live_outputs import Output
from flowpose.pose import CANONICAL, Pose
from flowpose.pose_motion import Holder, Retargeting, Smoother, measure
from flowpose.runtime import load
from flowpose.runtime.stream import Stream, StreamFrame

__all__ = ["Summary", "run_live"]

PATIENCE = 2.0  # s that the thread of a feed gets to end
TICK = 0.1  # s; without a frame for so long the outputs are looked after


@dataclass(frozen=True)
class Summary:
    """What became of a live run.

    Attributes:
        frames_in: that the feed gave.
        dropped: of them, replaced before an estimator had looked at them.
        nobody: without a person.
        refused: that could not be read or drawn; `problem` is the first one's.
        replaced: poses replaced by a newer one before they were drawn.
        made, shown: frames drawn, and those that an output got.
        seconds: from the first frame in to the last one out.
        fps: frames shown a second.
        latency: ms from a pose's arrival at the model to its frame, 50th and 95th percentile; waiting included.
        age: ms from a frame's arrival to when its picture was shown, estimator and waiting included; the same.
        estimating: ms of the estimator; the same. None where there is none.
        files: that were written.
    """

    frames_in: int
    dropped: int
    nobody: int
    refused: int
    problem: str | None
    replaced: int
    made: int
    shown: int
    seconds: float
    fps: float
    latency: tuple[float, float] | None
    age: tuple[float, float] | None
    estimating: tuple[float, float] | None
    files: tuple[str, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """The same as a table of JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns the summary as a few lines of text."""
        found = [
            f"in {self.frames_in}, dropped {self.dropped}, nobody {self.nobody}, refused {self.refused}, "
            f"replaced {self.replaced}, made {self.made}, shown {self.shown}",
            f"{self.seconds:.1f} s, {self.fps:.1f} frames/s",
        ]
        for name in ("latency", "age", "estimating"):
            both = getattr(self, name)
            if both is not None:
                found.append(f"{name} {both[0]:.1f} ms p50, {both[1]:.1f} ms p95")
        if self.problem is not None:
            found.append(f"first refused: {self.problem}")
        return [*found, *self.files]


class _Shaper:
    """Takes one person's poses as they come and makes them what is drawn: held, smoothed, retargeted.

    Trackers give the parts that they see, so all are taken in one format. Another canvas (a phone was turned) is
    another view: everything begins anew.
    """

    def __init__(self, options: InferOptions, own: Pose | None) -> None:
        self._options, self._own = options, own if options.retarget else None
        self._begin(None)

    def _begin(self, size: tuple[int, int] | None) -> None:
        self._size = size
        self._holder = Holder(self._options.hold) if self._options.hold is not None else None
        self._smoother = Smoother() if self._options.smooth else None
        self._retargeting: Retargeting | None = None

    def __call__(self, pose: Pose | None, seconds: float) -> Pose | None:
        """Returns the pose to draw, None where nobody is."""
        if pose is not None:
            pose = pose.to(CANONICAL)
            if pose.size != self._size:
                self._begin(pose.size)
        if self._holder is not None:
            pose = self._holder(pose, seconds)
        if pose is None or not pose.seen.any():
            return None
        if self._smoother is not None:
            pose = self._smoother(pose, seconds)
        return pose if self._own is None else self._retargeted(pose, self._own)

    def _retargeted(self, pose: Pose, own: Pose) -> Pose:
        if self._retargeting is None:  # the first pose is the calibration
            self._retargeting = measure([pose], own)
        return self._retargeting(pose)


class _Feeder:
    """A thread that gives a feed's poses to the stream, and closes the stream at the feed's end."""

    def __init__(self, feed: Feed, stream: Stream, shaper: _Shaper) -> None:
        self._feed, self._stream, self._shaper = feed, stream, shaper
        self.nobody, self.refused, self._ending = 0, 0, False
        self.problem: str | None = None
        self.error: BaseException | None = None
        self.began: float | None = None
        self._thread = threading.Thread(target=self._work, name="flowpose-feed", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the feed, waited for."""
        self._ending = True
        self._feed.close()
        self._thread.join(PATIENCE)

    def __enter__(self) -> _Feeder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keeps whatever ended the thread for the one who waits for frames."""
        self.error = None if self._ending else error
        self._stream.close()
        return True

    def _work(self) -> None:
        with self:
            for arrival in self._feed:
                if self._stream.closed:
                    return
                self._give(arrival)

    def _give(self, arrival: Arrival) -> None:
        self.began = arrival.time if self.began is None else self.began
        if arrival.problem is not None:
            self._refuse(arrival.problem)
            return
        try:
            pose = self._shaper(arrival.pose, arrival.time)
        except PoseError as error:
            self._refuse(error)
            return
        if pose is None:
            self.nobody += 1
        else:
            self._stream.put(pose, arrival.time)

    def _refuse(self, error: PoseError) -> None:
        self.refused += 1
        self.problem = self.problem or str(error)


class _Shown:
    """What the outputs got: how old each frame was, and the first pose that could not be drawn."""

    def __init__(self) -> None:
        self.latency, self.age = array("d"), array("d")
        self.problem: str | None = None

    def note(self, frame: StreamFrame) -> None:
        """Counts a frame that was shown just now."""
        self.latency.append(frame.finished - frame.arrived)
        self.age.append(perf_counter() - (frame.arrived if frame.time is None else frame.time))


def run_live(
    source: Path,
    feed: Feed,
    outputs: Sequence[Output],
    options: InferOptions,
    *,
    seconds: float | None = None,
    say: Say = print,
) -> Summary:
    """Draws a feed's poses until it ends, an output's viewer goes, the time is over or Ctrl-C is pressed.

    The feed and the outputs are closed at the end, whatever happens. A pose that cannot be drawn is counted and left
    out. For the main thread, if one of the outputs is a window.

    Args:
        source: a picture of the person.
        feed: where poses come from.
        outputs: where frames go, at least one.
        options: how frames are made; `fps` and `format` are the feed's and the outputs' matter.
        seconds: after which it ends by itself.
        say: given lines of progress.

    Raises:
        ImageError: a picture that cannot be read or written, alpha for an output that shows none.
        FlowposeError: what loading the model, the estimator or drawing raises.
    """
    files: list[Path] = []
    with ExitStack() as closing:
        closing.callback(feed.close)
        for output in outputs:
            closing.callback(_close, output, files)
        drawing = _drawing(source, options, outputs)
        stream = closing.enter_context(Stream(drawing.draw))
        say(f"live: {drawing.size[0]} x {drawing.size[1]} (height x width); Ctrl-C ends")
        feeder, shown = _Feeder(feed, stream, _Shaper(options, drawing.own)), _Shown()
        closing.callback(feeder.end)
        if seconds is not None:
            timer = threading.Timer(seconds, feed.close)
            timer.start()
            closing.callback(timer.cancel)
        try:
            _show(stream, feeder, outputs, shown)
        except KeyboardInterrupt:
            say("stopped")
        ended = perf_counter()
    if feeder.error is not None:
        raise feeder.error
    return _summary(feed, feeder, stream, shown, ended, files)


def _close(output: Output, files: list[Path]) -> None:
    files.extend(output.close())


@dataclass(frozen=True, eq=False)
class _Drawing:
    draw: Callable[..., NDArray[np.uint8]]
    size: tuple[int, int]
    own: Pose | None


def _drawing(source: Path, options: InferOptions, outputs: Sequence[Output]) -> _Drawing:
    background, picture = parse_background(options.background), image.read(source)
    if isinstance(background, Alpha) and not all(output.clear for output in outputs):
        fix = "--background '#00ff00', or --out to a pipe, .webp, .png or .gif"
        raise ImageError("--background", "an output shows no alpha", got="alpha", fix=fix)
    model = load(options.model, threads=options.threads)
    own = own_pose(picture, options) if options.retarget or isinstance(background, Keep) else None
    session = model.session(picture)
    composer = Composer(picture, model.size, background, pose=own, out=options.size)

    def drawn(pose: Pose, *, format: str | None = None) -> NDArray[np.uint8]:
        return draw(session, composer, model.keypoints(pose, session.size, format))

    return _Drawing(drawn, composer.size, own)


def _show(stream: Stream, feeder: _Feeder, outputs: Sequence[Output], shown: _Shown) -> None:
    """Gives the outputs one frame after the other, until the stream ends or a viewer goes."""
    looked = [True]
    while all(looked):
        try:
            frame = stream.get(TICK)
        except PoseError as error:
            shown.problem = shown.problem or str(error)
            continue
        except FlowposeError:
            if (
                stream.closed and next(stream, None) is None
            ):  # all has been taken; it raises what else ended it
                return
            raise
        if frame is None:
            looked = [output.idle() for output in outputs]
            continue
        began = frame.arrived if feeder.began is None else feeder.began
        looked = [output.show(frame.picture, perf_counter() - began) for output in outputs]
        shown.note(frame)


def _summary(
    feed: Feed, feeder: _Feeder, stream: Stream, shown: _Shown, ended: float, files: Sequence[Path]
) -> Summary:
    counts, count = stream.counts, len(shown.age)
    seconds = 0.0 if feeder.began is None else ended - feeder.began
    return Summary(
        frames_in=feed.count,
        dropped=feed.dropped,
        nobody=feeder.nobody,
        refused=feeder.refused + counts.failed,
        problem=feeder.problem or shown.problem,
        replaced=counts.replaced,
        made=counts.made,
        shown=count,
        seconds=seconds,
        fps=count / seconds if seconds else 0.0,
        latency=_percentiles(shown.latency),
        age=_percentiles(shown.age),
        estimating=_percentiles(feed.estimating),
        files=tuple(map(str, files)),
    )


def _percentiles(seconds: array[float]) -> tuple[float, float] | None:
    """Milliseconds: the 50th and the 95th percentile, None of nothing."""
    if not seconds:
        return None
    half, most = np.percentile(np.asarray(seconds), (50, 95)) * 1000
    return round(float(half), 3), round(float(most), 3)
