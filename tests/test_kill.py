"""A run that is killed in twelve places ends with the artifacts of a run that was left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from micro_line import STAGES, Line, environment, overrides

from flowpose.artifact import find_by_key, open_artifact
from flowpose.errors import ArtifactError

TRAINED = ("autoencoder", "train", "distill", "quantize")

Killed = tuple[Path, list[dict[str, Any]]]
"""The root, and what the driver saw after each kill."""


@pytest.fixture(scope="module")
def killed(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    root = tmp_path_factory.mktemp("killed")
    driver = Path(__file__).with_name("killed_line.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(line.folder), str(root)],
        capture_output=True, text=True, env=environment(), timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


def digests(root: Path, line: Line, stage: str) -> dict[str, str]:
    """The files of a stage's artifact, of the key that the undisturbed run had."""
    key = next(each["key"] for each in line.result["stages"] if each["stage"] == stage)
    path = find_by_key(root, key)
    assert path is not None, stage
    return dict(open_artifact(path).manifest.files)


def test_every_place_was_reached(killed: Killed) -> None:
    *deaths, last = killed[1]
    assert {each["place"]: each["exit"] for each in deaths} == {
        each["place"]: -signal.SIGKILL for each in deaths
    }
    assert len(deaths) == 12 and last["exit"] == 0


def test_only_finished_stages_are_found(killed: Killed) -> None:
    for each in killed[1]:
        stage = {"joints": "train", "teacher": "train", "student": "distill"}.get(
            name := each["place"].split(",")[0], name
        )
        if stage in STAGES:
            assert sorted(each["left"]) == sorted(STAGES[: STAGES.index(stage)]), each["place"]


def test_nothing_half_made_stays_in_the_end(killed: Killed) -> None:
    root, report = killed
    assert sum(bool(each["partial"]) for each in report) >= 5
    assert report[-1]["partial"] == []
    assert [path.name for path in root.rglob("*.new")] == []


def test_keys_are_those_of_an_undisturbed_run(line: Line, killed: Killed) -> None:
    for stage in STAGES[:-1]:
        assert digests(killed[0], line, stage), stage


@pytest.mark.parametrize("stage", TRAINED)
def test_weights_are_those_of_an_undisturbed_run(line: Line, killed: Killed, stage: str) -> None:
    assert digests(killed[0], line, stage) == digests(line.root, line, stage)


def test_a_kill_from_outside_leaves_only_what_is_finished(line: Line, tmp_path: Path) -> None:
    """SIGKILL from outside, as soon as the teacher is announced."""
    settings = [part for override in overrides(tmp_path) for part in ("--set", override)]
    settings += ["--set", "train.optim.iterations=100000", "--set", "train.optim.checkpoint_every=2"]
    command = [
        sys.executable,
        "-m",
        "flowpose.cli",
        "train",
        "tiny",
        "--out",
        str(tmp_path / "out"),
        *settings,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stderr is not None
    for text in process.stderr:
        if "[2/2] train" in text:
            break
    work = tmp_path / "out" / "tiny" / "work"
    deadline = time.monotonic() + 300
    while not list(work.glob("train-*/checkpoint.pt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    (autoencoder,) = (path.parent for path in (tmp_path / "out" / "tiny").glob("*/manifest.json"))
    assert open_artifact(autoencoder).manifest.kind == "autoencoder"
    found = {p.name: d for p in [autoencoder] for d in [dict(open_artifact(p).manifest.files)]}
    assert found[line.path("autoencoder").name] == dict(
        open_artifact(line.path("autoencoder")).manifest.files
    )


def test_a_half_made_artifact_cannot_be_opened(tmp_path: Path) -> None:
    partial = tmp_path / ".train-abc.x1.partial" / "artifact"
    partial.mkdir(parents=True)
    (partial / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="was never finished"):
        open_artifact(partial)
