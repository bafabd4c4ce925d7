"""Which tests go together to one of the processes of `pytest -n`, and in which order the processes take them.

A process takes a unit whole: a file, files that share a dear fixture, or one page of test_pages. The longest units come
first. A process is handed its next unit while two tests of the last one are left, so a long one late would leave the
other process idle. (`--dist loadfile` begins with the files of the most tests, which are not the longest;
`--dist loadgroup` groups nothing with the versions of constraints.txt.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TOGETHER: Mapping[str, tuple[str, ...]] = {
    "line": (
        "tests/distill/test_methods.py", "tests/export/test_halves.py", "tests/model/test_weights.py",
        "tests/test_cli.py", "tests/test_kill.py", "tests/test_pipeline.py", "tests/train/test_ranks.py",
        "tests/train/test_training.py",
    ),
    "lined": (
        "tests/export/test_references.py", "tests/model/test_from_graphs.py", "tests/test_reporting.py",
        "tests/train/test_start.py",
    ),
    "packages": (
        "tests/compile/test_torch_package.py", "tests/machine/test_doctor.py", "tests/runtime/test_contract.py",
    ),
}  # fmt: skip
"""A fixture, or what is compiled -> the files that use it."""
GROUPS = {file: group for group, files in TOGETHER.items() for file in files}
APART = "tests/docs/test_pages.py::test_the_blocks_of_a_page_run"
"""Each of these tests is a unit."""
FIRST = (
    "line", "tests/benchmarks/test_peers.py", APART, "tests/benchmarks/test_gpu.py", "tests/export/test_export.py",
    "packages", "lined", "tests/quantize/test_methods.py", "tests/quantize/test_tuning.py",
    "tests/serve/test_page.py", "tests/reliability/test_files.py", "tests/model/test_skeleton.py",
    "tests/benchmarks/test_peak_share.py",
)  # fmt: skip
"""Units by the time that they take, the longest first; all others follow in the order of their files."""


def unit(nodeid: str) -> str:
    """The unit that a test belongs to."""
    file = nodeid.partition("::")[0]
    return nodeid if nodeid.startswith(APART) else GROUPS.get(file, file)


def rank(nodeid: str) -> int:
    """The place of a test's unit among all."""
    found = APART if nodeid.startswith(APART) else unit(nodeid)
    return FIRST.index(found) if found in FIRST else len(FIRST)


class Units(LoadFileScheduling):
    """Hands out units, in the order in which the tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # else those of the most tests come first

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def alone_environment() -> dict[str, str]:
    """The environment for a pytest that a test starts: nothing in it says that it is one of several processes."""
    told = ("PYTEST_XDIST_", "PYTEST_ADDOPTS")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}
