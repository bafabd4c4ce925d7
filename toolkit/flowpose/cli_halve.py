"""`flowpose halve`."""

from __future__ import annotations

from flowpose.cli_options import ARTIFACTS, AsJson, ModelName, Root, print_lines, put


def halve(graph: ModelName, out: Root = ARTIFACTS, as_json: AsJson = False) -> None:
    """A graph with fp16 graphs for GPUs beside its own, checked on its goldens; needs the quantize extra."""
    from flowpose.artifact import open_artifact
    from flowpose.errors import needing
    from flowpose.spec.find import find

    with needing("halve", "train,quantize"):
        from flowpose.export.halves import with_halves

    made = with_halves(open_artifact(find("models", graph)), out)
    shown = made.manifest.model_dump(mode="json", include={"key", "graphs", "measurements"})
    then = f"flowpose compile {made.path} --target auto"
    put({"path": str(made.path), **shown}, as_json, lambda: print_lines([str(made.path)]), then)
