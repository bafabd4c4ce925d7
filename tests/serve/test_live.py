"""Clients over real sockets: frames, errors, limits, slow ones and those that vanish."""

from __future__ import annotations

import asyncio
import socket as sockets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from serve.running import SOON, Guest, Running, running, truth, until
from tiny_graphs import standing
from websockets.exceptions import ConnectionClosed, InvalidStatus

from flowpose import image, samples
from flowpose.runtime import Model
from flowpose.serve import protocol
from flowpose.serve.clients import Client
from flowpose.serve.live import CROWD, _Line, _listen
from flowpose.serve.settings import Limits

LIMITS = Limits(clients=4, sessions=2, photo_mb=1, megapixels=2)


@pytest.fixture(scope="module")
def server(tiny: Model) -> Iterator[Running]:
    with running(tiny, limits=LIMITS) as found:
        yield found


@pytest.fixture
def guest(server: Running) -> Iterator[Guest]:
    with server.connect() as socket:
        yield Guest(socket)
    until(lambda: server.house.sessions == 0)


def photo(level: int = 90) -> bytes:
    return image.encode(np.full((48, 32, 3), level, np.uint8), ".png")


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_a_client_gets_the_frames_of_its_poses(guest: Guest, tiny: Model, encoding: str) -> None:
    assert guest.open()["source"] == [256, 176]
    guest.say(type="view", encoding=encoding, quality=95)
    for number, y in ((1, 1.0), (2, 5.0)):
        guest.pose(standing(y), number)
        head, data = guest.frame()
        guest.ack(number)
        assert (head.number, head.encoding, head.width, head.height, head.made) == (
            number,
            encoding,
            16,
            24,
            number,
        )
        assert head.waited >= 0 and head.drawn > 0 and head.encoded > 0
        assert np.abs(image.decode(data) - truth(tiny, samples.source("sweater"), standing(y))).mean() < 6


def test_a_photo_opens_a_session_and_another_one_replaces_it(guest: Guest, tiny: Model) -> None:
    for level in (60, 200):
        opened = guest.photo(photo(level))
        assert opened["type"] == "opened" and opened["source"] == [48, 32]
        guest.pose(standing(), level)
        _, data = guest.frame()
        guest.ack(level)
        made = truth(tiny, np.full((48, 32, 3), level, np.uint8), standing())
        assert np.abs(image.decode(data) - made).mean() < 4


def test_what_was_opened_tells_the_photos_own_pose(guest: Guest) -> None:
    own = guest.open()["own"]
    assert len(own) == 133 and sum(row[2] > 0 for row in own) > 10
    assert all(0 <= x < 16 and 0 <= y < 24 for x, y, score in own if score)


def test_only_one_frame_is_on_its_way_until_it_is_acknowledged(guest: Guest) -> None:
    guest.open()
    guest.pose(standing(), 1)
    assert guest.frame()[0].number == 1
    for number in range(2, 30):
        guest.pose(standing(), number)
    with pytest.raises(TimeoutError):
        guest.frame(0.3)
    guest.ack(1)
    head, _ = guest.frame()
    assert (head.number, head.made, head.replaced) == (29, 2, 27)


@pytest.mark.parametrize(
    ("act", "status", "kind"),
    [
        (lambda guest: guest.pose(standing(), 5, session=1), 404, "Refused"),
        (lambda guest: guest.open(sample="nobody"), 404, "DataError"),
        (lambda guest: guest.photo(b"GIF89a" + bytes(50)), 415, "Refused"),
        (lambda guest: guest.photo(photo()[:60]), 422, "ImageError"),
        (lambda guest: guest.pose(np.zeros((133, 3), np.float32), 5), 422, "PoseError"),
    ],
    ids=["not open", "no such person", "no picture", "cut picture", "nobody"],
)  # fmt: skip
def test_an_error_says_what_is_wrong_and_the_session_goes_on(
    guest: Guest, act, status: int, kind: str
) -> None:
    guest.open()
    told = act(guest) or guest.text()
    assert told["type"] == "error" and told["problem"]["status"] == status
    assert told["problem"]["type"] == f"urn:flowpose:{kind}" and told["problem"]["where"]
    if told["number"] is not None:
        guest.ack(told["number"], told["session"])
    guest.pose(standing(), 6)
    assert guest.frame()[0].number == 6


@pytest.mark.parametrize(
    "message", [b"\x09" + bytes(20), b"", "{}", "x" * 5000, protocol.pose(0, 1, standing()[:17])],
    ids=["kind", "empty", "json", "long", "format"],
)  # fmt: skip
def test_what_is_none_of_the_protocol_ends_the_connection_with_a_typed_error(guest: Guest, message) -> None:
    guest.socket.send(message)
    told = guest.text()
    assert told["type"] == "error" and told["problem"]["status"] == 400
    with pytest.raises(ConnectionClosed) as closed:
        guest.text()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_a_message_that_is_too_large_ends_the_connection(guest: Guest) -> None:
    with suppress(ConnectionClosed):  # it may be cut off while it is still sending
        guest.socket.send(bytes(LIMITS.message + 1))
    with pytest.raises(ConnectionClosed) as closed:
        guest.text()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_a_client_has_so_many_sessions_and_each_its_own_person(guest: Guest, tiny: Model) -> None:
    for session, name in enumerate(("plaid", "skirt")):
        assert guest.open(session, name)["type"] == "opened"
    assert guest.open(2)["problem"]["status"] == 429
    guest.say(type="close", session=0)
    assert guest.text() == {"type": "closed", "session": 0}
    assert guest.open(2, "sweater")["type"] == "opened"
    for session, name in ((1, "skirt"), (2, "sweater")):
        guest.pose(standing(), 1, session)
        head, data = guest.frame()
        made = truth(tiny, samples.source(name), standing())
        assert head.session == session and np.abs(image.decode(data) - made).mean() < 8


