"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from flowpose.errors import FlowposeError

if TYPE_CHECKING:
    from flowpose.serve.drawer import Drawn

__all__ = ["CONTENT_TYPE_LATEST", "Meters"]

SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
STAGES = ("wait", "draw", "encode")


class Meters:
    """Counters of one server, in a registry of its own. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._frames = Counter(
            "flowpose_frames", "Frames drawn for clients, by encoding", ["encoding"], registry=own
        )
        self._bytes = Counter("flowpose_frame_bytes", "Bytes of those frames", registry=own)
        self._seconds = Histogram(
            "flowpose_frame_seconds",
            "From a pose's arrival to its encoded frame",
            buckets=SECONDS,
            registry=own,
        )
        self._stages = Histogram(
            "flowpose_stage_seconds",
            "Parts of it: wait, draw, encode",
            ["stage"],
            buckets=SECONDS,
            registry=own,
        )
        self._poses = Counter("flowpose_poses", "Poses that came over WebSockets", registry=own)
        self._replaced = Counter("flowpose_poses_replaced", "Of them, replaced by a newer one", registry=own)
        self._errors = Counter("flowpose_errors", "Errors told to clients, by type", ["type"], registry=own)
        self._requests = Counter(
            "flowpose_requests", "HTTP requests, by path and status", ["path", "status"], registry=own
        )
        for encoding in ("jpeg", "webp"):
            self._frames.labels(encoding)
        for stage in STAGES:
            self._stages.labels(stage)

    def watch(
        self, clients: Callable[[], int], sessions: Callable[[], int], context: Callable[[], int]
    ) -> None:
        """Adds what is there at the moment of reading: clients, sessions, and bytes of their contexts."""
        for name, about, read in (
            ("clients", "Open WebSockets", clients), ("sessions", "People of all clients", sessions),
            ("context_bytes", "Bytes of their contexts", context),
        ):  # fmt: skip
            Gauge(f"flowpose_{name}", about, registry=self._registry).set_function(read)

    def posed(self, replaced: bool) -> None:
        """Counts a pose, and whether another one was replaced by it."""
        self._poses.inc()
        if replaced:
            self._replaced.inc()

    def drew(self, frame: Drawn) -> None:
        """Counts a frame that a client gets."""
        self._frames.labels(frame.look.encoding).inc()
        self._bytes.inc(len(frame.data))
        self._seconds.observe(frame.waited + frame.drawn + frame.encoded)
        for stage, seconds in zip(STAGES, (frame.waited, frame.drawn, frame.encoded), strict=True):
            self._stages.labels(stage).observe(seconds)

    def erred(self, error: FlowposeError) -> None:
        """Counts an error that a client is told."""
        self._errors.labels(type(error).__name__).inc()

    def answered(self, path: str, status: int) -> None:
        """Counts an HTTP response; `path` is one of the server's own, not the client's text."""
        self._requests.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """Returns all of it in Prometheus' text format."""
        return generate_latest(self._registry)
