"""Where live frames go: a film in real time, raw frames for another program, a page of this machine, or a window."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import FlowposeError, ImageError, MissingDependency
from flowpose.report.video import CLEAR, open_writer

__all__ = ["FilmOutput", "Output", "PageOutput", "RawOutput", "WindowOutput"]

Picture = NDArray[np.uint8]


class Output(Protocol):
    """Takes frames as they are made.

    Attributes:
        clear: whether it can show alpha.
    """

    clear: bool

    def show(self, picture: Picture, seconds: float) -> bool:
        """Shows u8[h,w,3 or 4], made so many seconds after the start; False where nobody looks any more.

        Raises:
            ImageError: it cannot be written.
        """
        ...

    def idle(self) -> bool:
        """Called while no frame comes; False where nobody looks any more."""
        ...

    def close(self) -> tuple[Path, ...]:
        """Ends, and returns the files that it leaves."""
        ...


@final
class FilmOutput:
    """A film file with an even rate: a frame is repeated until the next one is there, so it plays in real time.

    Raises:
        ImageError: an unknown suffix, or no rate.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._writer, self._fps = open_writer(path, fps), fps
        self._last: Picture | None = None
        self._count = 0
        self.clear = path.suffix.lower() in CLEAR

    def show(self, picture: Picture, seconds: float) -> bool:
        if self._last is not None:
            while self._count < int(seconds * self._fps):
                self._add(self._last)
        self._last = picture
        return True

    def idle(self) -> bool:
        return True

    def close(self) -> tuple[Path, ...]:
        if self._last is None:
            self._writer.discard()
            return ()
        try:
            self._add(self._last)
            return self._writer.close()
        except ImageError:
            self._writer.discard()
            raise

    def _add(self, picture: Picture) -> None:
        self._writer.add(picture)
        self._count += 1


@final
class RawOutput:
    """The frames' bytes, one after the other (rgb24, or rgba where there is alpha), into a pipe.

    Args:
        stream: written to without a buffer; closed at the end.
    """

    clear = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def show(self, picture: Picture, seconds: float) -> bool:
        try:
            self._stream.write(np.ascontiguousarray(picture).data)
            self._stream.flush()
        except BrokenPipeError:
            return False
        return True

    def idle(self) -> bool:
        return True

    def close(self) -> tuple[Path, ...]:
        with contextlib.suppress(BrokenPipeError):  # what was still in the buffer has no reader
            self._stream.close()
        return ()


GUI = "pip uninstall opencv-python-headless && pip install opencv-python; --mjpeg 8765 needs no window"


@final
class WindowOutput:
    """A window; q, Escape or closing it ends the run. Only for the main thread.

    Raises:
        MissingDependency: this OpenCV has no windows, as opencv-python-headless.
    """

    clear = False

    def __init__(self, name: str = "flowpose") -> None:
        self._name = name
        try:
            cv2.namedWindow(name, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            got = f"OpenCV {cv2.__version__}"
            raise MissingDependency("--window", "this OpenCV shows no windows", got=got, fix=GUI) from error

    def show(self, picture: Picture, seconds: float) -> bool:
        cv2.imshow(self._name, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return self.idle()

    def idle(self) -> bool:
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in (27, ord("q")) and cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> tuple[Path, ...]:
        cv2.destroyWindow(self._name)
        return ()


HOST = "127.0.0.1"
VIEWERS = 8  # at once; each is a thread
QUALITY = 90  # of the JPEGs
PAGE = b"""<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>flowpose live</title><style>body{margin:0;background:#222;display:grid;place-items:center;height:100vh}
img{height:100vh;max-width:100vw;object-fit:contain}</style><img src="/stream" alt="live frames">"""


class _Newest:
    """The newest JPEG, and who waits for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.data, self.number, self.ended, self.viewers = b"", 0, False, 0

    def put(self, data: bytes) -> None:
        with self.changed:
            self.data, self.number = data, self.number + 1
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def after(self, number: int) -> tuple[bytes, int] | None:
        """The newest JPEG once it is newer than that, None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.number > number or self.ended)
            return (self.data, self.number) if self.number > number else None

    def enter(self) -> bool:
        with self.changed:
            if self.viewers >= VIEWERS or self.ended:
                return False
            self.viewers += 1
            return True

    def leave(self) -> None:
        with self.changed:
            self.viewers -= 1


@final
class PageOutput:
    """A page of this machine, http://127.0.0.1:PORT/, that shows the frames as a stream of JPEGs.

    Only this machine reaches it. A viewer who is slow gets the newest frame, not all of them.

    Args:
        port: 0 for any that is free.

    Attributes:
        address: of the page.

    Raises:
        FlowposeError: the port cannot be had.
    """

    clear = False

    def __init__(self, port: int) -> None:
        self._newest = _Newest()
        try:
            self._server = _Server(port, self._newest)
        except (OSError, OverflowError) as error:
            fix = "another one, or --mjpeg 0 for any that is free"
            raise FlowposeError(f"port {port}", f"cannot be had ({error})", fix=fix) from error
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="flowpose-page", daemon=True
        )
        self._thread.start()

    def show(self, picture: Picture, seconds: float) -> bool:
        self._newest.put(image.encode(picture, ".jpg", QUALITY))
        return True

    def idle(self) -> bool:
        return True

    def close(self) -> tuple[Path, ...]:
        self._newest.end()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        return ()


class _Server(ThreadingHTTPServer):
    """The page's server, and the newest JPEG that its threads send."""

    def __init__(self, port: int, newest: _Newest) -> None:
        self.newest = newest
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers / with the page and /stream with JPEGs."""

    server: _Server

    def do_GET(self) -> None:
        # A foreign page whose name was made to lead here must not see the pictures.
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in (HOST, "localhost"):
            self.send_error(403, "only for this machine")
        elif self.path == "/":
            self._page()
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a request would hide what the run says."""

    def _page(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def _stream(self) -> None:
        if not self.server.newest.enter():
            self.send_error(503, f"{VIEWERS} viewers are there already")
            return
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the viewer went away
                self._frames()
        finally:
            self.server.newest.leave()

    def _frames(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(b"--frame\r\n")
        number = 0
        while (found := self.server.newest.after(number)) is not None:
            data, number = found
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            self.wfile.write(head + data + b"\r\n--frame\r\n")  # the boundary at once: browsers wait for it
