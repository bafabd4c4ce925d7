"""`flowpose live` and its options."""

from __future__ import annotations

import os
import signal
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowpose.cli_infer import (
    BackgroundText,
    Det,
    EstimatorName,
    Format,
    Least,
    ModelOption,
    OutSize,
    Person,
    PoseNetwork,
    Retarget,
    SourcePose,
    person_of,
)
from flowpose.cli_options import AsJson, Threads, print_lines, put, say
from flowpose.errors import FlowposeError

if TYPE_CHECKING:
    from flowpose.infer_command import InferOptions
    from flowpose.live_feeds import Feed
    from flowpose.live_outputs import Output

OUTPUTS = "--out FILE.mp4, --out - (raw frames on stdout), --out FIFO, --mjpeg PORT or --window"


def live(
    source: Annotated[Path, typer.Option("--source", help="a picture of the person")],
    camera: Annotated[
        str | None, typer.Option("--camera", help="a camera's number, a video file (at its own pace) or an address")
    ] = None,
    poses: Annotated[
        str | None, typer.Option("--poses", help="- or a pipe: JSON lines, a frame a line; or a pose file at its pace")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help=".mp4, .gif, .webp; - or a pipe: raw rgb24 frames")
    ] = None,
    mjpeg: Annotated[
        int | None, typer.Option("--mjpeg", min=0, max=65535, help="a page on this machine's port; 0: any that is free")
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="a window, where OpenCV has them")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="end by itself after so long")] = None,
    model: ModelOption = "people-128",
    format: Format = None,
    canvas: Annotated[
        str | None, typer.Option("--canvas", help="WIDTHxHEIGHT of lines that do not give it; else the photo's")
    ] = None,
    fps: Annotated[float, typer.Option("--fps", help="frames a second of a film that is written")] = 30.0,
    person: Person = None,
    smooth: Annotated[bool, typer.Option("--smooth/--no-smooth", help="takes jitter out of the joints")] = True,
    hold: Annotated[float, typer.Option("--hold", min=0, help="seconds that joints which vanish are held")] = 0.25,
    retarget: Retarget = False,
    background: BackgroundText = "made",
    size: OutSize = "model",
    source_pose: SourcePose = "judge",
    estimator: EstimatorName = "rtmlib",
    det: Det = None, pose_network: PoseNetwork = None, least: Least = None,
    threads: Threads = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The person of a photo moves as a camera, a video or another program says, in real time."""
    from flowpose.estimating import EstimatorOptions
    from flowpose.infer_command import InferOptions
    from flowpose.live_command import run_live

    if as_json and out == "-":
        raise FlowposeError("--json", "stdout is taken by --out -", fix="leave one of them out")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's end is Ctrl-C
    options = InferOptions(
        model=model, format=format, fps=fps, person=person_of(person), smooth=smooth, hold=hold, retarget=retarget,
        background=background, size=size, source_pose=source_pose, estimator=estimator,
        estimating=EstimatorOptions(det, pose_network, least, threads), threads=threads,
    )  # fmt: skip
    if out is None and mjpeg is None and not window:
        raise FlowposeError("flowpose live", "nowhere to show frames", expected=OUTPUTS)
    with closing(_feed(camera, poses, source, canvas, options)) as feed:
        outputs = _outputs(out, mjpeg, window, fps)
        summary = run_live(source, feed, outputs, options, seconds=seconds, say=say)
    put(summary.plain, as_json, lambda: _told(summary.lines(), out == "-"))


def _told(lines: list[str], aside: bool) -> None:
    """The summary on stdout, or on stderr where stdout carries frames."""
    if not aside:
        print_lines(lines)
    for line in lines if aside else ():
        say(line)


def _outputs(out: str | None, mjpeg: int | None, window: bool, fps: float) -> list[Output]:
    from flowpose.live_outputs import FilmOutput, PageOutput, RawOutput, WindowOutput

    found: list[Output] = []
    if window:
        found.append(WindowOutput())
    if out == "-":
        found.append(RawOutput(os.fdopen(os.dup(sys.stdout.fileno()), "wb")))
    elif out is not None and _is_pipe(out):
        say(f"{out}: waiting for a reader")
        found.append(RawOutput(os.fdopen(os.open(out, os.O_WRONLY), "wb")))
    elif out is not None:
        found.append(FilmOutput(Path(out), fps))
    if mjpeg is not None:
        page = PageOutput(mjpeg)
        say(f"page: {page.address}")
        found.append(page)
    return found


def _feed(
    camera: str | None, poses: str | None, source: Path, canvas: str | None, options: InferOptions
) -> Feed:
    if (camera is None) == (poses is None):
        got = "neither" if camera is None else "both"
        raise FlowposeError(
            "flowpose live", "wants one source of poses", got=got, expected="--camera or --poses"
        )
    if camera is not None:
        return _camera_feed(camera, options)
    assert poses is not None
    return _pose_feed(poses, source, canvas, options)


def _camera_feed(camera: str, options: InferOptions) -> Feed:
    from flowpose.estimating import open_estimator
    from flowpose.estimating.video import Camera
    from flowpose.live_feeds import CameraFeed

    estimator = open_estimator(options.estimator, options.estimating)
    person = "nearest" if options.person is None else options.person
    return CameraFeed(Camera(int(camera) if camera.isdecimal() else camera), estimator, person)


def _pose_feed(poses: str, source: Path, canvas: str | None, options: InferOptions) -> Feed:
    from flowpose import image
    from flowpose.live_feeds import LinesFeed, MotionFeed
    from flowpose.pose_files import read_motion
    from flowpose.pose_files.frames import Asked

    picture, person = image.read(source), 0 if options.person is None else options.person
    size = _canvas(canvas) if canvas is not None else (picture.shape[0], picture.shape[1])
    if poses != "-" and not _is_pipe(poses):
        return MotionFeed(read_motion(poses, format=options.format, size=size, person=person))
    if poses != "-":
        say(f"{poses}: waiting for a writer")
    descriptor = sys.stdin.fileno() if poses == "-" else os.open(poses, os.O_RDONLY)
    return LinesFeed(descriptor, Asked(options.format, size), person)


def _canvas(text: str) -> tuple[int, int]:
    """(height, width) of a text that says width before height, as screens and videos do."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise FlowposeError("--canvas", "no size", got=f"'{text}'", expected="WIDTHxHEIGHT, as 640x480")
    return int(parts[1]), int(parts[0])


def _is_pipe(path: str) -> bool:
    return Path(path).exists() and stat.S_ISFIFO(Path(path).stat().st_mode)
