from __future__ import annotations

from typing import Any

import pytest

from flowpose.errors import SpecError
from flowpose.spec.check import check
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_recipe, load_target
from flowpose.spec.recipe import Recipe
from flowpose.spec.target import Target


def problems(recipe_data: dict[str, Any], target_data: dict[str, Any]) -> tuple[str, ...]:
    recipe, target = Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target")
    with pytest.raises(SpecError) as caught:
        check(recipe, target)
    return caught.value.problems


# INT8 alone, on a board whose INT8 rate nobody has found.
UNFIT = {(name, "jetson-thor") for name in ("people-256", "people-256-gpu")}


def test_every_shipped_recipe_fits_every_shipped_target() -> None:
    for recipe in shipped("recipes"):
        for target in shipped("targets"):
            if (recipe, target) not in UNFIT:
                check(load_recipe(recipe), load_target(target))


def test_a_recipe_of_int8_alone_is_refused_where_there_is_none() -> None:
    for recipe, target in UNFIT:
        with pytest.raises(SpecError, match="got int8, expected one of fp32, fp16, fp8"):
            check(load_recipe(recipe), load_target(target))


def test_a_good_pair_passes(recipe_data: dict[str, Any], target_data: dict[str, Any]) -> None:
    check(Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target"))


def test_a_target_without_the_asked_precision(
    recipe_data: dict[str, Any], target_data: dict[str, Any]
) -> None:
    recipe_data["compile"] = {"precision": "int8"}
    assert problems(recipe_data, {**target_data, "precisions": ["fp32", "fp16"]}) == (
        "recipe.compile.precision: not one of target board, got 'int8', expected auto or one of fp32, fp16",
    )


def test_a_target_that_runs_nothing_of_what_will_be_made(
    recipe_data: dict[str, Any], target_data: dict[str, Any]
) -> None:
    recipe_data["export"] = {"precisions": ["int8"]}
    assert problems(recipe_data, {**target_data, "precisions": ["fp32", "fp16"]}) == (
        "recipe.export.precisions: none is one of target board, got int8, expected one of fp32, fp16",
    )


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        (
            "compile",
            {"threads": 3},
            "recipe.compile.threads: more than target board has, got 3, expected at most 2",
        ),
        ("quantize", {"method": "int8", "calibration": "tniy"}, "recipe.quantize.calibration: no such path"),
        ("quantize", {"method": "int8", "calibration": "tniy"}, "(did you mean 'tiny'?)"),
        ("image", {"height": 72, "width": 48}, "recipe.image.height: not a multiple, got 72"),
        ("evaluate", {"sheet": 9, "pairs": 8}, "recipe.evaluate.sheet: more than evaluate.pairs, got 9"),
        ("gates", [{"stage": "train", "metric": "psnr"}], "recipe.gates.0: no limit, expected min or max"),
        (
            "gates",
            [{"stage": "train", "metric": "psnr", "min": 2, "max": 1}],
            "recipe.gates.0: min is above max",
        ),
        (
            "gates",
            [{"stage": "finish", "metric": "psnr", "min": 1}],
            "recipe.gates.0.stage: not a stage of this recipe, got 'finish', expected recipe.finish",
        ),
        (
            "gates",
            [{"stage": "train", "metric": "psnr", "min": 1, "of": "psnr"}],
            "recipe.gates.0.of: got 'psnr', expected another measurement",
        ),
        (
            "regressor",
            {"optim": {"iterations": 5, "batch": 2, "warmup": 5}},
            "recipe.regressor.optim.warmup: as long as the run, got 5",
        ),
        (
            "train",
            {"joints": {"iterations": 5, "batch": 2, "warmup": 5}, "optim": {"iterations": 200, "batch": 4}},
            "recipe.train.joints.warmup: as long as the run, got 5",
        ),
        (
            "features",
            {"optim": {"iterations": 5, "batch": 2, "warmup": 5}},
            "recipe.features.optim.warmup: as long as the run, got 5",
        ),
    ],
)
def test_each_mistake_is_told(
    recipe_data: dict[str, Any], target_data: dict[str, Any], where: str, value: object, expected: str
) -> None:
    recipe_data["model"]["patch"] = 2
    recipe_data[where] = value
    assert expected in problems(recipe_data, target_data)[0]


def test_windows_are_not_cut_from_pictures_that_are_drawn_at_half_their_size(
    recipe_data: dict[str, Any], target_data: dict[str, Any]
) -> None:
    recipe_data["autoencoder"]["shrink"] = 2
    recipe_data["image"] = {"height": 64, "width": 64}
    check(Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target"))
    recipe_data["distill"]["crop"] = 16
    assert list(problems(recipe_data, target_data)) == [
        "recipe.distill.crop: not with autoencoder.shrink, got 16, expected 0"
    ]
    recipe_data["distill"]["crop"], recipe_data["image"] = 0, {"height": 72, "width": 64}
    assert "recipe.image.height: not a multiple, got 72" in problems(recipe_data, target_data)[0]


def test_no_iterations_need_no_warm_up(recipe_data: dict[str, Any], target_data: dict[str, Any]) -> None:
    recipe_data["distill"]["optim"] = {"iterations": 0, "batch": 4}
    check(Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target"))


def test_detail_needs_limbs_to_be_carried_along(
    recipe_data: dict[str, Any], target_data: dict[str, Any]
) -> None:
    optim = {"iterations": 20, "batch": 4, "warmup": 2}
    recipe_data["model"]["pose"] = "skeleton-latent"
    recipe_data["distill"]["detail"] = True
    recipe_data["regressor"] = {"detail": True, "optim": optim}
    recipe_data["teacher_finish"] = {"optim": optim}
    assert [text.split(":")[0] for text in problems(recipe_data, target_data)] == [
        "recipe.teacher_finish",
        "recipe.distill.detail",
        "recipe.regressor.detail",
    ]
    recipe_data["model"]["pose"] = "limb-field"
    check(Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target"))
    recipe_data["model"]["pose"] = "skeleton-latent"
    edge, recipe_data["teacher_finish"] = {"kind": "edge", "width": 32}, None
    recipe_data["distill"]["student"] = recipe_data["regressor"]["student"] = edge
    check(Recipe.parse(recipe_data, "recipe"), Target.parse(target_data, "target"))


def test_all_problems_are_told_at_once(recipe_data: dict[str, Any], target_data: dict[str, Any]) -> None:
    recipe_data["autoencoder"]["crop"] = 64
    recipe_data["train"]["optim"]["warmup"] = 20
    recipe_data["quantize"]["calibration"] = "nowhere"
    recipe_data["compile"] = {"precision": "int8"}
    found = problems(recipe_data, {**target_data, "precisions": ["fp32"]})
    assert [text.split(":")[0] for text in found] == [
        "recipe.autoencoder.crop",
        "recipe.train.optim.warmup",
        "recipe.quantize.calibration",
        "recipe.compile.precision",
    ]
