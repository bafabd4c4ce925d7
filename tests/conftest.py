"""What several folders of tests share: one finished run of the micro recipe."""

from __future__ import annotations

import pytest
from micro_line import Line, finished


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return finished(tmp_path_factory.mktemp("line"))
