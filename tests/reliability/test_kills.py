"""Killed, crowded and hurried: runs that only pretend to train, but lock, seal and move as real ones."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from reliability_kills import Reference, found_whole, kills, measured, prepared, started, trial
from reliability_pretended import STAGES, Pretended
from reliability_tally import Lost, Tally, limited
from reliability_two import several_bundles, several_runs
from tiny_graphs import make_artifact

from flowpose.errors import ArtifactError
from flowpose.half_made import alone


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Pretended:
    return Pretended(tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def reference(start: Pretended, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return measured(start, tmp_path_factory.mktemp("undisturbed"), STAGES[:4])


def test_nothing_is_lost_by_kills_at_random_places(
    reference: Reference, start: Pretended, tmp_path: Path
) -> None:
    tally = kills(reference, start, tmp_path, 8, seed=3, whole=3, say=lambda text: None)
    assert tally.clean, tally.faults
    assert tally.tried == 8 and set(tally.outcomes) == {
        "killed at a moment",
        "killed before a file operation",
    }


@pytest.mark.parametrize("event", [1, 4, 9, 11])
def test_a_kill_before_a_file_operation_happens(
    reference: Reference, start: Pretended, tmp_path: Path, event: int
) -> None:
    assert started(start, tmp_path, "autoencoder", event=event, quiet=True).code == -9


def test_a_stage_that_is_moved_in_two_steps_is_found_out(
    reference: Reference, start: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that these trials look for, planted: half an artifact in its place."""

    def copied(folder: Path, path: Path) -> None:
        shutil.copytree(folder, path)
        (path / "weights").unlink()
        os.kill(os.getpid(), 9)

    monkeypatch.setattr("flowpose.artifact.move", copied)
    prepared(reference, "train", tmp_path)
    assert started(start, tmp_path, "train", quiet=True).code == -9
    with pytest.raises(Lost, match="train cannot be opened"):
        found_whole(reference, tmp_path, "train")


def test_an_artifact_that_is_gone_is_found_out(
    reference: Reference, start: Pretended, tmp_path: Path
) -> None:
    prepared(reference, "train", tmp_path)
    folder = reference.folder("autoencoder", tmp_path)
    assert folder is not None
    shutil.rmtree(folder)
    with pytest.raises(Lost, match="autoencoder is gone"):
        found_whole(reference, tmp_path, "train")


def test_a_next_start_that_fails_is_found_out(reference: Reference, tmp_path: Path, start: Pretended) -> None:
    def failing(root: Path, stage: str) -> None:
        os._exit(5)

    with pytest.raises(Lost, match="exit code 5"):
        trial(reference, failing, tmp_path, "train", random.Random(0))


def test_two_runs_at_once_make_each_stage_once(tmp_path: Path) -> None:
    tally = several_runs(tmp_path, 4)
    assert tally.clean and tally.tried == 4, tally.faults
    assert tally.outcomes["one waited for the other"] >= 1


def test_of_three_that_seal_one_bundle_one_makes_it(tmp_path: Path) -> None:
    tally = several_bundles(make_artifact(tmp_path / "tiny", ("fp32",)).path, tmp_path / "seals", 1)
    assert tally.clean and tally.tried == 3, tally.faults


def test_who_does_not_wait_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    told: list[str] = []
    with alone(tmp_path / "a.lock", told.append), pytest.raises(ArtifactError) as caught:  # noqa: SIM117
        with alone(tmp_path / "a.lock", told.append, wait=False):
            pytest.fail("both hold it")
    assert f"process {os.getpid()} on " in caught.value.what and caught.value.fix
    with alone(tmp_path / "a.lock", told.append, wait=False):
        assert told == []


@pytest.mark.alone  # its timer ends a loop by a signal, which threads of native libraries do not survive
def test_faults_are_counted_by_their_kind() -> None:
    tally = Tally("planted")

    def lost() -> str:
        raise Lost("gone")

    def forever() -> str:
        while True:
            pass

    assert tally.take("a", lost) == "losses"
    assert tally.take("b", lambda: str(1 / 0)) == "untyped"
    assert tally.take("c", forever, within=0.05) == "hung"
    assert tally.take("d", lambda: "fine", within=5) == "fine"
    assert (tally.tried, tally.losses, tally.untyped, tally.hung, tally.clean) == (4, 1, 1, 1, False)
    with limited(0):
        pass
