"""Running the server: the socket, uvicorn, and the address to open."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from flowpose.errors import FlowposeError
from flowpose.runtime import Model
from flowpose.serve.api import application
from flowpose.serve.settings import Limits, Place

__all__ = ["addresses", "bound", "serve", "server_of"]


def bound(place: Place) -> socket.socket:
    """Returns a listening socket.

    Raises:
        FlowposeError: the address cannot be had.
    """
    where = f"{place.host}:{place.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise FlowposeError(where, f"is no address ({error})", fix="--host 127.0.0.1 --port 8008") from error
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise FlowposeError(
            where, f"cannot be had ({error})", fix="another --port, or 0 for any that is free"
        ) from error
    return found


def addresses(place: Place, port: int) -> str:
    """Returns what to open in a browser; with the token behind #, which browsers send to nobody."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    shown = socket.gethostname() if place.host in ("0.0.0.0", "::") and place.names else host
    token = f"#token={place.token}" if place.token is not None else ""
    return f"http://{place.names[0] if place.names else shown}:{port}/{token}"


def server_of(
    model: Model, place: Place, limits: Limits | None = None, *, target: str | None = None
) -> uvicorn.Server:
    """Returns a server that is ready to run on a socket; nothing of a request is logged, errors of its own are."""
    bounds = limits or Limits()
    config = uvicorn.Config(
        application(model, place, bounds, target=target),
        ws="websockets-sansio", ws_max_size=bounds.message, ws_per_message_deflate=False,  # pictures do not shrink
        ws_ping_interval=20, ws_ping_timeout=20, timeout_keep_alive=10, timeout_graceful_shutdown=3,
        access_log=False, log_level="warning", server_header=False, proxy_headers=False,
        h11_max_incomplete_event_size=32 * 1024,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve(
    model: Model,
    place: Place,
    limits: Limits | None = None,
    *,
    target: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Raises:
        FlowposeError: the address cannot be had, or the server did not start.
    """
    listening = bound(place)
    with listening:
        server = server_of(model, place, limits, target=target)
        say(f"page: {addresses(place, listening.getsockname()[1])}")
        with suppress(KeyboardInterrupt):  # uvicorn ends well and then raises it again
            server.run(sockets=[listening])
    if not server.started:
        raise FlowposeError("server", "did not start", fix="its log above says why")
