"""What README.md shows is there and works: its Python, its commands, its links and tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import flowpose
from flowpose.spec.find import shipped

ROOT = Path(flowpose.__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/design.md")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> set[str]:
    from flowpose.cli import app

    assert isinstance(app, typer.Typer)
    return set(get_command(app).commands)  # type: ignore[attr-defined]


def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_python_of_the_readme_is_python(number: int) -> None:
    compile(BLOCKS[number], f"README.md block {number}", "exec")


@pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)
def test_the_first_example_runs_as_it_stands() -> None:
    names: dict[str, object] = {}
    exec(BLOCKS[0], names)
    assert names["frame"].shape == (128, 88, 3)  # type: ignore[attr-defined]
    assert len(names["frames"]) == 48  # type: ignore[arg-type]


def test_every_command_that_is_named_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"(?:`|^ +)flowpose ([a-z]+)", text(page), re.MULTILINE)
    }
    assert named
    assert named <= commands()


def test_every_command_stands_in_the_readme() -> None:
    table = README.partition("## Commands")[2].partition("## ")[0]
    assert commands() <= set(re.findall(r"`flowpose ([a-z]+)`", table))


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:`|^ +)make ([a-z]+)", text(page), re.MULTILINE)
    }
    assert {"setup", "demo", "test", "check", "bench"} <= targets
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", text(page))
    files = [link for link in links if not link.startswith("http")]
    assert not [link for link in files if not ((ROOT / page).parent / link).exists()]


@pytest.mark.parametrize("kind", ["recipes", "targets"])
def test_the_tables_list_what_is_shipped(kind: str) -> None:
    assert set(re.findall(rf"\({kind}/([\w-]+)\.yaml\)", README)) == set(shipped(kind))  # type: ignore[arg-type]


def test_no_result_is_left_open() -> None:
    assert "RESULTS" not in README, "fill the section Results from the JSON files that it names"
