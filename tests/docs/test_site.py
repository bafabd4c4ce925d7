"""`make docs`: strict, stopped by a dead link or a name without a docstring; a reader's browser fetches nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from docs.blocks import ROOT

from flowpose.spec.find import shipped

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
pytest.importorskip("material", reason="the extra docs is not installed")


def build(config: Path, site: Path) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(config),
        "-d",
        str(site),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"make_{name}", ROOT / "docs" / "make" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    code, said = build(ROOT / "mkdocs.yml", folder)
    assert code == 0, said
    return folder


def page(site: Path, name: str) -> str:
    return (site / name).read_text("utf-8")


def test_nothing_is_fetched_by_a_readers_browser(site: Path) -> None:
    fetched = {
        found
        for path in site.rglob("*.html")
        for tag in re.findall(r"<(?:link|script|img|iframe|source|video)\b[^>]*>", path.read_text("utf-8"))
        for found in re.findall(r"(?:href|src)=\"?((?:https?:)?//[^\"\s>]+)", tag)
    }
    styles = {
        found
        for path in site.rglob("*.css")
        for found in re.findall(r"url\(['\"]?(https?://[^)]+)", path.read_text("utf-8"))
    }
    assert not fetched and not styles


def test_every_command_and_its_options_are_in_the_reference(site: Path) -> None:
    from typer.main import get_command

    from flowpose.cli import app

    text = page(site, "reference/cli.html")
    command = get_command(app)
    assert not [name for name in command.commands if f"<code>flowpose {name}</code>" not in text]  # type: ignore[attr-defined]
    assert "--camera" in text and "flowpose data check" in text


def test_every_field_of_a_recipe_is_in_the_reference(site: Path) -> None:
    from flowpose.spec.recipe import AdversarialFinish, Recipe

    text = page(site, "reference/recipe.html")
    fields = {*Recipe.model_fields, *AdversarialFinish.model_fields}
    assert not [name for name in fields if f"<code>{name}</code>" not in text]
    assert "more than 0, at most 10" in text  # finish.share


@pytest.mark.parametrize("name", shipped("models"))
def test_a_models_card_has_its_manifests_figures_and_words(site: Path, name: str) -> None:
    from flowpose.artifact import open_artifact

    manifest = open_artifact(shipped("models")[name], verify=False).manifest
    text = page(site, f"models/{name}.html")
    assert manifest.key in text and not [
        words for words in manifest.card.values() if words.split()[0] not in text
    ]
    stored = json.loads((ROOT / "benchmarks" / "results" / f"{name}-test.json").read_text("utf-8"))
    (int8,) = [row["metrics"] for row in stored["rows"] if row["name"] == "int8"]
    assert f"{int8['own_lpips']['value']:.3f}" in text and f"{int8['pck']['value']:.3f}" in text


def test_a_card_refuses_figures_of_another_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mkdocs.exceptions import PluginError

    from flowpose.artifact import open_artifact

    cards = hook("cards")
    (tmp_path / "people-128-val.json").write_text(json.dumps({"key": "0" * 64, "rows": []}))
    monkeypatch.setattr(cards, "RESULTS", tmp_path)
    with pytest.raises(PluginError, match=r"people-128-val.json .* flowpose evaluate people-128 --split val"):
        cards.figures(open_artifact(shipped("models")["people-128"], verify=False).manifest)


def test_public_names_are_shown_with_their_docstrings(site: Path) -> None:
    text = page(site, "reference/python.html")
    assert "Every error that flowpose raises on purpose" in text and "MissingDependency" in text
    assert "PNG, JPEG" in text or "u8[H,W,3]" in text


def test_a_dead_link_ends_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# One\n\n[dead](other.md) and [far](../recipes/none.yaml)\n")
    config = tmp_path / "mkdocs.yml"
    hooks = f"hooks: [{ROOT / 'docs' / 'make' / 'repository.py'}]"
    config.write_text(f"site_name: one\n{hooks}\nvalidation: {{links: {{not_found: warn}}}}\n")
    code, said = build(config, tmp_path / "site")
    assert code != 0 and "other.md" in said and "recipes/none.yaml" in said


class Bare:
    """Has a method that nobody described."""

    def done(self) -> None: ...

    def said(self) -> None:
        """Described."""


def test_a_public_name_without_a_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowpose import samples

    monkeypatch.setattr(samples, "Bare", Bare, raising=False)
    monkeypatch.setattr(samples, "bare", lambda: None, raising=False)
    found = hook("documented").undocumented(
        ["flowpose.samples.Bare", "flowpose.samples.source"], ["flowpose.samples.bare"]
    )
    assert found == ["flowpose.samples.bare", "flowpose.samples.Bare.done"]
