"""What several folders of tests share: one finished run of the micro recipe, processes, and who gets which tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distribution import Units, alone_environment, rank
from micro_line import Line, finished

from flowpose.artifact import Artifact

if TYPE_CHECKING:
    from xdist.remote import Producer

ROOT = Path(__file__).resolve().parents[1]
ALONE = "FLOWPOSE_TEST_ALONE"


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return finished(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def lined(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The graph of the line of export/lined_up.py, for reading."""
    from export.lined_up import job_of, lined_up

    from flowpose.export import export

    root = tmp_path_factory.mktemp("lined")
    return export(job_of(root, lined_up(root)))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages of machine code of tiny_graphs.py's two graphs, for one thread, as torch-compile builds them."""
    from tiny_graphs import make_artifact

    from flowpose.compile.building import Options, build

    folder = tmp_path_factory.mktemp("packages")
    tiny = make_artifact(folder / "export-tiny", ("fp32",))
    options = Options(threads=1, cache=folder / "cache", logs=folder / "logs")
    return dict(build(tiny, "torch-compile", "fp32", folder, options, lambda text: None) or {})


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test marked `alone` runs in a new process: it limits or measures what others' threads and memory disturb."""
    if pyfuncitem.get_closest_marker("alone") is None or ALONE in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", pyfuncitem.nodeid]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**alone_environment(), ALONE: "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes, the order of distribution.py."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Units | None:
    """Units instead of single tests, where `--dist` asks for nothing else than -n does."""
    return Units(config, log) if config.getoption("dist") == "load" else None
