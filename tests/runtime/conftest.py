"""Makes the tiny graphs' module importable and gives an artifact of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from flowpose.artifact import Artifact


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    from tiny_graphs import make_artifact

    return make_artifact(tmp_path_factory.mktemp("graphs") / "export-tiny")
