"""Two processes over gloo train what one trains: gradients, paths, resumed runs, artifacts; and they fail together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro_line import Line, environment
from safetensors.torch import load_file
from train import ranks_driver

from flowpose.artifact import open_artifact
from flowpose.errors import SpecError, TrainingError
from flowpose.ranks import Share, check_batches
from flowpose.spec.reading import load_recipe

STEPS = (
    "autoencoder", "joints", "teacher", "features", "trajectory", "windows", "bootstrap", "flowmap", "finish",
    "teacher_finish",
)  # fmt: skip
TRAINED = {"autoencoder": 1e-5, "train": 1e-5, "distill": 1e-2}
"""Stage -> how far, of their size, weights may be apart.

Distillation's features train 20 iterations, which make a relative change of 6e-8 in the first weights one of 2.5e-3 in
the last ones, in one process too (measured); 4 iterations make it 6e-7.
"""


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder that the driver worked in, and its report."""
    folder = tmp_path_factory.mktemp("ranks")
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(tests / "train" / "ranks_driver.py"), str(folder)],
        capture_output=True, text=True, timeout=900, check=False,
        env={**environment(), "PYTHONPATH": f"{tests}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for name in ("work of 1", "work of 2", "taken over by 1", "taken over by 2", "line"):
        assert not any(report[name]["exits"]), (name, report[name], done.stderr)
    return folder, report


Driven = tuple[Path, dict[str, Any]]


def both(driven: Driven, name: str) -> tuple[Any, Any]:
    """What one process and what two wrote."""
    one, two = (torch.load(driven[0] / "work" / f"{name}-{world}.pt", weights_only=True) for world in (1, 2))
    return one, two


@pytest.mark.parametrize("step", STEPS)
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(driven: Driven, step: str) -> None:
    one, two = (each[step]["gradients"] for each in both(driven, "gradients"))
    assert one.keys() == two.keys() and len(one) > 3
    whole = float(torch.cat([each.flatten() for each in one.values()]).norm())
    far = {name: float((two[name] - each).norm()) for name, each in one.items()}
    wrong = {name: off for name, off in far.items() if off > 1e-4 * float(one[name].norm()) + 1e-5 * whole}
    assert whole > 0.1 and not wrong


@pytest.mark.parametrize("step", STEPS)
def test_the_losses_shown_are_those_of_the_whole_batch(driven: Driven, step: str) -> None:
    one, two = (each[step]["losses"] for each in both(driven, "gradients"))
    assert two == pytest.approx(one, rel=1e-5, abs=1e-6)
    if step in ("finish", "teacher_finish"):
        assert one["scale"] > 0 and one["steady"] > 0, "the critic's share and the moved joints had a say"


def test_teacher_paths_are_the_same_to_the_bit_and_in_the_same_order(driven: Driven) -> None:
    one, two = both(driven, "ends")
    assert len(one) == 36 and torch.equal(one, two)


@pytest.mark.parametrize("world", [1, 2])
def test_a_stopped_run_goes_on_exactly(driven: Driven, world: int) -> None:
    found = torch.load(driven[0] / "work" / f"toys-{world}.pt", weights_only=True)
    assert found["whole"].keys() == found["parts"].keys()
    assert all(torch.equal(found["parts"][name], each) for name, each in found["whole"].items())


def test_two_processes_end_with_the_weights_of_one(driven: Driven) -> None:
    one, two = (each["whole"] for each in both(driven, "toys"))
    for name, each in one.items():
        torch.testing.assert_close(two[name], each, atol=1e-6, rtol=1e-5)


def test_another_number_of_processes_finishes_what_was_begun(driven: Driven) -> None:
    whole = both(driven, "toys")[0]["whole"]
    for finished in both(driven, "over"):
        for name, each in whole.items():
            torch.testing.assert_close(finished[name], each, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("stage", TRAINED)
def test_artifacts_of_two_processes_are_those_of_one(driven: Driven, line: Line, stage: str) -> None:
    one = open_artifact(line.path(stage))
    two = open_artifact(driven[0] / "line" / "out" / "tiny" / line.path(stage).name)
    assert two.manifest.key == one.manifest.key and two.manifest.files.keys() == one.manifest.files.keys()
    (file,) = one.manifest.files
    wanted, found = (load_file(each.file(file)) for each in (one, two))
    assert found.keys() == wanted.keys()
    far = np.sqrt(sum(float((found[name] - each).square().sum()) for name, each in wanted.items()))
    size = np.sqrt(sum(float(each.square().sum()) for each in wanted.values()))
    assert far < TRAINED[stage] * size


WORDS = {
    "data": (
        "PeerFailed: process 0: lost the others, got process 1: picture 7: cannot be read",
        "DataError: picture 7: cannot be read",
    ),
    "not finite": ("TrainingError: toy iteration 6: the loss is not finite",) * 2,
    "killed": ("PeerFailed: process 0: lost the others, got no word of why", ""),
    "main": ("DataError: picture 7", "PeerFailed: process 0: failed, and all stop with it: picture 7"),
    "disagreeing": ("TrainingError: process 1: has other number than process 0, got 1, expected 0",) * 2,
    "drifting": ("TrainingError: process 1: has other weights after iteration 5 than process 0",) * 2,
    "uneven": ("TrainingError: toy: the batch does not divide by the processes, got 2 processes",) * 2,
}
"""What goes wrong -> how the error of each process begins."""


@pytest.mark.parametrize("name", WORDS)
def test_where_one_process_fails_both_end_with_an_error_that_says_why(driven: Driven, name: str) -> None:
    found = driven[1][name]
    assert found["exits"] == ([1, -9] if name == "killed" else [1, 1])
    for text, expected in zip(found["errors"], WORDS[name], strict=True):
        assert text.startswith(expected) and bool(text) == bool(expected)


def test_a_port_that_somebody_took_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([1, 2])
    monkeypatch.setattr(ranks_driver, "free_port", lambda: next(ports))

    def meet(folder: Path) -> None:
        if os.environ["MASTER_PORT"] == "1" and os.environ["RANK"] == "1":
            time.sleep(60)
        if os.environ["MASTER_PORT"] == "1":
            raise TrainingError("process 0", "lost the others") from RuntimeError(
                "code: -98, name: EADDRINUSE"
            )

    found = ranks_driver.together(meet, tmp_path, 2)
    assert found["exits"] == [0, 0] and found["errors"] == ["", ""] and next(ports, None) is None
    assert found["seconds"] < 60


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_the_whole_batch_once_and_even_in_every_part_of_it(world: int) -> None:
    whole = np.arange(30).reshape(15, 2)
    shares = [Share(rank, world) for rank in range(world)]
    parts = [share.of(whole) for share in shares]
    assert np.array_equal(np.sort(np.concatenate(parts), axis=0), whole)
    for first in range(16):
        counts = [share.count(first) for share in shares]
        assert counts == [int((part[:, 0] < 2 * first).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1
        last = [share.after(first).of(whole[first:]) for share in shares]
        assert all(np.array_equal(a, b[b[:, 0] >= 2 * first]) for a, b in zip(last, parts, strict=True))
        if first:
            assert sum(share.weight(first) for share in shares) == pytest.approx(world)


def test_what_belongs_together_stays_together() -> None:
    assert Share(1, 2).of(np.arange(12), 3).tolist() == [3, 4, 5, 9, 10, 11]
    assert Share(0, 2).of(torch.arange(8).reshape(4, 2), 2).tolist() == [[0, 1], [2, 3]]


def test_a_recipe_whose_batches_do_not_divide_is_refused_before_any_work() -> None:
    recipe = load_recipe("people-128")
    check_batches(recipe, ("autoencoder", "train", "features", "distill"), Share(1, 2))
    with pytest.raises(SpecError) as caught:
        check_batches(recipe, ("autoencoder", "train", "finish", "quantize"), Share(0, 8))
    assert caught.value.where == "people-128 on 8 processes"
    batch = recipe.finish.optim.batch
    assert caught.value.problems == (
        f"recipe.finish.optim.batch: expected processes one of 1, 2, 3, 4, 6, 12 for a batch of {batch}",
    )
    with pytest.raises(SpecError, match=r"recipe\.train\.optim\.batch.*a batch of 24 in groups of 3"):
        check_batches(recipe, ("train",), Share(0, 16))


def test_a_batch_that_does_not_divide_is_refused_by_the_loop_too() -> None:
    with pytest.raises(
        TrainingError, match=r"toy: .* got 4 processes, expected one of 1, 2 for a batch of 6"
    ):
        Share(0, 4).even("toy", 6, group=3)
