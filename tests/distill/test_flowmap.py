"""Flow-map distillation on fields whose mean velocities are known, and the spans it is trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from distill.micro_setting import Known, batch_of, distillation, setting, with_field
from torch import Tensor

from flowpose.distill.flowmap import FlowMap, draw_spans
from flowpose.distill.student import Made, Setting
from flowpose.optimize import Draw

NOTHING_MADE = Made(torch.zeros(0), torch.zeros(0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting(tmp_path_factory.mktemp("flowmap"), distillation("flowmap"))


def loss(base: Setting, student: Known, velocity: Any, **changes: Any) -> Tensor:
    made = replace(with_field(base, velocity), spec=distillation("flowmap", **changes))
    found = FlowMap(made).losses(student, batch_of(base), NOTHING_MADE, Draw.at(0, 0))
    assert set(found) == {"flowmap"}
    return found["flowmap"]


def value(found: Tensor) -> float:
    return float(found.detach())


def twice_the_time(x: Tensor, t: Tensor) -> Tensor:
    return 2 * t


def test_a_velocity_linear_in_time_has_the_mean_t_plus_r(base: Setting) -> None:
    for anchor in (0.0, 0.5, 1.0):
        assert value(loss(base, Known(lambda x, t, r: t + r), twice_the_time, anchor=anchor)) < 1e-6


def test_a_wrong_mean_costs_what_the_weighted_square_says(base: Setting) -> None:
    """A constant error of 0.3 has no rate: 0.09 / sqrt(0.09 + 0.01)."""
    student = Known(lambda x, t, r: t + r, offset=0.3)
    found = value(loss(base, student, twice_the_time, weight=2.0))
    assert found == pytest.approx(2 * 0.09 / 0.1**0.5, rel=1e-3)


def test_only_anchors_are_content_with_the_velocity_at_the_start(base: Setting) -> None:
    student = Known(lambda x, t, r: 2 * t)
    assert value(loss(base, student, twice_the_time, anchor=1.0)) < 1e-6
    assert value(loss(base, student, twice_the_time, anchor=0.0)) > 0.1


def test_the_rate_is_taken_along_the_teachers_path(base: Setting) -> None:
    """v = -x: u = x (exp(t - r) - 1) / (r - t), whose rate has a part in x and one in t."""

    def mean(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return x * torch.expm1(t - r) / (r - t)

    assert value(loss(base, Known(mean), lambda x, t: -x, anchor=0.0)) < 1e-4
    assert value(loss(base, Known(lambda x, t, r: -x), lambda x, t: -x, anchor=0.0)) > 1e-2


def test_the_rate_is_taken_in_fp32(base: Setting) -> None:
    """bf16 knows 1 and 1.0078, so a mean of 1 + t would have a rate of 0 or far too large."""
    seen: list[torch.dtype] = []

    def mean(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return t + r

    with torch.autocast("cpu", torch.bfloat16):
        found = value(loss(base, Known(mean), twice_the_time, anchor=0.0))
    assert found < 1e-4 and seen.count(torch.float32) == 2 and len(seen) == 3


def test_the_target_is_held_fixed(base: Setting) -> None:
    student = Known(lambda x, t, r: t + r, offset=1.0)
    loss(base, student, twice_the_time, anchor=0.0).backward()
    assert student.offset.grad is not None
    assert float(student.offset.grad) == pytest.approx(2 / 1.01**0.5, rel=1e-3)


def test_spans_lie_in_the_flow_with_their_shares() -> None:
    spec = distillation("flowmap", anchor=0.4, epsilon=0.01)
    t, r = draw_spans(Draw.at(0, 0), 4000, spec, torch.device("cpu"))
    assert (t <= r).all()
    assert float(t.min()) == pytest.approx(0.01) and float(r.max()) <= 0.99
    assert float((t == r).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float((t == t.min()).float().mean()) == pytest.approx(0.25, abs=0.03)
    again = draw_spans(Draw.at(0, 0), 4000, spec, torch.device("cpu"))
    assert torch.equal(t, again[0]) and torch.equal(r, again[1])


def test_every_sample_may_be_an_anchor_or_none() -> None:
    for anchor, share in ((1.0, 1.0), (0.0, 0.0)):
        spec = distillation("flowmap", anchor=anchor)
        t, r = draw_spans(Draw.at(0, 0), 500, spec, torch.device("cpu"))
        assert float((t == r).float().mean()) == share
