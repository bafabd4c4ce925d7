"""flowpose behind Ray Serve: replicas that share the work, frames of several people drawn in one call.

    pip install 'flowpose' 'ray[serve]'
    python examples/ray_serve.py people-128 --replicas 2
    curl --data-binary @photo.jpg http://127.0.0.1:8000/people
    curl --data '{"pose": [[40.0, 20.0, 1.0], ...]}' http://127.0.0.1:8000/people/ID/frame > frame.png

A photo is known by its content. It lies with one actor; a replica that is asked for a person whom it has not seen
fetches the photo and encodes it once. So any replica can draw anybody, requests go where there is room, and a replica
that dies takes nothing with it. (Ray's multiplexing would keep a person at one replica, but splits batches by person.)
"""

# No `from __future__ import annotations`: Ray sends this code to its replicas, and FastAPI reads annotations there.

import argparse
import asyncio
import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application

import flowpose
from flowpose import image
from flowpose.errors import FlowposeError, ImageError

UPLOAD = 20 << 20  # bytes of a photo's file
PIXELS = 50_000_000  # of a photo
PHOTOS = 512  # that are kept; who was not drawn for longest is forgotten
PEOPLE = 256  # whose contexts a replica keeps: 1.5 MB each of people-128
BATCH, WAIT = 8, 0.004  # frames drawn in one call, and seconds that the first one waits for others

Picture = NDArray[np.uint8]
api = FastAPI(title="flowpose")


@dataclass(frozen=True)
class Settings:
    """What a replica runs; see `flowpose.load`."""

    model: str = "people-128"
    backend: str | None = None
    precision: str | None = None
    threads: int = 1


@ray.remote(num_cpus=0)
class Photos:
    """The photos of everybody, by their content; those used last."""

    def __init__(self, most: int) -> None:
        self.most, self.kept = most, OrderedDict[str, Picture]()

    def put(self, digest: str, picture: Picture) -> None:
        self.kept[digest] = picture
        self.kept.move_to_end(digest)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)

    def get(self, digest: str) -> Picture | None:
        """The photo, None where it is not known (any more)."""
        if digest in self.kept:
            self.kept.move_to_end(digest)
        return self.kept.get(digest)


class Unknown(FlowposeError):
    """A person whose photo is not here."""


# `serve.ingress` takes the API as it is then: what it needs stands before the class.
async def _body(request: Request) -> bytes:
    """What was sent; no more of it is read than is taken."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > UPLOAD:
            raise ImageError("photo", "the file is too large", expected=f"{UPLOAD} bytes or less")
    return bytes(data)


@api.exception_handler(FlowposeError)
async def refused(_: Request, error: FlowposeError) -> JSONResponse:
    """What was wrong with a request, in its parts."""
    parts = {name: None if part is None else str(part) for name, part in vars(error).items()}
    status = 404 if isinstance(error, Unknown) else 422
    return JSONResponse({"error": type(error).__name__, **parts}, status)


@serve.deployment
@serve.ingress(api)
class People:
    """One replica: a model, and the sessions of those whom it drew last."""

    def __init__(self, settings: Settings, photos: Any) -> None:
        self.model = flowpose.load(
            settings.model, backend=settings.backend, precision=settings.precision, threads=settings.threads
        )
        self.photos, self.sessions = photos, OrderedDict[str, flowpose.Session]()

    @api.post("/people")
    async def add(self, request: Request) -> dict[str, str]:
        """The id of a photo: PNG, JPEG, WebP or BMP."""
        data = await _body(request)
        size = image.size_of(data)
        if size is None or size[0] * size[1] > PIXELS:
            raise ImageError(
                "photo", "no picture of a size that is taken", got=size, expected=f"{PIXELS} pixels"
            )
        digest = hashlib.sha256(data).hexdigest()[:32]
        await self.photos.put.remote(digest, image.decode(data, "photo"))
        return {"id": digest}

    @api.post("/people/{person}/frame")
    async def frame(self, person: str, request: Request) -> Response:
        """The person in a pose, as PNG. JSON: `pose`, rows of x, y, score in the photo's pixels, and maybe `format`."""
        given = await request.json()
        session = await self._session(person)
        pose = flowpose.Pose.of(np.array(given["pose"], np.float32), given.get("format"), session.size)
        made, together = await self._drawn(session, pose)
        if isinstance(made, FlowposeError):
            raise made
        headers = {"x-replica": str(os.getpid()), "x-batch": str(together)}
        return Response(image.encode(made), media_type="image/png", headers=headers)

    @api.get("/health")
    async def health(self) -> dict[str, str]:
        return {"model": self.model.manifest.name, "backend": self.model.backend}

    async def _session(self, person: str) -> flowpose.Session:
        if person not in self.sessions:
            picture = await self.photos.get.remote(person)
            if picture is None:
                raise Unknown(person, "is nobody that is known here", fix="POST the photo to /people")
            self.sessions[person] = await asyncio.to_thread(self.model.session, picture)
        self.sessions.move_to_end(person)
        while len(self.sessions) > PEOPLE:
            self.sessions.popitem(last=False)
        return self.sessions[person]

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def _drawn(self, sessions: list[flowpose.Session], poses: list[flowpose.Pose]) -> list[Any]:
        """(frame, or what is wrong with the pose; frames of the call) for each."""
        made = await asyncio.to_thread(self.model.infer_batch, sessions, poses)
        return [(each, len(made)) for each in made]


def app(settings: Settings, replicas: int = 2) -> Application:
    """The application; `replicas` of the model, each with the CPU cores of its threads."""
    options = {"num_cpus": settings.threads}
    deployed = People.options(
        num_replicas=replicas, ray_actor_options=options, max_ongoing_requests=4 * BATCH
    )
    return deployed.bind(settings, Photos.remote(PHOTOS))


def main() -> None:
    """Serves until Ctrl-C, to this machine only."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, or an artifact's directory")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each replica")
    parser.add_argument("--backend")
    parser.add_argument("--precision")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    settings = Settings(given.model, given.backend, given.precision, given.threads)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    serve.run(app(settings, given.replicas), blocking=True)


if __name__ == "__main__":
    main()
