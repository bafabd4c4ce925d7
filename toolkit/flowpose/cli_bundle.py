"""The commands `flowpose bundle`, `unbundle` and `deploy`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowpose.cli_options import AsJson, ModelName, Threads, print_lines, put, say
from flowpose.spec.recipe import MARGIN

if TYPE_CHECKING:
    from flowpose.bundle import Bundle

BundlePath = Annotated[Path, typer.Argument(help="a .tar, .tar.gz or folder that flowpose bundle made")]
Targets = Annotated[
    list[str], typer.Option("--target", help="a device that it is meant for; may be given again")
]
Sign = Annotated[Path | None, typer.Option("--key", help="sign with this ed25519 private key (PEM)")]
Signer = Annotated[
    Path | None, typer.Option("--key", help="the ed25519 public key (PEM) of who must have signed it")
]
Wheel = Annotated[Path | None, typer.Option("--wheel", help="flowpose's wheel; without it one is built")]
NoWheel = Annotated[
    bool, typer.Option("--no-wheel", help="leave flowpose itself out; it cannot be deployed then")
]


def bundle(
    model: ModelName,
    target: Targets,
    out: Annotated[Path, typer.Option("-o", "--out", help="a .tar, a .tar.gz, else a folder")],
    precision: Annotated[str, typer.Option(help="what the device compiles; auto measures all")] = "auto",
    margin: Annotated[float, typer.Option(help="times as fast that a reduced precision must be")] = MARGIN,
    threads: Threads = None,
    key: Sign = None,
    wheel: Wheel = None,
    no_wheel: NoWheel = False,
    fp16: Annotated[
        bool,
        typer.Option("--fp16/--no-fp16", help="add fp16 graphs where a target has a GPU (flowpose halve)"),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """One sealed file for a device: the graphs, their goldens, targets, and flowpose itself."""
    from flowpose.bundle import seal
    from flowpose.bundle_record import Compiling
    from flowpose.own_wheel import build_wheel

    if wheel is not None and no_wheel:
        raise typer.BadParameter("--wheel and --no-wheel exclude each other")
    asked = {"precision": precision, "margin": margin, "threads": threads}
    compiling = Compiling.parse(asked, "bundle")
    with tempfile.TemporaryDirectory() as folder:
        taken = None if no_wheel else wheel if wheel is not None else build_wheel(Path(folder))
        given = _with_fp16(model, target, Path(folder)) if fp16 else model
        made = seal(given, target, out, key=key, wheel=taken, compiling=compiling)
    then = f"flowpose deploy {made.path} --host USER@DEVICE --target {next(iter(made.record.targets))}"
    put(_about(made), as_json, lambda: print_lines([str(made.path)]), then)


def _with_fp16(model: str, targets: list[str], folder: Path) -> str:
    """The model with fp16 graphs where a target has a GPU and the model takes them; made in the folder."""
    from flowpose.artifact import open_artifact
    from flowpose.errors import needing
    from flowpose.spec.find import find
    from flowpose.spec.reading import load_target

    graph = open_artifact(find("models", model))
    if not graph.manifest.takes_halves() or all(load_target(each).gpu is None for each in targets):
        return model
    with needing("bundle", "train,quantize"):
        from flowpose.export.halves import with_halves
    say("adding fp16 graphs, which the GPU is fast in (--no-fp16 leaves them out)")
    return str(with_halves(graph, folder).path)


def unbundle(
    path: BundlePath,
    into: Annotated[Path, typer.Option("--into", help="a new folder; it is there whole or not at all")],
    key: Signer = None,
    as_json: AsJson = False,
) -> None:
    """A bundle checked to the last byte and unpacked into a new folder."""
    from flowpose.bundle import open_bundle

    opened = open_bundle(path, into, key=key)
    target = next(iter(opened.record.targets))
    then = f"flowpose compile {opened.model} --target {opened.target(target)}"
    put(_about(opened), as_json, lambda: print_lines([str(opened.path)]), then)


def deploy(
    path: BundlePath,
    host: Annotated[str, typer.Option("--host", help="as ssh takes it: user@name")],
    target: Annotated[str, typer.Option("--target", help="one that the bundle is meant for")],
    jetpack: Annotated[str | None, typer.Option("--jetpack", help="the device's release, as 6.2.1")] = None,
    folder: Annotated[str, typer.Option("--folder", help="of the device, in the home folder")] = "flowpose",
    out: Annotated[Path, typer.Option("--out", help="folder of this machine for what was measured")] = Path(
        "results"
    ),
    key: Signer = None,
    run: Annotated[
        bool, typer.Option("--run/--dry-run", help="carry the commands out, or print them")
    ] = False,
    start: Annotated[str | None, typer.Option("--from", help="go on from this step")] = None,
    as_json: AsJson = False,
) -> None:
    """A bundle installed, compiled, checked and measured on a device over ssh; prints the commands unless --run."""
    from flowpose.bundle import read_bundle
    from flowpose.deploy import from_step, plan, script
    from flowpose.deploy_run import carry_out
    from flowpose.device.jetpack import line_of
    from flowpose.spec.reading import load_target

    board = load_target(target)
    lines = [release.name for release in board.releases]
    line = line_of(jetpack, lines) if jetpack is not None and lines else jetpack
    read = read_bundle(path, key=key)
    steps = plan(read, host, board, folder=folder, jetpack=line, key=key, results=out)
    steps = from_step(steps, start)
    result: dict[str, Any] = {"steps": [asdict(step) for step in steps], "run": run}
    if run:
        result["done"] = carry_out(steps, say=say)
        result["latency"] = str(out / "latency.json")
    shown = [result["latency"]] if run else [script(steps).rstrip()]
    put(
        result,
        as_json,
        lambda: print_lines(shown),
        None if run else "the same command with --run, or paste the lines",
    )


def _about(made: Bundle) -> dict[str, Any]:
    plain = made.record.model_dump(mode="json")
    return {"path": str(made.path), "signed": made.signed, "sha256": made.record.digest(), **plain}
