"""The command line. Results go to stdout (one JSON document with --json), progress and advice to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flowpose.cli_bench import bench
from flowpose.cli_bundle import bundle, deploy, unbundle
from flowpose.cli_calibrate import calibrate
from flowpose.cli_compile import compile_
from flowpose.cli_data import data
from flowpose.cli_doctor import doctor
from flowpose.cli_halve import halve
from flowpose.cli_infer import infer
from flowpose.cli_inspect import inspect
from flowpose.cli_live import live
from flowpose.cli_options import (
    ARTIFACTS,
    AsJson,
    DataRoot,
    ModelName,
    Overrides,
    RecipeName,
    Root,
    TargetName,
    Threads,
    Waivers,
    print_lines,
    put,
    say,
)
from flowpose.cli_predict import predict
from flowpose.cli_report import report
from flowpose.cli_serve import serve
from flowpose.cli_triton import triton
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import FlowposeError, SpecError
from flowpose.half_made import refused
from flowpose.job import Stage
from flowpose.spec.base import one_of
from flowpose.spec.find import Kind, shipped

if TYPE_CHECKING:
    from flowpose.pipeline import Done, Run

app = typer.Typer(
    help="One photo and a stream of poses in, pictures of that person in those poses out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _run(
    recipe: str,
    out: Path,
    data: list[Path] | None,
    overrides: list[str] | None,
    waive: list[str] | None = None,
) -> Run:
    from flowpose.pipeline import Run
    from flowpose.spec.reading import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    gates = {gate.metric for gate in loaded.gates}
    bad = [f"{each}: expected metric=REASON" for each in waive or () if "=" not in each]
    bad += [
        f"{each}: no gate of {loaded.name}, expected {one_of(gates)}"
        for each in waive or ()
        if "=" in each and each.split("=")[0] not in gates
    ]
    if bad:
        raise SpecError("--waive", bad)
    return Run(
        recipe=loaded,
        root=out,
        data=tuple(data) if data else DEFAULT_ROOTS,
        waive=dict(each.split("=", 1) for each in waive or ()),
        say=say,
    )


def _show_stages(done: list[Done]) -> None:
    console = Console()
    for each in done:
        console.print(
            f"{each.stage:12} {each.artifact.manifest.key[:12]}  {each.artifact.path}", highlight=False
        )


@app.command()
def run(
    recipe: RecipeName, target: TargetName = "auto", out: Root = ARTIFACTS, data: DataRoot = None,
    overrides: Overrides = None, waive: Waivers = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Everything: data, train, distill, quantize, export, compile, report. What is there is skipped."""
    from flowpose import pipeline
    from flowpose.targeting import find_target

    made, folder = pipeline.run(_run(recipe, out, data, overrides, waive), find_target(target))
    result = {"stages": [each.plain() for each in made], **json.loads((folder / "report.json").read_text())}
    result["report"] = str(folder / "report.html")

    def show() -> None:
        from flowpose.cli_tables import contest, waterfall

        Console().print(waterfall(result["rows"]), contest(made[-1].artifact.manifest), sep="\n")
        Console().print(f"report: {folder}/report.html   sheet: {folder}/sheet.png", highlight=False)

    put(result, as_json, show, f"flowpose bench {made[-1].artifact.path}")


STAGE_COMMANDS: tuple[tuple[Stage, str, str], ...] = (
    ("train", "The autoencoder and the teacher of a recipe.", "flowpose distill {}"),
    ("distill", "The one-step student of a recipe, and what it needs before.", "flowpose quantize {}"),
    ("quantize", "The INT8 student of a recipe, and what it needs before.", "flowpose export {}"),
    ("export", "The ONNX graphs of a recipe, and what they need before.", "flowpose run {} --target cpu"),
)
"""The commands that make a recipe up to a stage: stage, help, and what to do next."""


def _stage_command(until: Stage, then: str) -> Callable[..., None]:
    def command(
        recipe: RecipeName, out: Root = ARTIFACTS, data: DataRoot = None, overrides: Overrides = None,
        waive: Waivers = None, as_json: AsJson = False,
    ) -> None:  # fmt: skip
        done = _run(recipe, out, data, overrides, waive).stages(until)
        put([each.plain() for each in done], as_json, lambda: _show_stages(done), then.format(recipe))

    return command


for _stage, _text_of_help, _then in STAGE_COMMANDS:
    app.command(name=_stage, help=_text_of_help)(_stage_command(_stage, _then))

app.command()(calibrate)


app.command(name="compile")(compile_)
app.command()(bench)


