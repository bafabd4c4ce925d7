"""The commands of docs/training.md, read by the parsers of the programs that they start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser
from typer.main import get_command

from flowpose.cli import app
from flowpose.errors import SpecError
from flowpose.job import stages_of
from flowpose.ranks import Share, check_batches
from flowpose.spec.reading import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(program: str) -> Iterator[list[str]]:
    """The arguments of every start of a program."""
    for line in "".join(BLOCKS).splitlines():
        words = shlex.split(line, comments=True)
        if program in words:
            yield words[words.index(program) + 1 :]


def flowpose_reads(words: list[str]) -> None:
    name, recipe, *_ = words
    get_command(app).commands[name].make_context(name, words[1:])
    load_recipe(recipe)


def test_torchrun_reads_its_commands() -> None:
    found = list(commands("torchrun"))
    assert len(found) == 4
    for words in found:
        read = get_args_parser().parse_args(words)
        assert read.module and read.training_script == "flowpose.cli"
        flowpose_reads(read.training_script_args)


def test_accelerate_reads_its_commands() -> None:
    found = list(commands("launch"))
    assert len(found) == 2
    for words in found:
        read = launch_command_parser().parse_args(words)
        assert read.module and read.training_script == "flowpose.cli"
        flowpose_reads(read.training_script_args)


def test_accelerate_reads_the_machines_file(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```text\n(compute_environment.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "machine0.yaml"
    file.write_text(text)
    read = ClusterConfig.from_yaml_file(str(file))
    assert (read.num_processes, read.num_machines, read.machine_rank) == (16, 2, 0)
    assert yaml.safe_load(text)["mixed_precision"] == "no"


def test_the_processes_that_the_page_starts_divide_the_recipes_batches() -> None:
    recipe = load_recipe("people-256-gpu")
    for world in (4, 16):
        check_batches(recipe, ("autoencoder", "train"), Share(0, world))


def test_the_refusal_that_the_page_shows_is_the_real_one() -> None:
    recipe = load_recipe("people-128")
    with pytest.raises(SpecError) as caught:
        check_batches(recipe, stages_of(recipe), Share(0, 8))
    assert f"error: {caught.value}\n```" in PAGE
