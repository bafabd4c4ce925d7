"""The application: the page, the API that programs use, and the WebSocket, behind one gate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from flowpose import __version__, samples
from flowpose.errors import FlowposeError
from flowpose.pose import DEEPFASHION, FORMATS
from flowpose.runtime import Model
from flowpose.serve import drawing_requests as drawing
from flowpose.serve.access import Gate
from flowpose.serve.clients import House
from flowpose.serve.live import live
from flowpose.serve.meters import CONTENT_TYPE_LATEST, Meters
from flowpose.serve.openapi import MOTION, PICTURES, answers, described
from flowpose.serve.page import page_files
from flowpose.serve.problems import Refused, invalid, respond, unexpected
from flowpose.serve.protocol import ENCODINGS, VERSION
from flowpose.serve.settings import Limits, Place
from flowpose.serve.uploads import Upload

__all__ = ["application"]

Format = Literal[
    "coco-17", "openpose-18", "body-25", "openpose-137", "coco-wholebody-133", "mediapipe-33", "mediapipe-holistic-543",
    "mediapipe-holistic-553", "deepfashion-18",
]  # fmt: skip
assert set(Format.__args__) == {*FORMATS, DEEPFASHION}  # type: ignore[attr-defined]

OPEN = ("/health", "/openapi.json")  # paths beside the page's that need no token
FormatField = Annotated[Format | None, Form(description="of the joints, where their number does not tell it")]


def application(
    model: Model, place: Place, limits: Limits | None = None, *, target: str | None = None
) -> Gate:
    """Returns the whole server as an ASGI application; its threads run from its start to its end.

    Args:
        model: a loaded model.
        place: who may come.
        limits: how much of everything.
        target: name of the machine's target, shown on the page.
    """
    bounds, meters = limits or Limits(), Meters()
    app = FastAPI(
        title="flowpose", version=__version__, docs_url=None, redoc_url=None, lifespan=_life(model, bounds, meters),
        description="One photo of a person and a pose in, that person in that pose out.",
    )  # fmt: skip
    _tell_errors(app, meters)
    _add_page(app)
    _add_state(app, target)
    _add_drawing(app)
    _add_live(app)
    described(app, secured=place.token is not None)
    free = frozenset((*page_files(), *OPEN))
    paths = frozenset((*free, "/model", "/metrics", "/motions/sample", "/motions", "/infer", "/live"))
    return Gate(app, place, bounds, free, paths, meters)


def _life(model: Model, limits: Limits, meters: Meters) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        house = House(model, limits, meters)
        app.state.house = house
        try:
            yield
        finally:
            house.stop()

    return life


def _house(request: Request | WebSocket) -> House:
    found: House = request.app.state.house
    return found


def _tell_errors(app: FastAPI, meters: Meters) -> None:
    """Every error becomes JSON that says what is wrong, and is counted."""

    async def typed(request: Request, error: FlowposeError) -> JSONResponse:
        meters.erred(error)
        return respond(error)

    async def fields(request: Request, error: RequestValidationError) -> JSONResponse:
        meters.erred(Refused(422, "request", "invalid"))
        return invalid(error)

    async def other(request: Request, error: HTTPException) -> JSONResponse:
        meters.erred(Refused(error.status_code, "request", "refused"))
        return unexpected(error)

    async def own_fault(request: Request, error: Exception) -> JSONResponse:
        fault = FlowposeError("server", f"failed ({type(error).__name__}); its log says where")
        meters.erred(fault)
        return respond(fault, {"Connection": "close"})  # uvicorn closes it after a fault

    for kind, tell in (
        (FlowposeError, typed), (RequestValidationError, fields), (HTTPException, other), (Exception, own_fault),
    ):  # fmt: skip
        app.add_exception_handler(kind, tell)  # type: ignore[arg-type]


def _add_page(app: FastAPI) -> None:
    for path, file in page_files().items():
        app.add_api_route(path, _file(file.data, file.media_type), include_in_schema=False)


def _file(data: bytes, media_type: str) -> Callable[[], Any]:
    async def file() -> Response:
        return Response(data, media_type=media_type)

    return file


def _add_state(app: FastAPI, target: str | None) -> None:
    @app.get("/health", responses=answers("Health", 503), operation_id="health")
    async def health(request: Request) -> JSONResponse:
        """Whether frames can be drawn."""
        house = _house(request)
        if house.drawer.failure is not None:
            raise house.drawer.failure
        return JSONResponse({"status": "ok", "model": house.model.manifest.name, "version": __version__})

    @app.get("/model", responses=answers("Model", 401), operation_id="model")
    async def about(request: Request) -> JSONResponse:
        """The model, its pose format, and what the server takes."""
        return JSONResponse(_about(_house(request), target))

    @app.get("/metrics", responses=answers("Metrics", 401), operation_id="metrics")
    async def metrics(request: Request) -> Response:
        """Frames, latencies, clients, drops and errors for Prometheus."""
        return Response(_house(request).meters.text(), media_type=CONTENT_TYPE_LATEST)


def _about(house: House, target: str | None) -> dict[str, Any]:
    model, limits = house.model, house.limits
    form = FORMATS[model.manifest.pose.format]
    return {
        "name": model.manifest.name, "size": list(model.size), "precision": model.precision,
        "backend": model.backend, "threads": model.threads, "target": target, "protocol": VERSION,
        "format": form.name, "joints": list(form.joints), "limbs": [list(limb) for limb in form.limbs],
        "people": list(samples.PEOPLE), "encodings": list(ENCODINGS),
        "limits": {
            "photo_mb": limits.photo_mb, "megapixels": limits.megapixels, "poses_mb": limits.poses_mb,
            "poses": limits.poses, "sessions": limits.sessions, "idle": limits.idle,
        },
    }  # fmt: skip


def _add_drawing(app: FastAPI) -> None:
    @app.post("/infer", responses=answers(PICTURES, 400, 401, 413, 415, 422, 501, 503), operation_id="infer")
    async def infer(
        request: Request,
        photo: Annotated[UploadFile, File(description="a picture of the person: PNG, JPEG, WebP or BMP")],
        pose: Annotated[
            UploadFile, File(description="any pose file, or .json with rows [[x, y, score], ...] in pixels")
        ],
        format: FormatField = None,
        number: Annotated[int, Form(ge=0, le=100_000, description="which pose of the file")] = 0,
        output: Annotated[drawing.Output, Form(description="kind of the picture that comes back")] = "png",
        quality: Annotated[int, Form(ge=1, le=100, description="of a JPEG or WebP")] = 90,
    ) -> Response:
        """The person of a photo in a pose, as a picture of the model's size."""
        house = _house(request)
        one, other = await _upload(photo), await _upload(pose)
        data = await house.work(
            lambda: drawing.drawn(house.model, one, other, format, number, output, quality, house.limits)
        )
        return Response(data, media_type=f"image/{output}")

    @app.get("/motions/sample", responses=answers(MOTION, 401, 503), operation_id="sample_motion")
    async def sample_motion(request: Request) -> JSONResponse:
        """The shipped motion on the model's frame."""
        house = _house(request)
        return JSONResponse(
            await house.work(lambda: drawing.motion_table(house.model, drawing.sample_motion(house.model)))
        )

    @app.post(
        "/motions", responses=answers(MOTION, 400, 401, 413, 415, 422, 501, 503), operation_id="motions"
    )
    async def motions(
        request: Request,
        files: Annotated[
            list[UploadFile],
            File(min_length=1, description="a pose file, or several .json or .txt, a frame each"),
        ],
        format: FormatField = None,
        own: Annotated[
            str | None, Form(description="the photo's own pose; the motion gets its proportions")
        ] = None,
    ) -> JSONResponse:
        """A motion out of pose files, on the model's frame: what the page plays."""
        house = _house(request)
        uploads = [await _upload(file) for file in files]

        def told() -> dict[str, Any]:
            to = drawing.own_of(own, house.model)
            return drawing.motion_table(
                house.model, drawing.told_motion(house.model, uploads, format, to, house.limits)
            )

        return JSONResponse(await house.work(told))


async def _upload(file: UploadFile) -> Upload:
    return Upload(file.filename or "file", await file.read())


def _add_live(app: FastAPI) -> None:
    @app.websocket("/live")
    async def socket(websocket: WebSocket) -> None:
        await live(websocket, _house(websocket))
