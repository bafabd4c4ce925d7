"""A new user's way: README's three commands, from a clone to a film of the own photo in the own poses.

Every test run takes a stand-in for `git clone` and the environment that is there; FLOWPOSE_CLONE=1 clones the last
commit and lets `make install` fetch its packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from docs.blocks import ROOT, blocks
from docs.page_files import FRAMES, MAKERS

from flowpose import image

BIN = Path(sys.executable).parent
PLACE = "<this repository>"
LINES = next(block.text for block in blocks("README.md") if "git clone" in block.text)
GIT = """#!/bin/sh
# git clone FROM TO, as links: the working tree without what git ignores, and an environment that is up to date
test "$1" = clone || exit 9
mkdir "$3" && for each in "$2"/*; do ln -s "$each" "$3"/; done
rm -f "$3/artifacts" "$3/out" "$3/data"
mkdir "$3/.venv" && ln -s {bin} "$3/.venv/bin" && touch "$3/.venv/run.stamp"
"""


def test_the_readmes_way_is_three_commands() -> None:
    commands = [line for line in LINES.splitlines() if line and not line.startswith("#")]
    assert len(commands) == 3
    assert PLACE in commands[0] and commands[1].startswith("make ") and "my-photo.jpg" in commands[2]


def walk(folder: Path, lines: str, path: str) -> Path:
    """Carries the commands out as they stand, with the user's two files where the README says; returns the film."""
    for name in ("my-photo.jpg", "my-poses.json"):
        MAKERS[name](folder / name)
    clone, install, use = [line for line in lines.splitlines() if line and not line.startswith("#")]
    script = "\n".join([clone.replace(PLACE, str(ROOT)), f"cp {folder}/my-* .", install, use])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "flowpose" / "me.mp4"


def check_film(film: Path) -> None:
    """As many frames as poses, of the model's size, and the person moves in them."""
    reader = cv2.VideoCapture(str(film))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1].astype(int))
    assert len(frames) == FRAMES
    assert all(frame.shape == (128, 88, 3) for frame in frames)
    assert min(np.abs(a - b).mean() for a, b in pairwise(frames)) > 2


@pytest.mark.skipif(
    not (BIN / "flowpose").exists(), reason="the tests' interpreter has no flowpose command beside it"
)
def test_a_new_user_gets_a_film_of_the_own_photo_in_the_own_poses(tmp_path: Path) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(GIT.format(bin=BIN))
    git.chmod(0o755)
    check_film(walk(tmp_path, LINES, f"{git.parent}{os.pathsep}{os.environ['PATH']}"))
    assert image.read(tmp_path / "my-photo.jpg").shape == (768, 504, 3)  # of no model's size


@pytest.mark.skipif(
    "FLOWPOSE_CLONE" not in os.environ, reason="FLOWPOSE_CLONE=1 clones and installs: minutes, network"
)
def test_the_last_commit_does_it_from_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    check_film(walk(tmp_path, LINES, os.environ["PATH"]))
    sys.stdout.write(f"from the clone to the film: {time.monotonic() - began:.0f} s\n")
    shutil.rmtree(tmp_path / "flowpose")
