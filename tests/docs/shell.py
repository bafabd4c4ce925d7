"""Command lines of the pages, taken apart and held against the programs that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from docs.blocks import ROOT
from typer.main import get_command

from flowpose.cli import app
from flowpose.errors import FlowposeError
from flowpose.spec.find import Kind, shipped
from flowpose.spec.reading import load_recipe

USAGE: Any = typer.BadParameter.__mro__[1]  # UsageError: click's, or that of newer releases of typer
NAMES: dict[str, Kind] = {
    "recipe": "recipes",
    "target": "targets",
    "model": "models",
    "graph": "models",
    "artifact": "models",
    "calibration": "calib",
}
"""An option or argument of flowpose -> the kind of shipped thing that it names."""
OTHERS = {
    ".", ".ci/run", "accelerate", "bash", "cat", "cd", "chmod", "cp", "curl", "df", "docker", "export",
    "fallocate", "ffmpeg", "ffplay", "free", "git", "grep", "head", "jq", "kill", "kubectl", "ls",
    "mkdir", "mkfifo", "mkswap", "mount", "mv", "nvidia-smi", "nvpmodel", "openssl", "pre-commit",
    "printf", "pytest", "ray", "reboot", "rm", "rsync", "scp", "serve", "set", "sha256sum", "split",
    "ssh", "sudo", "swapon", "tar", "tee", "tegrastats", "tensorboard", "timeout", "torchrun",
    "tritonserver", "ulimit", "wait", "wget", "xargs", "srun", "scontrol",
}  # fmt: skip
"""Programs that pages name and that are nobody's to check here."""
ABRIDGED = "..."


@dataclass(frozen=True)
class Command:
    """One program with its arguments.

    Attributes:
        words: program and arguments, without variables set before them.
        output: the file that its output goes to.
    """

    words: tuple[str, ...]
    output: str | None = None


def lines(text: str) -> list[str]:
    """The lines of a shell's text, those that go on in the next one joined, without comments."""
    joined = re.sub(r"(\\|(?<=&&)|(?<=\|)) *\n *", " ", text)
    return [line for each in joined.splitlines() if (line := each.strip()) and not line.startswith("#")]


def commands(line: str) -> list[Command]:
    """The programs that a line runs."""
    line = re.sub(r"<([a-z][a-z -]*)>", lambda found: found[1].replace(" ", "-").upper(), line)
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    reader.whitespace_split, reader.commenters = True, "#"
    found, words, output = [], list[str](), None
    parts = iter([*reader, ";"])
    for part in parts:
        if part in (">", ">>"):
            output = next(parts)
        elif part == "<":
            next(parts)
        elif set(part) <= set("|&;()"):
            words = words[
                next((i for i, word in enumerate(words) if not re.fullmatch(r"\w+=.*", word)), len(words)) :
            ]
            found += [Command(tuple(words), output)] if words else []
            words, output = [], None
        else:
            words.append(part)
    return found


def problems(command: Command, there: Collection[str]) -> Iterator[str]:
    """What is wrong with a command; `there` are files that the page makes or says are there."""
    program, *rest = command.words
    program = program.removeprefix(".venv/bin/").removeprefix("flowpose/venv/bin/")
    if "flowpose.cli" in rest:
        program, rest = "flowpose", rest[rest.index("flowpose.cli") + 1 :]
    if program == "flowpose":
        yield from flowpose_problems(rest, there)
    elif program == "make":
        yield from make_problems(rest)
    elif program in ("python", "python3"):
        yield from script_problems(rest, there)
    elif program == "pip":
        yield from pip_problems(rest)
    elif program not in OTHERS:
        yield f"{program}: no program that pages name"


def flowpose_problems(words: Sequence[str], there: Collection[str]) -> Iterator[str]:
    """Held against the real commands: the command, its options, its arguments, and the names in them."""
    command: Any = get_command(app)
    name, rest = "flowpose", list(words)
    while rest and hasattr(command, "commands"):
        name = rest.pop(0)
        if name not in command.commands:
            yield f"{name}: no command of flowpose"
            return
        command = command.commands[name]
    if ABRIDGED in rest:
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        yield from (
            f"{name}: no option {word}" for word in rest if word.startswith("-") and word not in known
        )
        return
    try:
        values = command.make_context(name, rest).params
    except USAGE as error:
        yield f"{name}: {error.format_message()}"
        return
    yield from name_problems(name, values, there)


def name_problems(command: str, values: dict[str, Any], there: Collection[str]) -> Iterator[str]:
    """Shipped things that are not shipped, files that are nowhere, and overrides that the recipe does not take."""
    for parameter, kind in NAMES.items():
        found = values.get(parameter)
        for value in found if isinstance(found, list | tuple) else [found] if found else []:
            if not known(str(value), kind, there) and not (
                command == "predict" and known(str(value), "recipes", there)
            ):
                yield f"{command}: {value}: nothing of that name among {kind}"
    recipe = values.get("recipe")
    if values.get("overrides") and recipe in shipped("recipes"):
        try:
            load_recipe(recipe, values["overrides"])
        except FlowposeError as error:
            yield f"{command}: {error}"


def known(value: str, kind: Kind, there: Collection[str]) -> bool:
    """Whether a name is shipped, `auto`, in capitals, a file that is there or would be the reader's own."""
    return (
        value in shipped(kind)
        or (kind == "targets" and value == "auto")
        or value.isupper()
        or value in there
        or (ROOT / value).exists()
        or value.startswith("my-")  # the reader's own
        or "artifacts/" in value
        or value.startswith("flowpose/people/")  # on a board: where the bundle was opened
    )


def make_problems(words: Sequence[str]) -> Iterator[str]:
    """Targets and variables that the Makefile does not have."""
    text = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        name, equals, _ = word.partition("=")
        pattern = rf"^{re.escape(name)} *[?:]?=" if equals else rf"^{re.escape(name)}:"
        if not word.startswith("-") and not re.search(pattern, text, re.MULTILINE):
            yield f"make: no {'variable' if equals else 'target'} {name}"


def script_problems(words: Sequence[str], there: Collection[str]) -> Iterator[str]:
    """A script of the repository that is not there, and options that no text beside it has."""
    if not words or words[0].startswith(("-", "my_")) or words[0] in there:
        return
    path = ROOT / words[0]
    if not path.is_file():
        yield f"python: no script {words[0]}"
        return
    text = "".join(each.read_text("utf-8") for each in path.parent.glob(f"{path.stem}*.py"))
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("--") and f'"{option}"' not in text:
            yield f"{words[0]}: no option {option}"


def pip_problems(words: Sequence[str]) -> Iterator[str]:
    """Extras that pyproject.toml does not have."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extras in re.findall(r"(?:^|\s)(?:\.|flowpose)\[([\w,-]+)\]", " ".join(words)):
        for extra in extras.split(","):
            if not re.search(rf"^{re.escape(extra)} = \[", project, re.MULTILINE):
                yield f"pip: no extra {extra}"
