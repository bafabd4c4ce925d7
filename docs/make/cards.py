"""A hook of MkDocs: a card for each shipped model, made of its manifest and of what was measured of it on test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from flowpose.artifact import open_artifact
from flowpose.spec.find import shipped
from flowpose.spec.manifest import Ancestor, Manifest

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"
SHOWN = {
    "own_lpips": ("own-LPIPS", 3),
    "spectrum_top": ("top octave", 2),
    "grid": ("grid", 2),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "pck": ("PCK@0.1", 3),
    "kid": ("KID", 3),
    "jitter": ("jitter", 2),
}
"""A metric -> its heading and decimals. What they mean: docs/guides/distill.md."""
SPLITS = ("val", "test")
ROWS = (
    "truth",
    "copy-source",
    "l1",
    "teacher-1",
    "teacher-2",
    "teacher-16",
    "student-1",
    "student-2",
    "int8",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds models/NAME.md for each shipped model."""
    for name, path in shipped("models").items():
        text = card(open_artifact(path, verify=False).manifest, path)
        files.append(File.generated(config, f"models/{name}.md", content=text))
    return files


def card(manifest: Manifest, path: Path) -> str:
    """The page of a model: what it is, its data, figures, flaws and licence, and how it was made."""
    name = manifest.name
    return "\n\n".join(
        [
            f"# {name}",
            f"Made by the recipe [{name}](../../recipes/{name}.yaml); this page is made of the model's "
            f"[manifest](../../toolkit/flowpose/models/{name}/manifest.json), which `flowpose show {name}` prints.",
            facts(manifest, path),
            *(f"## {key.capitalize()}\n\n{text}" for key, text in manifest.card.items()),
            "What the figures mean: [Read the result](../guides/distill.md#read-the-result).",
            *figures(manifest),
            *pictures(name),
            "## How it was made\n\n" + history(manifest),
        ]
    )


def facts(manifest: Manifest, path: Path) -> str:
    """Picture, pose, graphs, size and digest."""
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    graphs = [f"{each.name} {each.precision}" for each in manifest.graphs]
    rows = {
        "picture": f"{manifest.image.height} x {manifest.image.width} (height x width), red green blue, 8 bits",
        "pose": f"{manifest.pose.format}; other formats are converted ([poses](../poses.md))",
        "evaluations": str(len(manifest.times) - 1),
        "graphs": ", ".join(dict.fromkeys(graphs)),
        "files": f"{size / 1e6:.1f} MB, {len(manifest.files)} files with a sha256 each",
        "key": f"`{manifest.key}`",
    }
    return table(("model", manifest.name), rows.items())


def figures(manifest: Manifest) -> list[str]:
    """Quality on val and on test, as the stored evaluations of this model have it.

    Raises:
        PluginError: a stored evaluation is of another model.
    """
    name, texts = manifest.name, []
    for split in SPLITS:
        file = RESULTS / f"{name}-{split}.json"
        if not file.is_file():
            continue
        stored = json.loads(file.read_text("utf-8"))
        again = f"flowpose evaluate {name} --split {split} --json"
        if stored["key"] != manifest.key:
            raise PluginError(f"{file.name} is not of the model that ships, make it again: {again}")
        rows = {
            row["name"]: {m: part["value"] for m, part in row["metrics"].items()} for row in stored["rows"]
        }
        source = f"[n and intervals](../../benchmarks/results/{file.name}), by `{again}`"
        about = f"{stored['n']} pairs of {stored['set']}; {source}."
        texts.append(f"## Quality on {split}\n\n{about}\n\n{quality(rows)}")
    return texts


def quality(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The table of the metrics that somebody measured."""
    shown = {metric: how for metric, how in SHOWN.items() if any(metric in row for row in rows.values())}
    lines = [
        (
            name,
            *(f"{rows[name][m]:.{digits}f}" if m in rows[name] else "" for m, (_, digits) in shown.items()),
        )
        for name in ROWS
        if name in rows
    ]
    return table(("row", *(heading for heading, _ in shown.values())), lines)


def pictures(name: str) -> list[str]:
    """The contact sheets of docs/ that bear the model's name."""
    sheets = {"": "val", "-test": "test", "-real-poses": "poses of photographs"}
    found = [
        (f"{name}{part}.webp", of) for part, of in sheets.items() if (DOCS / f"{name}{part}.webp").is_file()
    ]
    return ["## Pictures", *(f"{of}:\n\n![{of}](../{file})" for file, of in found)] if found else []


def history(manifest: Manifest) -> str:
    """Stages with their keys and the iterations they were trained for, and the versions of what made them."""
    rows = [(step.stage["name"], f"`{step.key[:12]}`", measured(step)) for step in manifest.history]
    made = ", ".join(f"{package} {version}" for package, version in manifest.built_with.items())
    return table(("stage", "key", "measured then"), rows) + f"\n\nMade with {made}."


def measured(step: Ancestor) -> str:
    """What says most of a stage: its one-step row, or its first measurement."""
    found = {f"{each.stage}.{each.metric}": each for each in step.measurements}
    best = (
        found.get("student-1.own_lpips")
        or found.get("teacher-16.own_lpips")
        or next(iter(found.values()), None)
    )
    return f"{best.stage} {best.metric} {best.value:.3g} {best.unit} (n = {best.n})" if best else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
