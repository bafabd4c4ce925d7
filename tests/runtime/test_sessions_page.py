"""What docs/sessions.md says of the programs; its blocks are run by tests/docs/test_pages.py."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pytest

import flowpose
from flowpose.artifact import open_artifact
from flowpose.runtime import BACKENDS
from flowpose.spec.find import shipped

PAGE = Path(flowpose.__file__).parents[2] / "docs" / "sessions.md"
TEXT = PAGE.read_text("utf-8")


@pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="the model people-128 is not in this checkout"
)
def test_the_page_says_how_large_contexts_are() -> None:
    (source,) = [
        graph
        for graph in open_artifact(shipped("models")["people-128"], verify=False).manifest.graphs
        if graph.name == "source" and graph.precision == "fp32"
    ]
    assert f"Kept(n=4, bytes={4 * 4 * prod(source.outputs[0].shape)})" in TEXT


def test_the_pages_table_of_backends_is_the_programs() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| (in parallel|in turn) \|", TEXT, re.MULTILINE)
    found = {name: many for names, many in rows for name in re.findall(r"`([\w-]+)`", names)}
    assert found == {name: entry.many for name, entry in BACKENDS.items()}
