"""Who may ask: checked before a byte of a request's body is read, for pages, API and WebSocket alike.

A page of another site can make a browser send requests here, and can give its own name this machine's address (DNS
rebinding). So the name that a request calls the server by has to be one of its own, and so has the page that
it comes from.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowpose.serve.meters import Meters
from flowpose.serve.problems import Refused, respond
from flowpose.serve.settings import Limits, Place, is_loopback

__all__ = ["BEARER", "Gate"]

BEARER = "bearer."  # before the token in a WebSocket's subprotocol: a browser can send no header with one
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """Lets a request through to the application, or answers it.

    Args:
        app: the application.
        place: who may come.
        limits: of a request's body.
        free: paths that need no token: the page itself, which is the same for everybody.
        paths: all paths of the application, by which requests are counted.
        meters: requests are counted here.

    Attributes:
        app: the application.
    """

    def __init__(
        self,
        app: ASGIApp,
        place: Place,
        limits: Limits,
        free: frozenset[str],
        paths: frozenset[str],
        meters: Meters,
    ) -> None:
        self.app, self._place, self._limits = app, place, limits
        self._free, self._paths, self._meters = free, paths, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        outward = self._outward(scope, send)
        try:
            self._check(scope, headers)
        except Refused as error:
            self._meters.erred(error)
            challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            await _denied(scope, respond(error, challenge), receive, outward)
            return
        inward = receive if scope["type"] == "websocket" else self._bounded(receive)
        await self.app(scope, inward, outward)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not _known(host, self._place):
            fix = "use the machine's address, or start with --name NAME"
            raise Refused(421, "Host", "is not a name of this server", got=host[:80] or "none", fix=fix)
        for origin in headers.getlist("origin"):
            if not (_netloc(origin) == host.lower() or origin in self._place.origins):
                fix = "use the server's own page, or start with --origin ORIGIN"
                raise Refused(403, "Origin", "a page of another site", got=origin[:80], fix=fix)
        token = self._place.token
        needed = token is not None and scope["path"] not in self._free
        if needed and not any(
            hmac.compare_digest(shown, str(token).encode()) for shown in _shown(scope, headers)
        ):
            fix = "send 'Authorization: Bearer TOKEN', or open the address with #token=TOKEN"
            raise Refused(401, "Authorization", "no valid token", fix=fix)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:12]) > self._limits.request or len(length) > 12:
            raise self._too_large(length[:20])

    def _bounded(self, receive: Receive) -> Receive:
        """The same body, cut off where it is too long or too slow."""
        seen, whole, until = 0, False, monotonic() + self._limits.body

        async def bounded() -> Message:
            nonlocal seen, whole
            try:  # once the body is there, what comes is that the client has gone, whenever that is
                found = await asyncio.wait_for(receive(), None if whole else max(0.0, until - monotonic()))
            except asyncio.TimeoutError as error:  # in Python 3.10 not the built-in one
                raise HTTPException(408, f"the body took longer than {self._limits.body:g} s") from error
            seen, whole = seen + len(found.get("body", b"")), not found.get("more_body", False)
            if seen > self._limits.request:
                raise HTTPException(413, f"more than {self._limits.request} bytes")
            return found

        return bounded

    def _outward(self, scope: Scope, send: Send) -> Send:
        """The same answer with the headers of all answers, counted."""
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def outward(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                own = MutableHeaders(raw=list(message.get("headers", [])))
                for name, value in HEADERS.items():
                    own[name] = value
                message["headers"] = own.raw
                self._meters.answered(path, message["status"])
            await send(message)

        return outward

    def _too_large(self, got: str) -> Refused:
        return Refused(
            413, "request", "too large", got=f"{got} bytes", expected=f"at most {self._limits.request}"
        )


async def _denied(
    scope: Scope, response: Callable[..., Awaitable[Any]], receive: Receive, send: Send
) -> None:
    """Answers a request, or the handshake of a WebSocket: Starlette's responses know both."""
    if scope["type"] == "websocket":
        await receive()  # the connect event
    await response(scope, receive, send)


def _known(host: str, place: Place) -> bool:
    """Whether a Host header names this server; an address cannot be made to lead elsewhere, so any will do."""
    name = _name(host)
    if name in ("localhost", *place.names):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return is_loopback(name) or not place.loopback


def _name(host: str) -> str:
    """A Host header without its port, in small letters."""
    if host.startswith("["):
        return host[1:].split("]")[0].lower()
    return host.rsplit(":", 1)[0].lower()


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _shown(scope: Scope, headers: Headers) -> list[bytes]:
    """The tokens that a request shows."""
    found = [value[7:] for value in headers.getlist("authorization") if value[:7].lower() == "bearer "]
    if scope["type"] == "websocket":
        found += [each[len(BEARER) :] for each in scope["subprotocols"] if each.startswith(BEARER)]
    return [each.encode("utf-8", "surrogatepass") for each in found]
