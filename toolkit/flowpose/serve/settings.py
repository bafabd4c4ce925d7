"""What a server is told: where it listens, who may come, and how much of everything."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass

from flowpose.errors import FlowposeError

__all__ = ["HOST", "PORT", "Limits", "Place", "is_loopback", "place_of"]

HOST, PORT = "127.0.0.1", 8008
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")  # what a WebSocket's subprotocol may hold, and long enough
MB = 2**20
FORM = 64 * 1024  # bytes of a request beside its files: names, boundaries, small fields


@dataclass(frozen=True)
class Limits:
    """How much a server takes. All are checked before the work that they bound.

    Attributes:
        clients: open WebSockets.
        sessions: people of one client.
        context_mb: MB of the contexts of all sessions.
        photo_mb: MB of a picture's file.
        megapixels: of a picture, by its header, before it is decoded.
        poses_mb: MB of a pose file, or of all files of a folder; of a .npz also what it unpacks to.
        poses: in a motion.
        files: of one motion.
        jobs: pictures and pose files that wait to be read, of all clients.
        text: characters of a text message.
        idle: seconds after which a client that says nothing is sent away.
        unanswered: seconds that a frame may wait for its acknowledgement.
        body: seconds that the body of a request may take to arrive.
    """

    clients: int = 16
    sessions: int = 4
    context_mb: float = 256.0
    photo_mb: float = 16.0
    megapixels: float = 32.0
    poses_mb: float = 8.0
    poses: int = 3000
    files: int = 500
    jobs: int = 16
    text: int = 4096
    idle: float = 600.0
    unanswered: float = 30.0
    body: float = 30.0

    @property
    def request(self) -> int:
        """Bytes of a request's body."""
        return int((self.photo_mb + self.poses_mb) * MB) + FORM

    @property
    def message(self) -> int:
        """Bytes of a WebSocket message."""
        return int(self.photo_mb * MB) + FORM


@dataclass(frozen=True)
class Place:
    """Where a server listens and who may come.

    Attributes:
        host, port: the address; port 0 is any that is free.
        token: what every client has to show; None only on a loopback address.
        names: names by which it may be called beside IP addresses and localhost, as behind a proxy.
        origins: pages of other origins that may use it, as https://example.org.
    """

    host: str = HOST
    port: int = PORT
    token: str | None = None
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address of that name."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def place_of(
    host: str, port: int, token: str | None, names: tuple[str, ...] = (), origins: tuple[str, ...] = ()
) -> Place:
    """Returns the place, with a token made where one is needed and none given.

    Raises:
        FlowposeError: a token that is too short or has other characters.
    """
    if token is not None and not TOKEN.fullmatch(token):
        expected = "16 to 128 letters, digits, - and _"
        fix = "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        raise FlowposeError(
            "--token", "not a token", got=f"{len(token)} characters", expected=expected, fix=fix
        )
    own = token if token is not None or is_loopback(host) else secrets.token_urlsafe(24)
    return Place(host, port, own, tuple(name.lower() for name in names), origins)
