"""What goes over the WebSocket, byte by byte; docs/serving.md has it as a table.

Numbers are little-endian. Client to server: `pose`, `ack`, `photo` in binary, `open`, `view` and `close` as JSON text.
Server to client: `frame` in binary, `hello`, `opened`, `closed` and `error` as JSON text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flowpose.serve.problems import Refused

__all__ = [
    "ENCODINGS", "VERSION", "Ack", "Close", "Encoding", "FrameHead", "Open", "Photo", "Posed", "View", "ack", "frame",
    "message", "photo", "pose", "read_frame", "text",
]  # fmt: skip

VERSION = "flowpose.1"  # the subprotocol
HEAD = struct.Struct("<BBHI")  # kind, session, joints, number: every binary message begins with it
FRAME = struct.Struct("<BBBBIIIHHfff")
"""kind, session, encoding, 0, number, made, replaced, width, height, ms waited, ms drawn, ms encoded: 32 bytes."""

POSE, ACK, PHOTO, PICTURE = 1, 2, 3, 4  # kinds of binary messages
Encoding = Literal["jpeg", "webp"]
ENCODINGS: tuple[Encoding, ...] = ("jpeg", "webp")  # by their number in a frame's head
Number = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True, eq=False)
class Posed:
    """A pose of a session: f32[J,3], x and y in pixels of the frame, score; and the client's number for it."""

    session: int
    number: int
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class Ack:
    """A frame, or an error in its place, has been taken; the next one may come."""

    session: int
    number: int


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture of a person; opens the session, or puts another person into it."""

    session: int
    data: bytes


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Open(_Text):
    """A shipped person for a session."""

    type: Literal["open"]
    session: Number
    sample: str = Field(max_length=40)


class View(_Text):
    """How frames of this client are encoded from now on."""

    type: Literal["view"]
    encoding: Encoding
    quality: int = Field(ge=1, le=100)


class Close(_Text):
    """A session that is not needed any more."""

    type: Literal["close"]
    session: Number


_TEXTS: TypeAdapter[Open | View | Close] = TypeAdapter(
    Annotated[Open | View | Close, Field(discriminator="type")]
)


@dataclass(frozen=True)
class FrameHead:
    """What a frame says of itself.

    Attributes:
        session, number: of its pose.
        made, replaced: frames of the session so far, and poses that a newer one replaced.
        waited, drawn, encoded: ms of the server.
        width, height: pixels.
    """

    session: int
    number: int
    encoding: Encoding
    made: int
    replaced: int
    width: int
    height: int
    waited: float
    drawn: float
    encoded: float


def message(data: bytes, joints: int) -> Posed | Ack | Photo:
    """Returns what a binary message says.

    Args:
        joints: of the model's pose format.

    Raises:
        Refused: it is none of the protocol.
    """
    if len(data) < HEAD.size:
        raise _wrong("too short", f"{len(data)} bytes", f"at least {HEAD.size}")
    kind, session, count, number = HEAD.unpack_from(data)
    if kind == POSE:
        if count != joints or len(data) != HEAD.size + 12 * joints:
            raise _wrong(
                "not a pose", f"{count} joints in {len(data)} bytes", f"{joints} in {HEAD.size + 12 * joints}"
            )
        rows = np.frombuffer(data, "<f4", offset=HEAD.size).reshape(joints, 3)
        return Posed(session, number, rows.astype(np.float32))
    if kind == ACK:
        return Ack(session, number)
    if kind == PHOTO:
        return Photo(session, data[HEAD.size :])
    raise _wrong("unknown kind", kind, f"{POSE} pose, {ACK} ack or {PHOTO} photo")


def text(data: str, most: int) -> Open | View | Close:
    """Returns what a text message says; Refused where it is longer than `most` or none of the protocol."""
    if len(data) > most:
        raise _wrong("too long", f"{len(data)} characters", f"at most {most}")
    try:
        return _TEXTS.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise _wrong(
            f"{where}: {first['msg']}", data[:80], "open, view or close (docs/serving.md)"
        ) from error


def frame(head: FrameHead, data: bytes) -> bytes:
    """Returns a frame's message."""
    number = ENCODINGS.index(head.encoding)
    return FRAME.pack(
        PICTURE, head.session, number, 0, head.number, head.made, head.replaced, head.width, head.height,
        head.waited, head.drawn, head.encoded,
    ) + data  # fmt: skip


def read_frame(data: bytes) -> tuple[FrameHead, bytes]:
    """Returns a frame's head and its picture file, as a client reads them."""
    _, session, encoding, _, number, made, replaced, width, height, waited, drawn, encoded = (
        FRAME.unpack_from(data)
    )
    head = FrameHead(
        session, number, ENCODINGS[encoding], made, replaced, width, height, waited, drawn, encoded
    )
    return head, data[FRAME.size :]


def pose(session: int, number: int, rows: NDArray[np.float32]) -> bytes:
    """Returns a pose's message, as a client writes it."""
    return HEAD.pack(POSE, session, len(rows), number) + np.ascontiguousarray(rows, "<f4").tobytes()


def ack(session: int, number: int) -> bytes:
    """Returns an acknowledgement, as a client writes it."""
    return HEAD.pack(ACK, session, 0, number)


def photo(session: int, data: bytes) -> bytes:
    """Returns a photo's message, as a client writes it."""
    return HEAD.pack(PHOTO, session, 0, 0) + data


def _wrong(what: str, got: object, expected: object) -> Refused:
    return Refused(400, "WebSocket message", what, got=got, expected=expected)
