"""The records of distillation: which fields each method has, and what a mistake in one says."""

from __future__ import annotations

from typing import Any

import pytest

from flowpose.errors import SpecError
from flowpose.spec.recipe import (
    AdversarialFinish,
    BootstrapDistillation,
    EdgeStudent,
    FlowMapDistillation,
    PoseAugmentSpec,
    Recipe,
    RegressorSpec,
    SameStudent,
    TrajectoryDistillation,
)

OPTIM = {"iterations": 20, "batch": 4}


def parsed(recipe_data: dict[str, Any], **parts: Any) -> Recipe:
    return Recipe.parse({**recipe_data, **parts}, "recipe")


def problem(recipe_data: dict[str, Any], **parts: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parsed(recipe_data, **parts)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("method", "record"),
    [
        ("trajectory", TrajectoryDistillation),
        ("bootstrap", BootstrapDistillation),
        ("flowmap", FlowMapDistillation),
    ],
)
def test_the_method_says_which_record_it_is(
    recipe_data: dict[str, Any], method: str, record: type[Any]
) -> None:
    found = parsed(recipe_data, distill={"method": method, "optim": OPTIM}).distill
    assert type(found) is record
    assert (found.student, found.steps, found.noise) == (SameStudent(), 1, "zero")


def test_the_student_is_one_of_two(recipe_data: dict[str, Any]) -> None:
    distill = {"method": "bootstrap", "student": {"kind": "edge", "width": 64}, "optim": OPTIM}
    assert parsed(recipe_data, distill=distill).distill.student == EdgeStudent(width=64)
    distill["student"] = {"kind": "egde"}
    assert problem(recipe_data, distill=distill).endswith("(did you mean 'edge'?)")


def test_a_recipe_has_neither_finish_nor_baseline_unless_it_says_so(recipe_data: dict[str, Any]) -> None:
    plain = parsed(recipe_data)
    assert plain.finish is None and plain.regressor is None
    both = parsed(recipe_data, finish={"optim": OPTIM}, regressor={"optim": OPTIM})
    assert isinstance(both.finish, AdversarialFinish) and isinstance(both.regressor, RegressorSpec)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"method": "bootstrp"}, "recipe.distill.method: unknown value, got 'bootstrp'"),
        ({"method": "bootstrap", "pairs": 8}, "recipe.distill.pairs: unknown key"),
        ({"method": "bootstrap", "step": 0.6}, "recipe.distill.step: too large, got 0.6"),
        ({"method": "bootstrap", "solver": "heun"}, "recipe.distill.solver: unknown value, got 'heun'"),
        ({"method": "flowmap", "anchor": 1.5}, "recipe.distill.anchor: too large, got 1.5"),
        ({"method": "flowmap", "epsilon": 0}, "recipe.distill.epsilon: too small, got 0"),
        ({"method": "trajectory", "steps": 3}, "recipe.distill.steps: "),
        ({"method": "trajectory", "middle": 1.0}, "recipe.distill.middle: too large, got 1.0"),
        ({"method": "trajectory", "second": 0.0}, "recipe.distill.second: too small, got 0.0"),
        ({"method": "trajectory", "intervals": 1}, "recipe.distill.intervals: too small, got 1"),
        ({"method": "trajectory", "crop": 12}, "recipe.distill.crop: "),
        (
            {"method": "trajectory", "student": {"kind": "edge", "width": 48}},
            "recipe.distill.student.width: ",
        ),
    ],
)
def test_each_mistake_is_told_with_its_path(
    recipe_data: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    assert problem(recipe_data, distill={"optim": OPTIM, **change}).startswith(expected)


def test_a_distillation_must_name_its_method(recipe_data: dict[str, Any]) -> None:
    found = problem(recipe_data, distill={"optim": OPTIM})
    assert found == (
        "recipe.distill.method: missing key, expected one of 'trajectory', 'bootstrap', 'flowmap'"
    )


@pytest.mark.parametrize("changes", [{"parts": 1.2}, {"limbs": -0.1}, {"spread": 0.2}, {"hands": 0.1}])
def test_shares_of_spoilt_poses_have_their_ranges(changes: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=next(iter(changes))):
        PoseAugmentSpec.parse(changes, "recipe.train.poses")


def test_the_share_of_a_finish_is_above_nothing(recipe_data: dict[str, Any]) -> None:
    found = problem(recipe_data, finish={"share": 0.0, "optim": OPTIM})
    assert found.startswith("recipe.finish.share: too small, got 0.0, expected more than 0")
