"""The command `flowpose bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flowpose.cli_options import AsJson, ModelName, TargetName, Threads, listed, print_lines, put, say
from flowpose.errors import FlowposeError

Seconds = Annotated[float, typer.Option(help="of a stream; the least of a closed loop")]
ScenarioNames = Annotated[
    str,
    typer.Option("--scenario", help="loops that follow: single, multi (MLPerf's), open (a stream at a rate)"),
]
Rates = Annotated[
    str, typer.Option("--rate", help="poses a second of open loops, as 15,30,60; asks for `open`")
]
Policies = Annotated[str, typer.Option("--policy", help="what waits in an open loop: newest, fifo")]
Raw = Annotated[bool, typer.Option("--raw", help="every single sample in the JSON document")]
Html = Annotated[Path | None, typer.Option("--html", help="a page with distributions is written here")]


def bench(
    model: ModelName,
    target: TargetName = "auto",
    compare: Annotated[str, typer.Option(help="precisions, as int8,fp32")] = "",
    backends: Annotated[str, typer.Option(help="backends, as openvino,onnxruntime")] = "",
    runs: Annotated[int, typer.Option("-n", help="timed runs")] = 200,
    threads: Threads = None,
    cold: Annotated[bool, typer.Option("--cold/--no-cold", help="measure a fresh process's start too")] = True,
    cold_runs: Annotated[int, typer.Option(min=1, help="how many fresh processes")] = 1,
    scenario: ScenarioNames = "",
    rate: Rates = "",
    seconds: Seconds = 10.0,
    policy: Policies = "newest,fifo",
    html: Html = None,
    raw: Raw = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Latency of a model: percentiles a stage, parts of a frame, loops, memory, a cold start, and a verdict."""
    from flowpose.bench.scenarios import RATE, ScenarioPlan
    from flowpose.bench_command import BenchPlan, bench_model

    names = listed(scenario)
    plan = ScenarioPlan(
        names if not rate or "open" in names else (*names, "open"),
        tuple(_number(each) for each in listed(rate)) or (RATE,), seconds, listed(policy),  # type: ignore[arg-type]
    )  # fmt: skip
    found = bench_model(
        model, target,
        BenchPlan(
            precisions=listed(compare), backends=listed(backends), runs=runs, threads=threads,
            cold_runs=cold_runs if cold else 0, scenarios=plan,
        ),
    )  # fmt: skip
    if html is not None:
        from flowpose.report.latency_html import write_latency

        say(f"page: {write_latency(html, found.document)}")

    def show() -> None:
        Console().print(*found.tables, sep="\n")
        print_lines([found.document.verdict.line])

    put(found.document.plain(raw=raw), as_json, show, f"flowpose infer SOURCE POSE --model {model}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise FlowposeError("rate", "not a number", got=repr(text), expected="as 15,30,60") from error
