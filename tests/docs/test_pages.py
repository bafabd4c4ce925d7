"""Every block of code in README.md and docs/ runs, or says why not; every command and spec in them is understood."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from docs import shell
from docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks, blocks_of
from docs.page_files import MAKERS, lay_out

from flowpose.spec.find import find
from flowpose.spec.reading import load_calibration, load_recipe, load_target

PLAYER = Path(__file__).with_name("player.py")
NAMED = re.compile(r"\A# ([\w-]+\.ya?ml)\b")
BASE = "people-128"  # a part of a recipe is read as if it stood in this one


def run(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.reason is None]


RUN = [page for page in PAGES if any(block.kind in ("python", "bash") for block in run(page))]
SPECS = [block for page in PAGES for block in blocks(page) if block.kind == "yaml"]
SHELLS = [block for page in PAGES for block in blocks(page) if block.kind == "bash"]


def steps(block: Block) -> list[dict[str, Any]]:
    """What the player does for a block."""
    if block.kind == "python":
        return [{"place": block.place, "python": block.text}]
    return [shell_step(block.place, line) for line in shell.lines(block.text)]


def shell_step(place: str, line: str) -> dict[str, Any]:
    """One program of flowpose is called in the player's process, everything else is bash's."""
    found = shell.commands(line)
    if len(found) == 1 and found[0].words[0] == "flowpose" and not re.search(r"[|&<$]|^\w+=", line):
        return {"place": place, "flowpose": found[0].words[1:], "output": found[0].output}
    return {"place": place, "shell": line}


def play(steps: Sequence[dict[str, Any]], here: Path) -> list[dict[str, Any]]:
    command = [sys.executable, str(PLAYER)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
        "PYTHONPATH": str(ROOT / "toolkit"),
    }
    done = subprocess.run(
        command, input=json.dumps(steps), capture_output=True, text=True, cwd=here, env=environment,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def bare(text: str) -> str:
    """A text without numbers, frames and spaces, which differ from run to run; its lines are kept apart."""
    words = re.sub(r"[^\x00-\x7f]|\x1b\[[\d;]*m", "", text)
    return "\n".join(re.sub(r"[\d.,%-]+|\s+", "", line) for line in words.splitlines())


def missing(shown: str, said: str) -> list[str]:
    """Lines that a page shows and a program did not print; `...` at a line's end stands for its rest."""
    found = f"\n{bare(said)}\n"
    ends = {line: "" if line.endswith("...") else "\n" for line in shown.splitlines()}
    return [line for line, end in ends.items() if f"\n{bare(line)}{end}" not in found]


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_and_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    wanted = run(page)
    here = lay_out(tmp_path, (ROOT / page).read_text("utf-8"))
    for block in wanted:
        if block.kind == "yaml" and (name := NAMED.match(block.text)):
            (here / name[1]).write_text(block.text)
    todo = [step for block in wanted if block.kind in ("python", "bash") for step in steps(block)]
    results = play(todo, here)
    assert not results[-1]["code"], (
        f"{results[-1]['place']}: {todo[len(results) - 1]}\n{results[-1]['said'][-3000:]}"
    )
    assert len(results) == len(todo)
    for before, shown in pairwise(wanted):
        if shown.kind == "output":
            said = "".join(result["said"] for result in results if result["place"] == before.place)
            assert not missing(shown.text, said), f"{shown.place} is not what is printed: {said}"


@pytest.mark.parametrize("block", SHELLS, ids=lambda block: block.place)
def test_every_command_of_a_page_is_understood(block: Block) -> None:
    made = {
        name[1] for each in blocks(block.page) if each.kind == "yaml" and (name := NAMED.match(each.text))
    }
    found = [
        f"{line}: {problem}"
        for line in shell.lines(block.text)
        for command in shell.commands(line)
        for problem in shell.problems(command, made | set(MAKERS))
    ]
    assert not found


