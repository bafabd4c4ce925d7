"""What README.md and the pages show is there: commands, links, anchors, tables. Their code runs in tests/docs."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import typer
from docs.blocks import PAGES, ROOT
from markdown_it import MarkdownIt
from typer.main import get_command

from flowpose.spec.find import shipped

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands() -> set[str]:
    from flowpose.cli import app

    assert isinstance(app, typer.Typer)
    return set(get_command(app).commands)  # type: ignore[attr-defined]


def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@cache
def anchors(path: Path) -> frozenset[str]:
    """The headings of a page as links name them."""
    tokens = MarkdownIt("commonmark").parse(path.read_text("utf-8"))
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    plain = [
        re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", title)).strip().lower() for title in titles
    ]
    return frozenset(re.sub(r"\s", "-", title) for title in plain)


@pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)
def test_the_first_example_gives_what_it_says() -> None:
    names: dict[str, object] = {}
    exec(BLOCKS[0], names)
    assert names["frame"].shape == (128, 88, 3)  # type: ignore[attr-defined]
    assert len(names["frames"]) == 48  # type: ignore[arg-type]


def test_every_command_that_a_text_names_exists() -> None:
    named = {
        (page, name) for page in PAGES for name in re.findall(r"`flowpose ([a-z]+)(?=[\s`])", text(page))
    }
    assert named
    assert not {(page, name) for page, name in named if name not in commands()}


def test_every_command_stands_in_the_readme() -> None:
    table = README.partition("## Commands")[2].partition("## ")[0]
    assert commands() <= set(re.findall(r"`flowpose ([a-z]+)`", table))


def test_every_make_target_that_a_text_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z]+)(?=[ `])", text(page))}
    assert {"install", "setup", "demo", "test", "check", "bench", "docs"} <= targets
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    dead = []
    for link in LINK.findall(text(page)):
        place, _, anchor = link.partition("#")
        path = (ROOT / page).parent / place if place else ROOT / page
        if ":" in link.partition("/")[0] or made_by_the_site(path):
            continue
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(link)
    assert not dead


def made_by_the_site(path: Path) -> bool:
    """Whether `make docs` makes the page: commands, fields, model cards."""
    known = {f"reference/{name}.md" for name in ("cli", "recipe", "target", "calibration")}
    known |= {f"models/{name}.md" for name in shipped("models")}
    return path.resolve() in {(ROOT / "docs" / name).resolve() for name in known}


@pytest.mark.parametrize("kind", ["recipes", "targets"])
def test_the_tables_list_what_is_shipped(kind: str) -> None:
    assert set(re.findall(rf"\({kind}/([\w-]+)\.yaml\)", README)) == set(shipped(kind))  # type: ignore[arg-type]


def test_no_result_is_left_open() -> None:
    assert "RESULTS" not in README, "fill the section Results from the JSON files that it names"


@pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)
def test_the_waterfall_is_that_of_the_shipped_model_and_its_report() -> None:
    from flowpose.report.run_html import markdown_page
    from flowpose.report_command import find_place, gather

    stored = ROOT / "benchmarks" / "results" / "people-128-report.json"
    shown = README.partition("<!-- waterfall -->\n")[2].partition("<!-- end of waterfall -->")[0].strip()
    assert shown == markdown_page(gather(find_place("people-128", stored))).strip()
