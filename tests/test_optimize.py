"""The training loop: exact resume, checkpoints, the learning rate, accumulation, averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from flowpose.errors import TrainingError
from flowpose.optimize import CHECKPOINT, Average, Draw, Losses, Task, learning_rate, run, save
from flowpose.spec.optim import OptimSpec

KEY = "a" * 64


def spec(**changes: object) -> OptimSpec:
    values = {"iterations": 20, "batch": 4, "lr": 0.05, "warmup": 3, "ema": 0.9, "checkpoint_every": 5}
    return OptimSpec(**{**values, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def error(module: nn.Module, draw: Draw) -> Losses:
    """To a fixed linear map, on inputs of numpy's draw and noise of torch's."""
    x = torch.from_numpy(draw.rng.standard_normal((4, 3)).astype("float32"))
    noise = torch.randn(4, 2, generator=draw.noise)
    loss = (module(x) - x[:, :2] * 0.5 + 0.01 * noise).square().mean()
    return {"loss": loss, "double": 2 * loss}


def task(folder: Path, losses: Callable[[nn.Module, Draw], Losses] = error, **changes: object) -> Task:
    return Task(
        **{"title": "toy", "module": network(), "losses": losses, "directory": folder, "key": KEY, **changes}
    )


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def stopping_after(count: int) -> Callable[[nn.Module, Draw], Losses]:
    """Losses that stop the run, as a kill would, once asked more than `count` times."""
    calls: list[int] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        return error(module, draw)

    return losses


@pytest.mark.parametrize("stop", [4, 10, 13, 19])
def test_a_stopped_run_ends_with_the_same_weights(tmp_path: Path, stop: int) -> None:
    whole = run(task(tmp_path / "whole"), spec())
    with pytest.raises(KeyboardInterrupt):
        run(task(tmp_path / "parts", stopping_after(stop)), spec())
    resumed = run(task(tmp_path / "parts"), spec())
    assert torch.equal(weights(resumed), weights(whole))
    assert not resumed.training


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(task(tmp_path), spec())
    again = run(task(tmp_path, stopping_after(0)), spec())
    assert torch.equal(weights(first), weights(again))


def test_checkpointing_does_not_change_the_weights(tmp_path: Path) -> None:
    often, never = (run(task(tmp_path / str(n)), spec(checkpoint_every=n)) for n in (1, 1000))
    assert torch.equal(weights(often), weights(never))


def test_it_learns_and_shows_nothing_of_the_seed_before(tmp_path: Path) -> None:
    start = weights(network())
    torch.manual_seed(123)
    made = run(task(tmp_path / "a"), spec(iterations=150))
    draw = Draw.at(99, 0)
    assert float(error(made, draw)["loss"].detach()) < 0.2 * float(
        error(network(), Draw.at(99, 0))["loss"].detach()
    )
    assert not torch.equal(weights(made), start)


def test_a_half_written_checkpoint_is_not_read(tmp_path: Path) -> None:
    whole = run(task(tmp_path / "whole"), spec())
    with pytest.raises(KeyboardInterrupt):
        run(task(tmp_path / "parts", stopping_after(12)), spec())
    (tmp_path / "parts" / CHECKPOINT).with_suffix(".new").write_bytes(b"half of one")
    assert torch.equal(weights(run(task(tmp_path / "parts"), spec())), weights(whole))


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path) -> None:
    run(task(tmp_path), spec(iterations=5))
    with pytest.raises(
        TrainingError, match=r"belongs to another run, got aaaaaaaaaaaa, expected bbbbbbbbbbbb.*rm "
    ):
        run(task(tmp_path, key="b" * 64), spec(iterations=5))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(task(tmp_path), spec(iterations=5))
    other = nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 2))
    with pytest.raises(TrainingError, match=r"is no checkpoint of this network(.|\n)*Fix: rm "):
        run(task(tmp_path, module=other), spec())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: is no checkpoint of this network"):
        run(task(tmp_path), spec())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    calls: list[int] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        calls.append(1)
        found = error(module, draw)["loss"]
        return {"loss": found * float("nan") if len(calls) == 8 else found}

    with pytest.raises(TrainingError, match=r"toy iteration 7: the loss is not finite, got nan.*Fix: lower"):
        run(task(tmp_path, losses), spec())
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["iteration"] == 5
    assert all(torch.isfinite(value).all() for value in state["module"].values())


def test_a_full_disk_is_a_training_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save({"iteration": 1}, tmp_path / CHECKPOINT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        TrainingError, match=r"cannot be written \(.*No space left on device\).*Fix: free disk space"
    ):
        save({"iteration": 2}, tmp_path / CHECKPOINT)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True) == {"iteration": 1}
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]


def test_the_learning_rate_warms_up_and_decays_to_a_tenth() -> None:
    settings = spec(iterations=100, warmup=10, lr=1.0)
    rates = [learning_rate(settings, i) for i in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert learning_rate(settings, 1000) == pytest.approx(0.1)
    assert learning_rate(spec(warmup=0, lr=1.0), 0) == 1.0


def constant(module: nn.Module, draw: Draw) -> Losses:
    """The same loss in every micro-batch."""
    return error(module, Draw.at(7, 7))


def test_accumulated_micro_batches_are_a_mean(tmp_path: Path) -> None:
    one, three = (run(task(tmp_path / str(n), constant), spec(iterations=6, accumulate=n)) for n in (1, 3))
    torch.testing.assert_close(weights(one), weights(three), atol=1e-6, rtol=1e-5)


def test_accumulated_micro_batches_differ_and_count_as_one_step(tmp_path: Path) -> None:
    seen: list[float] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        found = error(module, draw)
        seen.append(float(found["loss"].detach()))
        return found

    run(task(tmp_path, losses), spec(iterations=2, accumulate=3))
    assert len(seen) == 6 and len(set(seen)) == 6


def test_bf16_runs_after_fp32_in_one_process(tmp_path: Path) -> None:
    kinds: list[torch.dtype] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        found = module(torch.ones(2, 3))
        kinds.append((found @ torch.ones(2, 2)).dtype)
        return {"loss": found.float().square().mean()}

    for precision in ("fp32", "bf16", "fp32"):
        made = run(task(tmp_path / f"{len(kinds)}", losses), spec(iterations=1, precision=precision))
        assert weights(made).dtype == torch.float32
        x = torch.randn(2, 3)
        assert torch.equal(made(x), nn.Sequential.forward(made, x)), "what was trained computes in fp32"
    assert kinds == [torch.float32, torch.bfloat16, torch.float32]


def test_draws_depend_on_seed_iteration_and_part_alone() -> None:
    def numbers(*place: int) -> tuple[float, float]:
        draw = Draw.at(*place)
        return float(draw.rng.random()), float(torch.rand((), generator=draw.noise))

    assert numbers(1, 2, 3) == numbers(1, 2, 3)
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    for column in zip(*(numbers(*place) for place in places), strict=True):
        assert len(set(column)) == len(places)


def test_the_average_follows_and_forgets_the_start() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = Average(module, 0.9)
    nn.init.ones_(module.weight)
    average.update(module, 0)
    assert float(average.values["weight"]) == pytest.approx(0.9), "a decay of 1/10 at first"
    for iteration in range(1, 200):
        average.update(module, iteration)
    assert float(average.values["weight"]) == pytest.approx(1.0, abs=1e-4)


def test_samples_are_drawn_with_averaged_weights_and_leave_no_trace(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def sample(module: nn.Module, iteration: int) -> None:
        assert not torch.is_grad_enabled()
        seen.append((iteration, module.training))

    sampled = run(task(tmp_path / "a", sample=sample), spec(sample_every=8))
    plain = run(task(tmp_path / "b"), spec())
    assert seen == [(8, False), (16, False)]
    assert torch.equal(weights(sampled), weights(plain))


def test_scalars_are_written_for_tensorboard(tmp_path: Path) -> None:
    run(task(tmp_path), spec())
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