def test_there_is_room_for_so_many_clients(server: Running) -> None:
    guests = [server.connect() for _ in range(4)]
    with pytest.raises(InvalidStatus) as refused:
        server.connect()
    assert refused.value.response.status_code == 503 and b"is full" in refused.value.response.body
    for guest in guests:
        guest.close()
    until(lambda: not server.house._clients)
    server.connect().close()


def test_the_memory_of_all_sessions_is_bounded(tiny: Model) -> None:
    one = tiny.session(samples.source("sweater")).context.nbytes / 2**20
    with running(tiny, limits=replace(LIMITS, context_mb=2.5 * one)) as found, found.connect() as socket:
        guest = Guest(socket)
        assert [guest.open(session)["type"] for session in (0, 1)] == ["opened", "opened"]
        told = guest.open(1)["problem"]  # one that replaces another needs room for both for a moment
        assert told["status"] == 503 and "memory" in told["title"]
        assert found.house.context_bytes == 2 * round(one * 2**20)


def test_eight_guests_get_their_own_frames(tiny: Model) -> None:
    def play(guest: Guest, mine: int) -> list[float]:
        guest.photo(photo(20 * mine + 40))
        means = []
        for number in range(1, 16):
            guest.pose(standing(), number)
            _, data = guest.frame()
            guest.ack(number)
            means.append(float(image.decode(data).mean()))
        return means

    with running(tiny) as found, ThreadPoolExecutor(8) as pool:
        links = [found.connect() for _ in range(8)]
        got = list(pool.map(play, [Guest(link) for link in links], range(8)))
        for link in links:
            link.close()
    for mine, means in enumerate(got):
        made = truth(tiny, np.full((48, 32, 3), 20 * mine + 40, np.uint8), standing())
        assert len(means) == 15 and np.allclose(means, made.mean(), atol=3)


def test_a_client_that_vanishes_frees_its_sessions(server: Running) -> None:
    link = server.connect()
    Guest(link).open()
    assert server.house.sessions == 1 and server.house.context_bytes > 0
    link.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    link.socket.shutdown(sockets.SHUT_RDWR)  # no closing handshake
    until(lambda: server.house.sessions == 0 and not server.house._clients)
    assert server.house.context_bytes == 0 and not server.house.drawer._seats


def test_a_client_that_says_nothing_is_sent_away(tiny: Model) -> None:
    with running(tiny, limits=replace(LIMITS, idle=1.0)) as found, found.connect() as link:
        guest = Guest(link)
        guest.open()
        began = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            guest.text()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4000
        assert 0.8 < time.monotonic() - began < SOON and "1 s" in closed.value.rcvd.reason
        until(lambda: found.house.sessions == 0)


def test_a_client_that_never_acknowledges_is_sent_away(tiny: Model) -> None:
    with running(tiny, limits=replace(LIMITS, unanswered=0.2)) as found, found.connect() as link:
        guest = Guest(link)
        guest.open()
        guest.pose(standing(), 1)
        guest.frame()
        time.sleep(0.3)
        guest.pose(standing(), 2)
        assert guest.text()["problem"]["status"] == 408
        with pytest.raises(ConnectionClosed):
            guest.text()


def test_a_slow_client_does_not_hold_up_the_others(server: Running) -> None:
    """It reads nothing: the server holds one frame for it, and the other one's frames come as before."""
    with server.connect(max_queue=1) as lazy_link, server.connect() as link:
        lazy, quick = Guest(lazy_link), Guest(link)
        lazy.open()
        quick.open()
        for number in range(1, 201):
            lazy.pose(standing(), number)
            quick.pose(standing(), number)
            quick.frame(SOON)
            quick.ack(number)
        head, _ = lazy.frame()
        lazy.ack(head.number)
        assert head.made == 1 and lazy.frame()[0].number == 200


def test_the_event_loop_answers_while_a_photo_is_encoded(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, drawn = server.house.model.session, threading.Event()

    def slow(picture):
        assert drawn.wait(2 * SOON)
        return real(picture)

    with server.connect() as one, server.connect() as other:
        first, second = Guest(one), Guest(other)
        first.open()
        monkeypatch.setattr(server.house.model, "session", slow)
        second.say(type="open", session=0, sample="plaid")
        for number in range(1, 11):
            first.pose(standing(), number)
            first.frame()
            first.ack(number)
        drawn.set()
        assert second.text()["type"] == "opened"


def test_whoever_asks_and_does_not_read_is_made_to_wait(server: Running) -> None:
    """An endless row of questions, and a client to whom nothing can be sent: what waits for it stays small."""

    class Asks:
        async def receive(self) -> dict[str, str]:
            await asyncio.sleep(0)
            return {"type": "websocket.receive", "text": '{"type": "close", "session": 0}'}

    async def asked() -> int:
        outbox: asyncio.Queue[bytes | str] = asyncio.Queue()
        line = _Line(server.house, outbox)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_listen(Asks(), line, Client(line.deliver)), 0.3)  # type: ignore[arg-type]
        return outbox.qsize()

    assert CROWD < asyncio.run(asked()) <= CROWD + 2
