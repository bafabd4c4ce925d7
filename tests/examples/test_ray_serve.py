"""examples/ray_serve.py with two replicas on this machine, over HTTP; skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graphs import make_artifact, pictures, standing

from flowpose import Model, image, load

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[serve]'")
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_serve.py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(url: str, data: bytes | None = None) -> tuple[int, Any, bytes]:
    """(status, headers, body)."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


Served = tuple[str, Model]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The address of two replicas of a tiny model, and the model itself."""
    from ray import serve

    graph = make_artifact(tmp_path_factory.mktemp("ray") / "graph")
    spec = importlib.util.spec_from_file_location("ray_serve", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = sys.modules["ray_serve"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    ray.cloudpickle.register_pickle_by_value(example)
    port = free_port()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(example.app(example.Settings(str(graph.path), "onnxruntime", "fp32"), replicas=2))
    yield f"http://127.0.0.1:{port}", load(graph.path, backend="onnxruntime", precision="fp32")
    serve.shutdown()
    ray.shutdown()


def added(address: str, number: int) -> str:
    status, _, body = asked(f"{address}/people", image.encode(pictures()[number]))
    assert status == 200, body
    return str(json.loads(body)["id"])


def body_of(pose: Any) -> bytes:
    return json.dumps({"pose": np.asarray(pose).tolist()}).encode()


def test_everybody_is_drawn_as_the_model_draws_them_by_both_replicas(served: Served) -> None:
    address, model = served
    people = [added(address, number) for number in range(4)]
    assert len(set(people)) == 4 and added(address, 0) == people[0], "a photo is known by its content"
    work = [(number % 4, standing(1.0 + number % 5)) for number in range(48)]

    def one(task: tuple[int, Any]) -> tuple[str, int]:
        number, pose = task
        status, headers, body = asked(f"{address}/people/{people[number]}/frame", body_of(pose))
        assert status == 200, body
        assert np.array_equal(image.decode(body), model.infer(pictures()[number], pose))
        return headers["x-replica"], int(headers["x-batch"])

    with ThreadPoolExecutor(16) as crowd:
        found = list(crowd.map(one, work))
    assert len({replica for replica, _ in found}) == 2
    assert max(batch for _, batch in found) > 1, "several people's frames in one call"


def test_a_bad_pose_is_its_clients_own_error(served: Served) -> None:
    address, model = served
    person = added(address, 1)
    poses = [standing(2.0), np.zeros((133, 3)), standing(3.0)]
    with ThreadPoolExecutor(3) as crowd:
        replies = list(
            crowd.map(lambda pose: asked(f"{address}/people/{person}/frame", body_of(pose)), poses)
        )
    assert [status for status, _, _ in replies] == [200, 422, 200]
    refused = json.loads(replies[1][2])
    assert refused["error"] == "PoseError" and "missing" in refused["what"]
    assert np.array_equal(image.decode(replies[2][2]), model.infer(pictures()[1], poses[2]))


def test_strangers_and_what_is_no_photo_are_refused(served: Served) -> None:
    address, _ = served
    status, _, body = asked(f"{address}/people/nobody/frame", body_of(standing()))
    assert status == 404 and json.loads(body)["fix"] == "POST the photo to /people"
    status, _, body = asked(f"{address}/people", b"no picture at all")
    assert status == 422 and json.loads(body)["error"] == "ImageError"