@app.command()
def evaluate(
    model: ModelName,
    split: Annotated[str, typer.Option(help="of the data set, as val or test")] = "test",
    data: Annotated[
        Path | None, typer.Option(help="a tar or folder of people, a folder of splits, or a data root")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=2, help="pairs that are drawn")] = 64,
    sheet: Annotated[Path | None, typer.Option(help="a contact sheet is written here")] = None,
    backend: Annotated[str | None, typer.Option(help="onnxruntime or openvino")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Quality of a model beside the truth, the copied source, its teacher and the other baselines."""
    from flowpose.evaluate_command import evaluate_model

    result = evaluate_model(
        model,
        split=split,
        path=data,
        pairs=pairs,
        sheet_file=sheet,
        backend=backend,
        threads=threads,
        say=say,
    )

    def table() -> None:
        from flowpose.cli_tables import quality

        Console().print(quality(result))

    put(result, as_json, table, f"flowpose bench {model}")


app.command()(infer)
app.command()(live)
app.command()(serve)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="where pictures and figures go")] = Path("out"),
    threads: Threads = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The shipped model on shipped pictures: a contact sheet, a motion, a latency table."""
    from dataclasses import asdict

    from flowpose.demo import run_demo

    made = run_demo(out, threads=threads, say=say)
    result = {
        "files": [str(path) for path in made.files],
        "latency": [asdict(row) for row in made.latency],
        "seconds": made.seconds,
    }
    put(result, as_json, lambda: None, "flowpose run tiny --target cpu")


@app.command()
def verify(model: ModelName, threads: Threads = None, as_json: AsJson = False) -> None:
    """Every file's digest, and every golden input again on this machine."""
    from dataclasses import asdict

    from flowpose.artifact import open_artifact
    from flowpose.runtime import load
    from flowpose.spec.find import find

    path = find("models", model)
    open_artifact(path)  # before anything parses a file that may have been changed
    loaded = load(path, threads=threads, verify=False)
    replay = loaded.verify()
    text = f"{loaded.path}: {replay.n} goldens replayed on {loaded.backend}, all within tolerance"
    result = {"path": str(loaded.path), "backend": loaded.backend, "replay": asdict(replay)}
    put(result, as_json, lambda: print_lines([text]), f"flowpose bench {loaded.path}")


NEXT = {
    "autoencoder": "flowpose train {name}",
    "model": "flowpose distill {name}",
    "student": "flowpose quantize {name}",
    "quantized": "flowpose export {name}",
    "graph": "flowpose compile {path} --target auto",
    "engine": "flowpose verify {path}",
}
"""What to do next with an artifact, by its kind."""


@app.command()
def show(artifact: ModelName, as_json: AsJson = False) -> None:
    """What an artifact is, what made it and how good it is."""
    from flowpose.artifact import open_artifact
    from flowpose.cli_tables import card
    from flowpose.spec.find import find

    found = open_artifact(find("models", artifact))
    manifest = found.manifest
    then = NEXT[manifest.kind].format(name=manifest.name, path=found.path)
    put(manifest.model_dump(mode="json"), as_json, lambda: Console().print(card(manifest)), then)


app.command(name="inspect")(inspect)
app.command()(report)
app.command()(doctor)
app.add_typer(data, name="data")
app.command()(predict)
for _command in (halve, bundle, unbundle, deploy, triton):
    app.command()(_command)


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """The recipes that ship with the package."""
    from flowpose.spec.reading import load_recipe

    _listing("recipes", lambda name: load_recipe(name).description, as_json, "flowpose run {} --target cpu")


@app.command()
def targets(as_json: AsJson = False) -> None:
    """The targets that ship with the package: their rates, memory, backends and software."""
    from flowpose.cli_targets import targets, targets_table

    put(targets(), as_json, lambda: Console().print(targets_table()), "flowpose predict people-128")


@app.command()
def models(as_json: AsJson = False) -> None:
    """The models that ship with the package."""
    from flowpose.artifact import open_artifact
    from flowpose.spec.find import find

    def about(name: str) -> str:
        return open_artifact(find("models", name), verify=False).manifest.card.get("data", "")

    _listing("models", about, as_json, "flowpose show {}")


def _listing(kind: Kind, about: Callable[[str], str], as_json: bool, then: str) -> None:
    rows = [
        {"name": name, "path": str(path), "about": about(name)}
        for name, path in sorted(shipped(kind).items())
    ]

    def table() -> None:
        for row in rows:
            Console().print(
                f"{row['name']:24} {' '.join(row['about'].split())}", highlight=False, markup=False
            )

    put(rows, as_json, table, then.format(rows[0]["name"]) if rows else None)


ERROR_PARTS = ("where", "what", "got", "expected", "fix")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def main() -> None:
    """The entry point: a flowpose error becomes one message and exit code 1; so does the system's about a file."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a full disk must show now
    except FlowposeError as error:
        _end(error)
    except OSError as error:  # of a file that no command foresaw
        _end(refused(error.filename or "output", error))


def _end(error: FlowposeError) -> None:
    """Says what went wrong, on stdout too where JSON is wanted and it still takes something, and ends the process."""
    if "--json" in sys.argv:
        problem = {
            "error": type(error).__name__,
            **{name: _text(getattr(error, name)) for name in ERROR_PARTS},
        }
        with suppress(OSError):
            sys.stdout.write(json.dumps(problem, indent=1) + "\n")
            sys.stdout.flush()
    say(f"error: {error}")
    try:
        sys.stdout.flush()
    except OSError:  # what it still holds would make Python complain while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == "__main__":
    main()
