"""The API over HTTP: pictures and motions for those who ask rightly, a typed problem for all others."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from serve.running import CLIENT, SOON, Guest, Running, running, until
from tiny_graphs import standing

from flowpose import image, samples
from flowpose.errors import BackendError
from flowpose.pose import Pose
from flowpose.runtime import Model
from flowpose.serve.settings import Limits

PHOTO = image.encode(samples.source("plaid"), ".png")
ROWS = [[40 + 10 * (i % 2), 20.0 + 12 * i, 1.0] for i in range(17)]
POSE = json.dumps(ROWS).encode()
PARTS = {"type", "title", "status", "detail"}
Files = dict[str, Any]


@pytest.fixture(scope="module")
def server(tiny: Model) -> Iterator[Running]:
    with running(tiny, limits=Limits(photo_mb=2, megapixels=1, poses_mb=1, poses=50)) as found:
        yield found


def infer(server: Running, files: Files | None = None, **fields: Any) -> httpx.Response:
    given = {"photo": ("me.png", PHOTO), "pose": ("pose.json", POSE)} if files is None else files
    return CLIENT.post(f"{server.url}/infer", files=given, data=fields)


def motions(server: Running, *files: tuple[str, bytes], **fields: Any) -> httpx.Response:
    return CLIENT.post(f"{server.url}/motions", files=[("files", file) for file in files], data=fields)


def stack(poses: int = 3, shift: float = 0) -> bytes:
    stream = BytesIO()
    np.save(stream, np.stack([standing()[:17] + np.float32([shift, 0.25 * i, 0]) for i in range(poses)]))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("output", "starts", "off"), [("png", b"\x89PNG", 0), ("jpeg", b"\xff\xd8", 6), ("webp", b"RIFF", 8)]
)
def test_a_photo_and_a_pose_give_the_picture_that_infer_gives(
    server: Running, tiny: Model, output: str, starts: bytes, off: float
) -> None:
    answer = infer(server, output=output, quality=95)
    assert answer.status_code == 200 and answer.headers["content-type"] == f"image/{output}"
    assert answer.content.startswith(starts)
    truth = tiny.infer(samples.source("plaid"), np.array(ROWS, np.float32)).astype(int)
    assert np.abs(image.decode(answer.content) - truth).mean() <= off


def test_a_pose_file_gives_the_pose_of_the_number(server: Running, tiny: Model) -> None:
    stream = BytesIO()
    poses = [np.array(ROWS, np.float32), np.array(ROWS, np.float32) + np.float32([5, 20, 0])]
    np.savez(stream, keypoints=np.stack(poses))
    files = {"photo": ("me.png", PHOTO), "pose": ("poses.npz", stream.getvalue())}
    for number, pose in enumerate(poses):
        made = image.decode(infer(server, files, number=number).content)
        assert np.array_equal(made, tiny.infer(samples.source("plaid"), pose))


LARGE = image.encode(np.zeros((1100, 1000, 3), np.uint8))
NOBODY = json.dumps([[0, 0, 0]] * 17).encode()
CASES: dict[str, tuple[Files, dict[str, Any], int, str]] = {
    "nothing": ({}, {}, 422, "Refused"),
    "no pose": ({"photo": ("a.png", PHOTO)}, {}, 422, "Refused"),
    "no photo": ({"pose": ("a.json", POSE)}, {}, 422, "Refused"),
    "a text for a file": ({"photo": (None, "hello"), "pose": ("a.json", POSE)}, {}, 422, "Refused"),
    "a GIF": ({"photo": ("a.png", b"GIF89a" + bytes(99)), "pose": ("a.json", POSE)}, {}, 415, "Refused"),
    "a cut photo": ({"photo": ("a.png", PHOTO[:200]), "pose": ("a.json", POSE)}, {}, 422, "ImageError"),
    "too many bytes": ({"photo": ("a.png", PHOTO.ljust(2**21 + 1)), "pose": ("a.json", POSE)}, {}, 413, "Refused"),
    "too many pixels": ({"photo": ("a.png", LARGE), "pose": ("a.json", POSE)}, {}, 413, "Refused"),
    "a pose of another kind": ({"photo": ("a.png", PHOTO), "pose": ("a.exe", POSE)}, {}, 415, "Refused"),
    "a cut pose": ({"photo": ("a.png", PHOTO), "pose": ("a.json", POSE[:-9])}, {}, 422, "PoseError"),
    "nobody": ({"photo": ("a.png", PHOTO), "pose": ("a.json", NOBODY)}, {}, 422, "PoseError"),
    "another format": ({"photo": ("a.png", PHOTO), "pose": ("a.json", POSE)}, {"format": "body-25"}, 422, "PoseError"),
    "no format": ({"photo": ("a.png", PHOTO), "pose": ("a.json", POSE)}, {"format": "mine"}, 422, "Refused"),
    "no such pose": ({"photo": ("a.png", PHOTO), "pose": ("a.npy", stack())}, {"number": 3}, 422, "PoseError"),
    "a bad number": ({"photo": ("a.png", PHOTO), "pose": ("a.json", POSE)}, {"number": "x"}, 422, "Refused"),
    "a bad quality": ({"photo": ("a.png", PHOTO), "pose": ("a.json", POSE)}, {"quality": 0}, 422, "Refused"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_drawn_is_a_problem_with_its_parts(server: Running, case: str) -> None:
    files, fields, status, kind = CASES[case]
    answer = infer(server, files, **fields)
    told = answer.json()
    assert answer.status_code == told["status"] == status and told["type"] == f"urn:flowpose:{kind}"
    assert answer.headers["content-type"] == "application/problem+json" and set(told) >= PARTS
    assert "Traceback" not in answer.text and "/tmp" not in answer.text and ".py" not in answer.text


@pytest.mark.parametrize("body", [b"", b"--x", b"--x\r\nnonsense\r\n\r\n--x--", b"{}"])
def test_a_body_that_is_no_form_is_a_problem(server: Running, body: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = CLIENT.post(f"{server.url}/infer", content=body, headers=kind)
    assert answer.status_code in (400, 422) and set(answer.json()) >= PARTS


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/none", 404), ("GET", "/infer", 405), ("PUT", "/", 405)]
)
def test_other_pages_and_methods_are_problems(server: Running, method: str, path: str, status: int) -> None:
    answer = CLIENT.request(method, server.url + path)
    assert answer.status_code == answer.json()["status"] == status
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize(
    "path", ["/../settings.py", "/%2e%2e/settings.py", "/people/../../x.webp", "/site/page.js"]
)
def test_paths_lead_to_no_file(server: Running, path: str) -> None:
    assert CLIENT.get(server.url + path).status_code == 404


def test_a_motion_comes_on_the_models_frame_with_times(server: Running) -> None:
    told = motions(server, ("a.npy", stack())).json()
    assert told["size"] == [24, 16] and told["format"] == "coco-wholebody-133" and len(told["times"]) == 3
    rows = np.array(told["poses"], np.float32).reshape(3, 133, 3)
    assert np.allclose(rows[1, :17], standing()[:17] + np.float32([0, 0.25, 0]), atol=0.01)


def test_a_motion_gets_the_proportions_of_the_person(server: Running) -> None:
    half = standing()[:17] * np.float32([0.5, 0.5, 1])
    stream = BytesIO()
    np.save(stream, np.stack([half, half]))
    told = motions(server, ("a.npy", stream.getvalue()), own=json.dumps(standing().tolist())).json()
    rows = np.array(told["poses"], np.float32).reshape(2, 133, 3)
    assert np.allclose(rows[0, 5:17, :2], standing()[5:17, :2], atol=0.3)


def test_a_frame_without_anybody_is_null(server: Running) -> None:
    stream = BytesIO()
    np.save(stream, np.stack([standing()[:17], np.zeros((17, 3), np.float32)]))
    poses = motions(server, ("a.npy", stream.getvalue())).json()["poses"]
    assert len(poses[0]) == 399 and poses[1] is None


@pytest.mark.parametrize("own", ["[]", "{", "[[1,2,3]]", "[[NaN,0,0]]", "null"])
def test_an_own_pose_that_is_none_is_a_pose_error(server: Running, own: str) -> None:
    answer = motions(server, ("a.npy", stack()), own=own)
    assert answer.status_code == 422 and answer.json()["where"] == "own"


def test_coordinates_in_0_to_1_are_told(server: Running) -> None:
    stream = BytesIO()
    np.save(stream, np.stack([standing()[:17] / np.float32([16, 24, 1])] * 2))
    answer = motions(server, ("a.npy", stream.getvalue()))
    assert answer.status_code == 422 and "all joints in one spot" in answer.text


def test_a_motion_that_is_too_long_is_refused(server: Running) -> None:
    answer = motions(server, ("a.npy", stack(51)))
    assert answer.status_code == 413 and answer.json()["expected"] == "at most 50 poses"


def test_the_sample_motion_is_the_shipped_one(server: Running, tiny: Model) -> None:
    told = CLIENT.get(f"{server.url}/motions/sample").json()
    first = samples.motion().poses[0].fit(*tiny.size).inside().array()
    assert len(told["poses"]) == 48 and np.allclose(
        np.array(told["poses"][0]).reshape(133, 3), first, atol=0.01
    )


def test_the_model_is_described(server: Running, tiny: Model) -> None:
    told = CLIENT.get(f"{server.url}/model").json()
    assert (told["size"], told["precision"], told["backend"]) == ([24, 16], "fp32", tiny.backend)
    assert len(told["joints"]) == 133 and told["people"] == list(samples.PEOPLE)


def value(server: Running, name: str) -> float:
    text = CLIENT.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def test_metrics_count_frames_drops_clients_and_errors(server: Running) -> None:
    names = ('flowpose_frames_total{encoding="jpeg"}', "flowpose_poses_total", "flowpose_poses_replaced_total",
             'flowpose_errors_total{type="PoseError"}', "flowpose_frame_seconds_count")  # fmt: skip
    before = [value(server, name) for name in names]
    with server.connect() as link:
        guest = Guest(link)
        guest.open()
        for number in range(1, 4):
            guest.pose(standing(), number)
            if number == 1:
                guest.frame()
        guest.ack(1)
        assert guest.frame()[0].number == 3
        guest.ack(3)
        guest.pose(np.zeros((133, 3), np.float32), 4)
        assert guest.text()["type"] == "error"
        assert value(server, "flowpose_clients") == value(server, "flowpose_sessions") == 1
        assert value(server, "flowpose_context_bytes") > 0
    until(lambda: value(server, "flowpose_clients") == 0)
    assert [value(server, name) - old for name, old in zip(names, before, strict=True)] == [2, 4, 1, 1, 2]


def test_too_many_jobs_at_once_are_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    server.house._worker.submit(go.wait, SOON)  # somebody's large photo
    monkeypatch.setattr(server.house, "_queued", server.house.limits.jobs)
    answer = infer(server)
    go.set()
    assert answer.status_code == 503 and "is busy" in answer.json()["title"]


def test_health_says_so_when_the_backend_fails(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tiny) as found, found.connect() as link:
        assert CLIENT.get(f"{found.url}/health").json()["status"] == "ok"
        guest = Guest(link)
        guest.open()

        def fails(*_: object) -> None:
            raise BackendError("openvino", "failed", fix="start it again")

        monkeypatch.setattr(found.house.model, "infer_batch", fails)
        guest.pose(standing(), 1)
        assert guest.text()["problem"]["status"] == 503
        told = CLIENT.get(f"{found.url}/health")
        assert told.status_code == 503 and told.json()["fix"] == "start it again"


def test_a_fault_of_the_server_is_told_without_its_inside(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a secret place")

    monkeypatch.setattr(server.house.model, "infer", fails)
    answer = infer(server)
    assert answer.status_code == answer.json()["status"] == 500
    assert "secret" not in answer.text and "RuntimeError" in answer.text


def test_frames_of_the_socket_are_those_of_infer(server: Running, tiny: Model) -> None:
    """The page's pixels are those of the frame, the API's those of the photo: the same pose gives the same picture."""
    made = image.decode(infer(server).content).astype(int)
    fitted = (
        Pose.of(np.array(ROWS, np.float32), None, (256, 176))
        .fit(*tiny.size)
        .inside()
        .to("coco-wholebody-133")
    )
    with server.connect() as link:
        guest = Guest(link)
        guest.photo(PHOTO)
        guest.say(type="view", encoding="jpeg", quality=100)
        guest.pose(fitted.array(), 1)
        assert np.abs(image.decode(guest.frame()[1]) - made).mean() < 6
