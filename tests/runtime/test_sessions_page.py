"""Every block of Python in docs/sessions.md runs, one after the other, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import flowpose
from flowpose.errors import PoseError
from flowpose.runtime import BACKENDS
from flowpose.spec.find import shipped

PAGE = Path(flowpose.__file__).parents[2] / "docs" / "sessions.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)
def test_the_pages_blocks_run_and_say_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/sessions.md block {number}", "exec"), names)
    said = capsys.readouterr().out
    shown = re.findall(r"print\(.*\) +# (Kept.*|pose 0: pose: all joints are missing)", TEXT)
    assert len(shown) == 2 and all(line in said for line in shown)
    assert len(names["frames"]) == 48  # type: ignore[arg-type]
    assert isinstance(names["made"], np.ndarray | PoseError)


def test_the_pages_table_of_backends_is_the_programs() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| (in parallel|in turn) \|", TEXT, re.MULTILINE)
    found = {name: many for names, many in rows for name in re.findall(r"`([\w-]+)`", names)}
    assert found == {name: entry.many for name, entry in BACKENDS.items()}