@pytest.mark.parametrize("block", SPECS, ids=lambda block: block.place)
def test_every_spec_of_a_page_is_read_by_its_reader(block: Block, tmp_path: Path) -> None:
    file = tmp_path / (name[1] if (name := NAMED.match(block.text)) else "spec.yaml")
    keys = set(re.findall(r"^(\w+):", block.text, re.MULTILINE))
    if "format" not in keys:  # a part of a recipe
        parts = re.split(r"^(?=\w)", find("recipes", BASE).read_text("utf-8"), flags=re.MULTILINE)
        kept = [part for part in parts if part.partition(":")[0] not in keys]
        file.write_text("".join(kept) + block.text)
        assert keys <= set(type(load_recipe(file)).model_fields)
    else:
        file.write_text(block.text)
        load = (
            load_target if "backends" in keys else load_recipe if "autoencoder" in keys else load_calibration
        )
        assert load(file).name == file.stem


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_has_a_language(page: str) -> None:
    assert not [f"{block.place}: {block.kind!r}" for block in blocks(page) if block.kind not in LANGUAGES]


def test_what_is_not_run_is_counted_and_says_why(record_property: Any) -> None:
    code = [block for page in PAGES for block in blocks(page) if block.kind in ("python", "bash")]
    left = [f"{block.place}: {block.reason}" for block in code if block.reason is not None]
    record_property("run", len(code) - len(left))
    record_property("not run", left)
    sys.stdout.write("\n".join([f"{len(code)} blocks, not run {len(left)}:", *left]) + "\n")
    assert all(len(line.split()) > 2 for line in left)  # the place, and words
    assert not [line for line in left if line.startswith("README.md") and "python" in line]


def test_a_mark_speaks_for_one_block_and_a_pages_mark_for_the_rest() -> None:
    text = """
<!-- not run: needs a board -->
```bash
flowpose doctor
```

    flowpose models

<!-- not run on this page: needs
a board -->

    flowpose targets
"""
    assert [block.reason for block in blocks_of(text, "page")] == ["needs a board", None, "needs a board"]
    assert [block.kind for block in blocks_of(text, "page")] == ["bash"] * 3


WRONG = {
    "flowpose infere photo.jpg": "no command",
    "flowpose infer --sources photo.jpg": "No such option",
    "flowpose infer --fps fast": "'--fps'",
    "flowpose show": "Missing argument",
    "flowpose bench ... --scenari single": "no option --scenari",
    "flowpose run people-129 --target cpu": "people-129",
    "flowpose run tiny --target jetson-nano": "jetson-nano",
    "flowpose run tiny --set train.optim.lrate=1": "unknown key",
    "flowpose predict people-127": "people-127",
    "flowpose data chek DIR": "chek",
    "make demos": "no target",
    "make bench TARGETS=cpu": "no variable",
    "python benchmarks/peer.py": "no script",
    "python benchmarks/peers.py --modell PATH": "no option --modell",
    "pip install '.[train,quantise]'": "no extra quantise",
    "flowpse doctor": "no program",
}


@pytest.mark.parametrize(("line", "problem"), WRONG.items())
def test_a_wrong_command_is_found(line: str, problem: str) -> None:
    assert problem in " ".join(
        text for command in shell.commands(line) for text in shell.problems(command, ())
    )


def test_what_a_page_shows_and_nothing_prints_is_found() -> None:
    said = "a table\n  int8  12.3 ms\nnoisy: other processes had 1.2 cores\n"
    assert not missing("int8 4.5 ms\nnoisy: other ...", said)
    assert missing("int8 4.5 ms\nclean", said) == ["clean"]
    assert missing("noisy: other", said) == ["noisy: other"]


def test_a_failing_block_is_told_with_its_place(tmp_path: Path) -> None:
    block = Block("page.md", 7, "python", "assert 1 == 2, 'as the page says'", None)
    (result,) = play([*steps(block), *steps(block)], tmp_path)
    assert result["code"] == 1 and result["place"] == "page.md:7" and "as the page says" in result["said"]
