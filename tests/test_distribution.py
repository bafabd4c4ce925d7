"""`pytest -n 2`: what shares a fixture stays together, and the longest come first."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distribution import APART, FIRST, GROUPS, TOGETHER, Units, alone_environment, rank, unit
from xdist.remote import Producer

TESTS = Path(__file__).parent
PAGES = [f"{APART}_and_print[{page}]" for page in ("README.md", "docs/a.md")]


def asking(argument: str) -> set[str]:
    """The files with a test or a fixture that has that argument."""
    asks = re.compile(rf"^def \w+\((?:[^)]*[ (])?{argument}\b", re.MULTILINE)
    files = (path for path in TESTS.rglob("test_*.py") if asks.search(path.read_text("utf-8")))
    return {f"tests/{path.relative_to(TESTS).as_posix()}" for path in files}


@pytest.mark.parametrize("argument", ["line: Line", "lined: Artifact"])
def test_all_who_ask_for_a_dear_fixture_share_it(argument: str) -> None:
    assert asking(argument) == set(TOGETHER[argument.partition(":")[0]])


def test_what_is_named_is_there() -> None:
    named = {*GROUPS, *(each for each in FIRST if each.endswith(".py")), APART.partition("::")[0]}
    assert not [file for file in named if not (TESTS.parent / file).is_file()]
    assert f"def {APART.partition('::')[2]}" in (TESTS / "docs" / "test_pages.py").read_text("utf-8")
    assert {each for each in FIRST if "/" not in each} == set(TOGETHER)


def test_a_unit_is_a_group_a_file_or_a_page() -> None:
    assert unit("tests/test_cli.py::test_show") == unit("tests/test_kill.py::test_x[a::b]") == "line"
    assert unit("tests/test_pose.py::test_x") == "tests/test_pose.py"
    assert [unit(page) for page in PAGES] == PAGES and rank(PAGES[0]) == rank(PAGES[1]) == 2
    assert unit("tests/docs/test_pages.py::test_x") == "tests/docs/test_pages.py"
    assert rank("tests/docs/test_pages.py::test_x") == rank("tests/test_pose.py::test_x") == len(FIRST)


@dataclass(eq=False)
class Process:
    """A process that keeps what it is told to run."""

    name: str
    told: list[int] = field(default_factory=list)
    shutting_down: bool = False

    @property
    def gateway(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.name)

    def send_runtest_some(self, indices: list[int]) -> None:
        self.told.extend(indices)

    def shutdown(self) -> None:
        self.shutting_down = True


def test_processes_take_units_whole_in_the_order_of_the_table() -> None:
    few = [f"tests/test_{name}.py::test_{i}" for name in ("image", "pose") for i in range(4)]
    line = [f"tests/{file}::test_{i}" for file in ("test_cli.py", "train/test_ranks.py") for i in range(2)]
    collected = sorted([*few, *line, *PAGES], key=rank)
    assert collected == [*line, *PAGES, *few]
    config: Any = SimpleNamespace(
        getvalue=lambda name: ["2*popen"], option=SimpleNamespace(loadscopereorder=True)
    )
    units, processes = Units(config, Producer("test")), [Process("one"), Process("two")]
    for each in processes:
        units.add_node(each)  # type: ignore[arg-type]
        units.add_node_collection(each, collected)  # type: ignore[arg-type]
    units.schedule()
    for index in range(4):  # the first is done with `line`
        units.mark_test_complete(processes[0], index)  # type: ignore[arg-type]
    one, two = ([collected[index] for index in each.told] for each in processes)
    assert one == [*line, *few[:4]] or one == [*line, *few[4:]]
    assert two[:2] == PAGES


def test_a_pytest_that_a_test_starts_is_not_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("PYTEST_OTHER", "3")
    found = alone_environment()
    assert found["PYTEST_OTHER"] == "3" and not [name for name in found if "XDIST" in name or "OPTS" in name]
