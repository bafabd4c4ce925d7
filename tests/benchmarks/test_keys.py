"""What is stored of a model says which one: a name goes on to the next training, a key does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
REPORT = {"machine", "device", "planted"}  # in what is written to a file, never in a row of it


def without_key(text: str) -> list[int]:
    """Lines of a script's dict displays that are a report on a model and hold no key."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = (
            {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if isinstance(node, ast.Dict)
            else set()
        )
        if "model" in names and names & REPORT and "key" not in names:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_report_on_a_model_holds_its_key(script: Path) -> None:
    assert without_key(script.read_text("utf-8")) == []


def test_one_without_is_found() -> None:
    assert without_key('x = 1\nreport = {"model": asked.model, "machine": 1, "rows": rows}\n') == [2]
