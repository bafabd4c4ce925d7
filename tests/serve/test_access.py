"""Who may come: names, origins, tokens and sizes are checked before anything is read, and no answer says too much."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from serve.running import CLIENT, SOON, Guest, Running, running
from tiny_graphs import standing
from websockets.exceptions import InvalidStatus

from flowpose.errors import FlowposeError
from flowpose.runtime import Model
from flowpose.serve.access import HEADERS
from flowpose.serve.serving import addresses, bound
from flowpose.serve.settings import Limits, Place, place_of

TOKEN = "correct-horse-battery"
LIMITS = Limits(photo_mb=0.5, poses_mb=0.25, body=1.0)
PROTECTED = ("/model", "/metrics", "/motions/sample")
FREE = ("/", "/page.js", "/style.css", "/health", "/people/sweater.webp", "/openapi.json")


@pytest.fixture(scope="module")
def own(tiny: Model) -> Iterator[Running]:
    with running(tiny, limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def shut(tiny: Model) -> Iterator[Running]:
    """A server with a token and names, as one that other machines reach."""
    place = Place("0.0.0.0", 0, TOKEN, names=("poses.example.org",), origins=("https://friend.example",))
    with running(tiny, place, LIMITS) as found:
        yield found


def get(server: Running, path: str, **headers: str) -> httpx.Response:
    return CLIENT.get(server.url + path, headers=headers)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8008", "127.0.0.1.evil.example", "10.0.0.7", "", "[", "localhost."]
)
@pytest.mark.parametrize("path", ["/", "/health", "/model"])
def test_a_name_that_was_made_to_lead_here_gets_nothing(own: Running, host: str, path: str) -> None:
    answer = get(own, path, Host=host)
    assert answer.status_code == 421 and answer.json()["where"] == "Host" and "--name" in answer.json()["fix"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.3.2.1:8008", "[::1]:8008"])
def test_this_machines_own_names_are_known(own: Running, host: str) -> None:
    assert get(own, "/health", Host=host).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"), [("poses.example.org", 200), ("192.0.2.7:80", 200), ("other.example", 421)]
)
def test_a_server_for_others_goes_by_its_names_and_any_address(shut: Running, host: str, status: int) -> None:
    assert get(shut, "/health", Host=host).status_code == status


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "file://"]
)
def test_pages_of_other_sites_get_nothing(own: Running, origin: str) -> None:
    assert get(own, "/model", Origin=origin).status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        own.connect(origin=origin)
    assert refused.value.response.status_code == 403 and b"Origin" in refused.value.response.body


def test_the_servers_own_page_may_come(own: Running) -> None:
    assert get(own, "/model", Origin=own.url).status_code == 200
    own.connect(origin=own.url).close()


def test_another_site_that_was_named_may_come_with_the_token(shut: Running) -> None:
    headers = {"Origin": "https://friend.example", "Authorization": f"Bearer {TOKEN}"}
    assert get(shut, "/model", **headers).status_code == 200
    assert get(shut, "/model", Origin="https://friend.example").status_code == 401


@pytest.mark.parametrize("shown", [None, "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\xfc" * 21])
@pytest.mark.parametrize("path", PROTECTED)
def test_without_the_token_there_is_only_the_page(shut: Running, path: str, shown: str | None) -> None:
    headers = {} if shown is None else {"Authorization": f"Bearer {shown}".encode("latin-1")}
    answer = CLIENT.get(shut.url + path, headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", FREE)
def test_the_page_itself_needs_no_token(shut: Running, path: str) -> None:
    assert get(shut, path).status_code == 200


def test_the_token_opens_everything(shut: Running) -> None:
    for path in PROTECTED:
        assert get(shut, path, Authorization=f"Bearer {TOKEN}").status_code == 200
    with shut.connect(TOKEN) as link:
        assert link.subprotocol == "flowpose.1"
        guest = Guest(link)
        guest.open()
        guest.pose(standing(), 1)
        assert guest.frame()[0].number == 1


@pytest.mark.parametrize("token", [None, "wrong-token-wrong-token", TOKEN + "x"])
def test_a_websocket_without_the_token_is_not_let_in(shut: Running, token: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        shut.connect(token)
    assert refused.value.response.status_code == 401 and not shut.house._clients


def test_nobody_logs_a_token(
    shut: Running, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "uvicorn")
    get(shut, "/model", Authorization=f"Bearer {TOKEN}")
    shut.connect(TOKEN).close()
    out, err = capfd.readouterr()
    assert TOKEN not in caplog.text + out + err


@pytest.mark.parametrize("path", ["/", "/model", "/no-such-page", "/infer"])
def test_every_answer_has_the_headers(own: Running, path: str) -> None:
    answer = get(own, path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"] and "server" not in answer.headers


def test_a_body_that_says_it_is_too_large_is_not_read(own: Running) -> None:
    with socket.create_connection(("127.0.0.1", own.port), SOON) as link:
        link.sendall(b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        assert link.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_cut_off(own: Running) -> None:
    def much() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield bytes(64 * 1024)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = CLIENT.post(f"{own.url}/infer", content=much(), headers=kind)
    except (httpx.WriteError, httpx.RemoteProtocolError):  # it was cut off while it was still sending
        return
    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(own: Running) -> None:
    with socket.create_connection(("127.0.0.1", own.port), SOON) as link:
        head = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        link.sendall(head + b"Content-Length: 1000\r\n\r\n--x")
        assert link.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_token_is_made_where_others_reach_the_server() -> None:
    assert place_of("127.0.0.1", 0, None).token is None and place_of("localhost", 0, None).token is None
    one, other = (place_of("0.0.0.0", 0, None).token for _ in range(2))
    assert one and other and one != other and len(one) >= 32
    assert (
        addresses(place_of("0.0.0.0", 0, TOKEN, ("a.example",)), 80) == f"http://a.example:80/#token={TOKEN}"
    )


@pytest.mark.parametrize("token", ["", "short", "with spaces in between", "ümlaut" * 4, "x" * 200])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(FlowposeError, match="--token: not a token") as error:
        place_of("127.0.0.1", 0, token)
    assert "secrets" in str(error.value.fix) and (not token or token not in str(error.value))


@pytest.mark.parametrize("place", [Place("256.0.0.1"), Place("192.0.2.1")])
def test_an_address_that_cannot_be_had_is_a_typed_error(place: Place) -> None:
    with pytest.raises(FlowposeError) as error:
        bound(place)
    assert error.value.where.startswith(place.host) and error.value.fix


def test_a_port_that_is_taken_is_a_typed_error() -> None:
    with bound(Place(port=0)) as taken, pytest.raises(FlowposeError, match="cannot be had"):
        bound(Place(port=taken.getsockname()[1]))
