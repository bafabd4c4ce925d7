"""A tiny model, loaded once for all tests of the server."""

from __future__ import annotations

import pytest
from tiny_graphs import make_artifact

from flowpose.runtime import Model, load


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(
        make_artifact(tmp_path_factory.mktemp("graphs") / "tiny", ("fp32",)).path, threads=2, keep_mb=1
    )
