"""One client's WebSocket: messages in, at most one answer a session on its way out."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from flowpose import samples
from flowpose.errors import BackendError, FlowposeError
from flowpose.serve import protocol
from flowpose.serve.clients import Client, House
from flowpose.serve.drawer import Drawn, Look
from flowpose.serve.problems import Refused, problem, respond
from flowpose.serve.uploads import Upload, picture_of

__all__ = ["live"]

CROWD = 16  # answers that wait for a client before its next message has to
BAD, IDLE, GONE = 1008, 4000, 1011
"""Close codes: a message that is none of the protocol, nothing said for too long, the backend failed."""


async def live(socket: WebSocket, house: House) -> None:
    """Serves a client until it goes, says what is none of the protocol, or says nothing for too long."""
    outbox: asyncio.Queue[bytes | str] = asyncio.Queue()  # holds an answer a session, and replies to texts
    line = _Line(house, outbox)
    try:
        client = house.enter(line.deliver)
    except Refused as error:
        house.meters.erred(error)
        await socket.send_denial_response(respond(error))
        return
    sender: asyncio.Task[None] | None = None
    try:
        await socket.accept(protocol.VERSION if protocol.VERSION in socket.scope["subprotocols"] else None)
        sender = asyncio.create_task(_send(socket, outbox))
        line.say("hello", model=house.model.manifest.name, joints=house.model.manifest.pose.joints)
        await _listen(socket, line, client)
    finally:
        house.leave(client)
        if sender is not None:
            sender.cancel()


class _Line:
    """What goes out to one client; its methods run on the event loop's thread."""

    def __init__(self, house: House, outbox: asyncio.Queue[bytes | str]) -> None:
        self.house, self._outbox = house, outbox

    @property
    def crowded(self) -> bool:
        """Whether the client asks for more than it reads."""
        return self._outbox.qsize() > CROWD

    async def told(self) -> None:
        """Waits until all that is queued has left, but no longer than a moment."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._outbox.join(), 1.0)

    def say(self, kind: str, **fields: Any) -> None:
        """Queues a text message."""
        self._outbox.put_nowait(json.dumps({"type": kind, **fields}))

    def refuse(self, error: FlowposeError, session: int | None = None, number: int | None = None) -> None:
        """Queues an error."""
        self.house.meters.erred(error)
        self.say("error", session=session, number=number, problem=problem(error))

    def deliver(self, session: int, answer: Drawn | FlowposeError, number: int) -> None:
        """Queues a frame, or the error that takes its place."""
        if isinstance(answer, FlowposeError):
            self.refuse(answer, session, number)
            return
        head = protocol.FrameHead(
            session, answer.number, answer.look.encoding, answer.counts.made, answer.counts.replaced,
            answer.size[1], answer.size[0], answer.waited * 1e3, answer.drawn * 1e3, answer.encoded * 1e3,
        )  # fmt: skip
        self._outbox.put_nowait(protocol.frame(head, answer.data))


async def _send(socket: WebSocket, outbox: asyncio.Queue[bytes | str]) -> None:
    """Sends what is queued, each when the one before has left; ends with the client."""
    try:
        while True:
            found = await outbox.get()
            await (socket.send_bytes(found) if isinstance(found, bytes) else socket.send_text(found))
            outbox.task_done()
    except WebSocketDisconnect:
        return


async def _listen(socket: WebSocket, line: _Line, client: Client) -> None:
    house = line.house
    while True:
        if line.crowded:
            await line.told()
        try:
            found = await asyncio.wait_for(socket.receive(), house.limits.idle)
        except asyncio.TimeoutError:  # in Python 3.10 not the built-in one
            await socket.close(IDLE, f"nothing said for {house.limits.idle:g} s")
            return
        if found["type"] == "websocket.disconnect":
            return
        try:
            await _take(found, line, client)
        except FlowposeError as error:
            line.refuse(error)
            code = _ending(error)
            if code is not None:
                await line.told()
                await socket.close(code, error.what[:100])
                return


def _ending(error: FlowposeError) -> int | None:
    """The code that a connection is closed with after an error; None where it goes on."""
    if isinstance(error, Refused):
        return BAD if error.status in (400, 408) else None
    return GONE if isinstance(error, BackendError) else None


async def _take(found: Any, line: _Line, client: Client) -> None:
    """Does what one message asks for."""
    house, data = line.house, found.get("bytes")
    if data is None:
        await _take_text(protocol.text(found["text"], house.limits.text), line, client)
        return
    said = protocol.message(data, house.model.manifest.pose.joints)
    if isinstance(said, protocol.Posed):
        house.drawer.put(house.seat(client, said.session), said.number, said.rows)
    elif isinstance(said, protocol.Ack):
        if said.session in client.seats:  # else it was closed while the frame was on its way
            house.drawer.acknowledge(client.seats[said.session], said.number)
    else:
        upload = Upload("photo", said.data)
        await _open(line, client, said.session, lambda: picture_of(upload, house.limits))


async def _take_text(
    said: protocol.Open | protocol.View | protocol.Close, line: _Line, client: Client
) -> None:
    if isinstance(said, protocol.Open):
        name = said.sample
        await _open(line, client, said.session, lambda: samples.source(name))
    elif isinstance(said, protocol.View):
        line.house.look(client, Look(said.encoding, said.quality))
    else:
        line.house.close(client, said.session)
        line.say("closed", session=said.session)


async def _open(line: _Line, client: Client, number: int, read: Any) -> None:
    try:
        opened = await line.house.open(client, number, read)
    except FlowposeError as error:
        line.refuse(error, number)
        return
    own = (
        None
        if opened.own is None
        else [[round(float(value), 2) for value in row] for row in opened.own.array()]
    )
    line.say("opened", session=number, source=opened.size, own=own)
