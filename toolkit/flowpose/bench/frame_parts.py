"""Where the time of a frame goes: the real calls of `Session.infer`, timed one by one while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

from flowpose.bench.records import FrameParts, Latency
from flowpose.errors import FlowposeError
from flowpose.pose import Pose
from flowpose.runtime.session import Session

PARTS = ("acquire", "pose", "pre", "graph", "post")
CALLS: tuple[tuple[str, str], ...] = (
    ("of", "acquire"),
    ("to", "pose"),
    ("check", "pre"),
    ("fit", "pre"),
    ("inside", "pre"),
    ("array", "pre"),
)
"""Methods of Pose that a frame goes through -> the part they belong to."""


class _Watch:
    """Time by part of the frame that is running, ns; of calls within calls the outermost counts."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.ended = 0  # when the graph was done
        self._inside = False

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return call(*args, **kwargs)
            self._inside, start = True, time.perf_counter_ns()
            try:
                return call(*args, **kwargs)
            finally:
                self.ended = time.perf_counter_ns()
                self.spent[part] = self.spent.get(part, 0) + self.ended - start
                self._inside = False

        return run


def frame_parts(
    session: Session, poses: Sequence[Any], *, format: str, n: int, warmup: int = 5
) -> FrameParts:
    """Returns the parts of `session.infer`; for their time no other thread may use poses or the session's model.

    Args:
        session: with its source encoded.
        poses: arrays [J,3] of the format, used round and round.
        format: name of their format.
        n: frames.
        warmup: frames before that are not timed.

    Raises:
        FlowposeError: no poses or no frames; or what the session raises.
    """
    if not len(poses) or n < 1:
        raise FlowposeError("frame parts", "nothing to measure", got=f"{len(poses)} poses, n = {n}")
    turns, watch = cycle(poses), _Watch()
    wholes: list[float] = []
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    with _watched(watch, session):
        for frame in range(warmup + n):
            watch.spent = {}
            start = time.perf_counter_ns()
            session.infer(next(turns), format=format)
            end = time.perf_counter_ns()
            watch.spent["post"] = end - watch.ended
            if frame >= warmup:
                wholes.append((end - start) / 1e6)
                for part in PARTS:
                    parts[part].append(watch.spent.get(part, 0) / 1e6)
    whole = sum(wholes)
    return FrameParts(
        format=format,
        whole=Latency.of(wholes),
        parts={part: Latency.of(ms) for part, ms in parts.items()},
        covered=sum(map(sum, parts.values())) / whole,
        glue=1 - sum(parts["graph"]) / whole,
    )


@contextmanager
def _watched(watch: _Watch, session: Session) -> Iterator[None]:
    """Puts the watch round the methods of Pose and the run of the session's frame graph, and takes it off again."""
    graph = session.model._frame
    with ExitStack() as stack:
        for name, part in CALLS:
            own = Pose.__dict__[name]
            bound = isinstance(own, classmethod)
            timed = watch.timed(part, own.__func__ if bound else own)
            setattr(Pose, name, classmethod(timed) if bound else timed)
            stack.callback(setattr, Pose, name, own)
        stack.callback(_put_back, graph, "run", vars(graph).get("run"))
        graph.run = watch.timed("graph", graph.run)  # type: ignore[method-assign]
        yield


def _put_back(owner: object, name: str, own: object) -> None:
    """Undoes an assignment to an attribute of an instance that had `own`, or None and its class's."""
    if own is None:
        delattr(owner, name)
    else:
        setattr(owner, name, own)
