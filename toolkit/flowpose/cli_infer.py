"""`flowpose infer`, its options, and those that `flowpose live` shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowpose.cli_options import AsJson, Threads, print_lines, put, say
from flowpose.errors import FlowposeError

ModelOption = Annotated[
    str, typer.Option("--model", help="a shipped model's name, or an artifact's directory")
]
Photo = Annotated[Path | None, typer.Option("--source", help="a picture of the person")]
Format = Annotated[str | None, typer.Option("--format", help="pose format, where the file does not tell")]
Person = Annotated[
    str | None, typer.Option("--person", help="of several people: a number from 0, largest or nearest")
]
Retarget = Annotated[
    bool,
    typer.Option("--retarget", help="gives the motion the proportions, size and place of the photo's person"),
]
BackgroundText = Annotated[
    str,
    typer.Option("--background", help="made, keep (the photo's own), #rrggbb, a picture's file, or alpha"),
]
OutSize = Annotated[
    Literal["model", "source"],
    typer.Option("--size", help="of frames: as the model makes them, or the photo's"),
]
SourcePose = Annotated[
    str, typer.Option("--source-pose", help="the photo's own pose: a file, or the estimator that finds it")
]
EstimatorName = Annotated[str, typer.Option("--estimator", help="finds people in pictures: rtmlib or judge")]
Det = Annotated[
    Path | None,
    typer.Option(
        "--det-model", envvar="FLOWPOSE_DET_MODEL", help="rtmlib: the network that finds people, ONNX"
    ),
]
PoseNetwork = Annotated[
    Path | None,
    typer.Option(
        "--pose-model", envvar="FLOWPOSE_POSE_MODEL", help="rtmlib: the network that finds joints, ONNX"
    ),
]
Least = Annotated[
    float | None,
    typer.Option("--least", help="joints with a lower score are missing: 0.3; RTMW's go to 5, try 2"),
]


def person_of(text: str | None) -> int | str | None:
    """Returns what --person names: a number as one."""
    return int(text) if text is not None and text.isdecimal() else text


def _one(name: str, positional: Path | None, option: Path | None) -> Path:
    if (positional is None) == (option is None):
        got = "neither" if positional is None else f"{positional} and --{name} {option}"
        raise FlowposeError(
            name, "is wanted once", got=got, expected=f"--{name} FILE", fix="flowpose infer --help"
        )
    given = positional if positional is not None else option
    assert given is not None
    return given


def infer(
    source: Annotated[Path | None, typer.Argument(help="the same as --source", show_default=False)] = None,
    pose: Annotated[Path | None, typer.Argument(help="the same as --poses", show_default=False)] = None,
    photo: Photo = None,
    poses: Annotated[
        Path | None, typer.Option("--poses", help="a motion: a pose file, a folder of them, or a video")
    ] = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="a picture, or .mp4, .gif, .webp")] = Path("out.png"),
    model: ModelOption = "people-128",
    format: Format = None,
    fps: Annotated[float | None, typer.Option("--fps", help="frames a second, else the motion's own")] = None,
    person: Person = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="takes jitter out of the joints")] = False,
    hold: Annotated[
        float | None, typer.Option("--hold", help="seconds that joints which vanish are held, then the last pose")
    ] = None,
    retarget: Retarget = False,
    background: BackgroundText = "made",
    size: OutSize = "model",
    source_pose: SourcePose = "judge",
    estimator: EstimatorName = "rtmlib",
    det: Det = None, pose_network: PoseNetwork = None, least: Least = None,
    threads: Threads = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The person of a photo in the poses of a motion: a picture, numbered pictures, or a film.

    `flowpose infer SOURCE POSES -o OUT` is the same as with --source and --poses.
    """
    from flowpose.estimating import EstimatorOptions
    from flowpose.infer_command import InferOptions, infer_files

    options = InferOptions(
        model=model, format=format, fps=fps, person=person_of(person), smooth=smooth, hold=hold, retarget=retarget,
        background=background, size=size, source_pose=source_pose, estimator=estimator,
        estimating=EstimatorOptions(det, pose_network, least, threads), threads=threads,
    )  # fmt: skip
    result = infer_files(_one("source", source, photo), _one("poses", pose, poses), output, options, say=say)
    put(result, as_json, lambda: print_lines(result["files"]), f"flowpose bench {model}")
