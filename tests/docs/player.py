"""Plays the blocks of one page in one interpreter, which holds nothing else: `python player.py < steps.json`.

A step has a "place" and one of "python" (a text; all of a page share a namespace), "flowpose" (arguments, called in
this process; "output" is a file for what it prints) and "shell" (a line for bash). Results, on stdout, have "place",
"code" and "said"; the first step that fails is the last.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any


def play(step: dict[str, Any], names: dict[str, Any]) -> tuple[int, str]:
    """The exit code of a step, and what it wrote."""
    if "shell" in step:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step["shell"]], text=True, timeout=60, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path},
        )  # fmt: skip
        return done.returncode, done.stdout
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "python" in step:
                exec(compile(step["python"], step["place"], "exec"), names)
            else:
                call(step["flowpose"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - whatever a block raises is what the test tells
            code = 1
            err.write(traceback.format_exc())
    if step.get("output"):
        Path(step["output"]).write_text(out.getvalue())
    return code, out.getvalue() + err.getvalue()


def call(words: list[str]) -> None:
    """Runs `flowpose WORDS` here."""
    from flowpose import cli

    sys.argv = ["flowpose", *words]
    cli.main()


def main() -> None:
    results = []
    names: dict[str, Any] = {"__name__": "page"}
    for step in json.load(sys.stdin):
        code, said = play(step, names)
        results.append({"place": step["place"], "code": code, "said": said})
        if code:
            break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
