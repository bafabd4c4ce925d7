"""`flowpose serve` and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowpose.cli_options import ModelName, Threads, say
from flowpose.errors import MissingDependency, TargetMismatch

if TYPE_CHECKING:
    from flowpose.runtime import Model

INSTALL = "pip install 'flowpose[serve]'"


def serve(
    model: ModelName = "people-128",
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; any but this machine's own needs a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free")] = 8008,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="FLOWPOSE_TOKEN", help="what clients have to show; made where one is needed"),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="a host name that leads here, as behind a proxy")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="another site whose pages may come, as https://example.org")
    ] = None,
    clients: Annotated[int, typer.Option("--clients", min=1, help="at once")] = 16,
    context_mb: Annotated[float, typer.Option("--context-mb", min=1, help="MB of all clients' people")] = 256.0,
    idle: Annotated[
        float, typer.Option("--idle", min=1, help="seconds after which a silent client is sent away")
    ] = 600.0,
    backend: Annotated[str | None, typer.Option("--backend", help="onnxruntime or openvino, for one")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, fp16 or int8")] = None,
    threads: Threads = None,
) -> None:  # fmt: skip
    """A page on which a person moves as you drag joints or play a motion; and an API, see docs/serving.md."""
    try:
        from flowpose.serve import serving
        from flowpose.serve.settings import Limits, place_of
    except ImportError as error:
        raise MissingDependency("flowpose serve", f"needs the package {error.name}", fix=INSTALL) from error
    from flowpose.runtime import load

    place = place_of(host, port, token, tuple(name or ()), tuple(origin or ()))
    limits = Limits(clients=clients, context_mb=context_mb, idle=idle)
    loaded = load(model, backend=backend, precision=precision, threads=threads, keep_mb=KEEP_MB)
    serving.serve(loaded, place, limits, target=_target(loaded), say=say)


KEEP_MB = (
    16.0  # of contexts of photos that were used last: the shipped people, and a photo that /infer gets again
)


def _target(model: Model) -> str | None:
    """The engine's target, or the shipped one that this machine is."""
    from flowpose.targeting import find_target

    own = (model.manifest.target or {}).get("name")
    if own is not None:
        return str(own)
    try:
        return find_target("auto").name
    except TargetMismatch:
        return None
