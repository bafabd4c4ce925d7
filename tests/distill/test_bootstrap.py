"""Bootstrap distillation on fields whose paths are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distill.micro_setting import SHAPE, Known, batch_of, distillation, setting, with_field
from torch import Tensor

from flowpose.distill.bootstrap import Bootstrap
from flowpose.distill.student import Made, Setting
from flowpose.optimize import Draw

FLOOR = 1e-3  # of the Charbonnier loss
NOTHING_MADE = Made(torch.zeros(0), torch.zeros(0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting(tmp_path_factory.mktemp("bootstrap"), distillation("bootstrap"))


def loss(base: Setting, student: Known, velocity: Any, noise: Tensor | None = None, **changes: Any) -> Tensor:
    made = with_field(base, velocity, noise)
    made = Setting(
        made.job,
        distillation("bootstrap", **changes),
        made.teacher,
        made.latents,
        made.reference,
        made.features,
    )
    found = Bootstrap(made).losses(student, batch_of(base), NOTHING_MADE, Draw.at(0, 0))
    assert set(found) == {"bootstrap"}
    return found["bootstrap"]


def value(found: Tensor) -> float:
    return float(found.detach())


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_a_constant_velocity_is_its_own_mean(base: Setting, solver: str) -> None:
    student = Known(lambda x, t, r: torch.full_like(x, 0.7))
    found = loss(base, student, lambda x, t: torch.full_like(x, 0.7), solver=solver, weight=2.0)
    assert value(found) == pytest.approx(2 * FLOOR, rel=1e-3)


def test_a_velocity_linear_in_time_is_exact_with_the_midpoint(base: Setting) -> None:
    """v = 2 t goes d^2 far in the time d, so the mean velocity over [0, d] is d."""
    student, field = Known(lambda x, t, r: r - t), lambda x, t: 2 * t
    assert value(loss(base, student, field)) == pytest.approx(FLOOR, rel=1e-3)
    assert value(loss(base, student, field, solver="euler")) > 10 * FLOOR, "Euler falls behind by h^2"
    assert value(loss(base, Known(lambda x, t, r: 2 * (r - t)), field)) > 50 * FLOOR


def test_the_teacher_is_asked_where_the_students_own_path_is(base: Setting) -> None:
    """v = -x from z goes to z exp(-d): only a student that is asked from z + d F finds it."""
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))

    def mean(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return x * torch.expm1(t - r) / (r - t)

    found = loss(base, Known(mean), lambda x, t: -x, noise, step=0.02)
    assert value(found) == pytest.approx(FLOOR, rel=0.02)
    wrong = loss(base, Known(lambda x, t, r: -x), lambda x, t: -x, noise, step=0.02)
    assert value(wrong) > 5 * FLOOR


def test_the_target_is_held_fixed(base: Setting) -> None:
    """Were the target trained too, the slope of the loss would be h / (d + h), not 1."""
    student = Known(lambda x, t, r: torch.zeros_like(x), offset=-5.0)
    loss(base, student, lambda x, t: torch.full_like(x, 5.0)).backward()
    assert student.offset.grad is not None
    assert float(student.offset.grad) == pytest.approx(-1.0, abs=1e-3)


def test_steps_never_leave_the_flow(base: Setting) -> None:
    """The teacher is asked at times of d .. d + h within 0..1, and the student up to d + h."""
    asked: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return torch.zeros_like(x)

    def mean(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        asked.append(r)
        return torch.zeros_like(x)

    loss(base, Known(mean), velocity, step=0.5)
    times = torch.cat([each.flatten() for each in asked])
    assert float(times.min()) >= 0 and float(times.max()) <= 1


def test_conditions_are_fresh_ones(base: Setting, tmp_path: Path) -> None:
    batch = Bootstrap(base).draw(Draw.at(0, 3).rng, 5)
    assert len(batch.source) == len(batch.truth) == 5 and not len(batch.ends)
