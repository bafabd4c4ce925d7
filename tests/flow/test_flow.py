"""Path, grids and samplers against closed forms: the direction of time, orders of convergence, a Gaussian target."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from flowpose.flow import (
    SOLVERS,
    Velocity,
    data_from_velocity,
    end_dense,
    interpolate,
    solve,
    uniform,
    velocity,
)


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0, x_1 = torch.randn(2, 3, 4, 5, 2, generator=generator, dtype=torch.float64)
    return x_0, x_1


def growth(x: Tensor, t: float) -> Tensor:
    """dx/dt = (1 + t) x, whose solution is x(1) = x(0) exp(1.5); a solver that mixes up times misses it."""
    return (1 + t) * x


def test_time_runs_from_noise_to_data() -> None:
    noise, data = pair()
    zeros, ones = torch.zeros(len(noise)), torch.ones(len(noise))
    assert torch.equal(interpolate(noise, data, zeros), noise)
    assert torch.equal(interpolate(noise, data, ones), data)
    assert torch.equal(velocity(noise, data), data - noise)
    there = solve(lambda x, t: velocity(noise, data), noise, uniform(1))
    torch.testing.assert_close(there, data)


def test_some_noise_is_left_at_the_end() -> None:
    noise, data = pair()
    end = interpolate(noise, data, torch.ones(len(noise)), sigma_min=0.1)
    torch.testing.assert_close(end, 0.1 * noise + data)


@pytest.mark.parametrize("sigma_min", [0.0, 1e-4, 0.3])
def test_target_velocity_and_back(sigma_min: float) -> None:
    noise, data = pair()
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    x_t = interpolate(noise, data, t, sigma_min)
    back = data_from_velocity(x_t, velocity(noise, data, sigma_min), t, sigma_min)
    torch.testing.assert_close(back, data)


@pytest.mark.parametrize("sigma_min", [0.0, 0.3])
def test_velocity_is_the_paths_slope(sigma_min: float) -> None:
    noise, data = pair()
    before, after = (
        interpolate(noise, data, torch.full((3,), t, dtype=torch.float64), sigma_min) for t in (0.3, 0.301)
    )
    torch.testing.assert_close(
        (after - before) / 0.001, velocity(noise, data, sigma_min), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("times", [uniform(1), uniform(3), end_dense(8), (0.2, 0.7)])
def test_a_constant_field_is_solved_exactly(solver: str, times: tuple[float, ...]) -> None:
    x_0, v = pair()
    found = solve(lambda x, t: v, x_0, times, solver)
    torch.testing.assert_close(found, x_0 + (times[-1] - times[0]) * v)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(solver: str, order: int) -> None:
    start = torch.ones(1, dtype=torch.float64)
    errors = [abs(float(solve(growth, start, uniform(n), solver)) - math.exp(1.5)) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert errors[1] < 0.2


def test_heun_and_midpoint_are_what_they_are_called() -> None:
    x = torch.ones(1, dtype=torch.float64)
    heun = 1 + 0.5 * 0.5 * (growth(x, 0.0) + growth(1 + 0.5 * growth(x, 0.0), 0.5))
    middle = 1 + 0.5 * growth(1 + 0.25 * growth(x, 0.0), 0.25)
    torch.testing.assert_close(solve(growth, x, (0.0, 0.5), "heun"), heun)
    torch.testing.assert_close(solve(growth, x, (0.0, 0.5), "midpoint"), middle)
    assert torch.equal(solve(growth, x, (0.5, 1.0), "heun"), solve(growth, x, (0.5, 1.0), "euler"))


@pytest.mark.parametrize(("solver", "count"), [("euler", 8), ("midpoint", 16), ("heun", 15)])
def test_the_velocity_is_never_asked_for_at_the_end(solver: str, count: int) -> None:
    asked: list[float] = []

    def v(x: Tensor, t: float) -> Tensor:
        asked.append(t)
        return x

    solve(v, torch.ones(1), end_dense(8), solver)
    assert len(asked) == count and min(asked) == 0.0 and max(asked) < 1.0


@pytest.mark.parametrize("intervals", [1, 2, 8, 50])
def test_grids_go_from_noise_to_data(intervals: int) -> None:
    for grid in (uniform(intervals), end_dense(intervals), end_dense(intervals, rho=3.0)):
        assert len(grid) == intervals + 1
        assert grid[0] == 0.0 and grid[-1] == 1.0
        assert all(a < b for a, b in pairwise(grid))


def test_the_end_dense_grid_is_denser_at_the_data_end() -> None:
    steps = [b - a for a, b in pairwise(end_dense(8))]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == pytest.approx(1 / 64)
    assert end_dense(8, rho=1.0) == pytest.approx(uniform(8))


def gaussian(deviation: float) -> Velocity:
    """The exact velocity of the flow from N(0, 1) to N(0, deviation^2): x(1) = deviation * x(0)."""

    def v(x: Tensor, t: float) -> Tensor:
        return (t * deviation**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * deviation**2) * x

    return v


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2, 0.35, 0.5, 0.7])
def test_eight_heun_intervals_keep_the_spread_of_a_gaussian(deviation: float) -> None:
    start = torch.ones(1, dtype=torch.float64)
    kept = float(solve(gaussian(deviation), start, end_dense(8), "heun")) / deviation
    assert kept == pytest.approx(1.0, abs=0.08)
    smooth = float(solve(gaussian(deviation), start, uniform(15), "euler")) / deviation
    assert smooth < 0.92, "as many uniform Euler steps give pictures that are too smooth"


def test_a_mean_is_reached_whatever_the_grid() -> None:
    """x_1 = 3 for certain: v = (3 - x) / (1 - t), straight lines that one step solves."""
    for times in (uniform(1), uniform(5), end_dense(8)):
        for solver in SOLVERS:
            found = solve(lambda x, t: (3 - x) / (1 - t), torch.tensor([-1.0, 0.5]), times, solver)
            torch.testing.assert_close(found, torch.tensor([3.0, 3.0]))
