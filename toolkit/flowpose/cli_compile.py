"""`flowpose compile`."""

from __future__ import annotations

from typing import Annotated

import typer

from flowpose.cli_options import (
    ARTIFACTS,
    AsJson,
    ModelName,
    Root,
    TargetName,
    Threads,
    notes,
    print_lines,
    put,
    say,
)
from flowpose.spec.recipe import MARGIN

SHOWN = {"key", "backend", "precision", "built_for", "contest", "measurements", "gates", "card"}


def compile_(
    graph: ModelName, target: TargetName = "auto", out: Root = ARTIFACTS,
    precision: Annotated[str, typer.Option(help="auto measures all, and takes a reduced one if it wins")] = "auto",
    backend: Annotated[
        str | None, typer.Option("--backend", help="the target's only one to take; without it all take part")
    ] = None,
    margin: Annotated[float, typer.Option(help="times as fast that a reduced precision must be")] = MARGIN,
    threads: Threads = None,
    workspace: Annotated[
        int | None, typer.Option("--workspace", help="GPU memory that a TensorRT kernel may take, MB")
    ] = None,
    level: Annotated[int, typer.Option("--level", min=0, max=5, help="how long TensorRT looks for kernels")] = 3,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The engine of a graph, made on this machine: the backend and precision that win a contest are taken."""
    from flowpose.artifact import open_artifact
    from flowpose.compile import Request, compile_graph
    from flowpose.spec.find import find
    from flowpose.targeting import find_target

    request = Request(
        precision=precision,
        backend=backend,
        margin=margin,
        threads=threads,
        workspace_mb=workspace,
        level=level,
    )
    wanted = find_target(target)
    engine = compile_graph(open_artifact(find("models", graph)), wanted, out, request, say=say)
    manifest = engine.manifest
    result = {"path": str(engine.path), **manifest.model_dump(mode="json", include=SHOWN)}
    for gate in manifest.gates:
        if not gate.passed:
            say(
                f"budget missed: {gate.metric} is {gate.value:.4g}, target {wanted.name} allows {gate.limit:.4g}"
            )

    def show() -> None:
        from flowpose.cli_tables import contest

        notes().print(contest(manifest), soft_wrap=False)
        print_lines([str(engine.path)])

    put(result, as_json, show, f"flowpose bench {engine.path} --target {target}")
