"""`flowpose triton`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowpose.cli_options import AsJson, ModelName, print_lines, put


def triton(
    model: ModelName,
    out: Annotated[Path, typer.Option("-o", "--out", help="the model repository; made, or added to")],
    precision: Annotated[str, typer.Option(help="of the frame graph")] = "fp32",
    backend: Annotated[
        Literal["onnxruntime", "tensorrt"], typer.Option(help="tensorrt: an engine built with it")
    ] = "onnxruntime",
    version: Annotated[int, typer.Option(min=1, help="the version's folder")] = 1,
    instances: Annotated[int, typer.Option(min=1, help="of each graph, on each device")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu/--cpu", help="where they run")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run")] = 2,
    as_json: AsJson = False,
) -> None:
    """A Triton model repository: the source graph, the frame graph, and an ensemble of both."""
    from flowpose.artifact import open_artifact
    from flowpose.spec.find import find
    from flowpose.triton import Serving, write_repository

    serving = Serving(
        backend=backend, precision=precision, version=version, instances=instances, gpu=gpu, threads=threads
    )
    made = write_repository(open_artifact(find("models", model)), out, serving)
    result = {"repository": str(out), "models": [each.name for each in made], "version": version}
    then = f"tritonserver --model-repository {out} --cache-config local,size={1 << 28}"
    put(result, as_json, lambda: print_lines([str(each) for each in made]), then)
