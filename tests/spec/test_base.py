from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pydantic
import pytest

from flowpose.errors import SpecError
from flowpose.spec.base import Spec, canonical, nearest, records
from flowpose.spec.recipe import DataSpec, DistillSpec, Recipe


class Step(Spec):
    kind: Literal["step"]
    count: int = pydantic.Field(gt=0)


class Jump(Spec):
    kind: Literal["jump"]
    rate: float


class Plan(Spec):
    name: str
    mode: Literal["fast", "slow"] = "fast"
    move: Annotated[Step | Jump, pydantic.Field(discriminator="kind")]
    later: tuple[Step, ...] = ()
    size: tuple[int, int] = (1, 2)
    table: dict[str, float] = {}
    level: int | str = 0


GOOD = {"name": "a", "move": {"kind": "step", "count": 3}}


def problems(data: object, record: type[Spec] = Plan) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        record.parse(data, "plan")
    return caught.value.problems


def test_good_data_becomes_a_record() -> None:
    plan = Plan.parse({**GOOD, "later": [{"kind": "step", "count": 1}], "table": {"x": 1}}, "plan")
    assert plan.move == Step(kind="step", count=3)
    assert plan.later[0].count == 1
    assert plan.table == {"x": 1.0}
    assert Plan.parse(plan, "plan") == plan


def test_records_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        Plan.parse(GOOD, "plan").name = "b"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nmae": "b"}, "plan.nmae: unknown key, expected one of 'name', 'mode'"),
        ({"nmae": "b"}, "(did you mean 'name'?)"),
        ({"mode": "fsat"}, "plan.mode: unknown value, got 'fsat', expected one of 'fast', 'slow' (did you"),
        ({"name": 3}, "plan.name: wrong type, got 3, expected a text"),
        ({"size": [1]}, "plan.size.1: missing key"),
        ({"size": [1, 2, 3]}, "plan.size: too many values, got [1, 2, 3], expected at most 2"),
        ({"size": [1, 2.5]}, "plan.size.1: wrong type, got 2.5, expected a whole number"),
        ({"size": "12"}, "plan.size: wrong type, got '12', expected a list"),
        ({"table": {"x": "1"}}, "plan.table.x: wrong type, got '1', expected a number"),
        ({"level": [1]}, "plan.level: wrong type, got [1], expected a whole number"),
        ({"move": {"kind": "jmup"}}, "plan.move.kind: unknown value, got 'jmup', expected one of 'step'"),
        ({"move": {"kind": "jmup"}}, "(did you mean 'jump'?)"),
        ({"move": {"count": 3}}, "plan.move.kind: missing key, expected one of 'step', 'jump'"),
        ({"move": {"kind": "step", "count": 0}}, "plan.move.count: too small, got 0, expected more than 0"),
        ({"move": {"kind": "step", "count": "3"}}, "plan.move.count: wrong type, got '3', expected a whole"),
        ({"move": {"kind": "step", "count": True}}, "plan.move.count: wrong type, got True"),
        ({"move": {"kind": "step", "count": 3, "cuont": 1}}, "plan.move.cuont: unknown key, expected one of"),
        ({"move": {"kind": "jump"}}, "plan.move.rate: missing key, expected a number"),
        ({"later": [{"kind": "step", "count": 1}, 7]}, "plan.later.1: wrong type, got 7, expected a table"),
    ],
)
def test_each_mistake_is_told_with_its_path(change: dict[str, Any], expected: str) -> None:
    assert any(expected in text for text in problems({**GOOD, **change}))


@pytest.mark.parametrize("data", [None, 3, "text", [1]])
def test_a_file_that_is_no_table(data: object) -> None:
    assert problems(data) == (f"plan: wrong type, got {data!r}, expected a table of keys and values",)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        Plan.parse({"nmae": "a", "mode": 1, "move": {"kind": "step", "count": -1}}, "plan", source="a.yaml")
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("a.yaml: 4 problems\n  plan.name: missing key")


def test_only_the_member_of_a_union_that_is_meant_is_told(recipe_data: dict[str, Any]) -> None:
    recipe_data["autoencoder"]["latnets"] = 4
    found = problems(recipe_data, Recipe)
    assert len(found) == 1
    assert found[0].startswith("plan.autoencoder.latnets: unknown key")
    assert found[0].endswith("(did you mean 'latents'?)")


def test_the_other_member_of_a_union_is_told_when_that_is_meant(recipe_data: dict[str, Any]) -> None:
    recipe_data["autoencoder"] = {"pretrained": "AutoencoderTinny", "path": "x"}
    assert problems(recipe_data, Recipe) == (
        "plan.autoencoder.pretrained: unknown value, got 'AutoencoderTinny', "
        "expected one of 'AutoencoderTiny', 'AutoencoderKL' (did you mean 'AutoencoderTiny'?)",
    )


def test_a_long_value_is_cut_short() -> None:
    assert len(problems({**GOOD, "name": ["x"] * 1000})[0]) < 160


def test_canonical_text_is_one_for_equal_data() -> None:
    assert canonical({"b": (1, 2), "a": 0.5}) == canonical({"a": 0.5, "b": [1, 2]}) == b'{"a":0.5,"b":[1,2]}'
    assert canonical(Plan.parse(GOOD, "plan")) == canonical(Plan.parse(GOOD, "plan").model_dump())


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_canonical_text_has_no_room_for_nan(number: float) -> None:
    for data in ({"a": [number]}, Jump(kind="jump", rate=number), {"a": Jump(kind="jump", rate=number)}):
        with pytest.raises(SpecError, match="not finite"):
            canonical(data)


def test_canonical_text_refuses_what_is_not_data() -> None:
    with pytest.raises(TypeError, match="object cannot stand in a file"):
        canonical({"a": object()})


def test_nearest_says_nothing_when_nothing_is_near() -> None:
    assert nearest("stpes", ["steps", "seed"]) == " (did you mean 'steps'?)"
    assert nearest("b", ["B", "L"]) == " (did you mean 'B'?)"
    assert nearest("qqq", ["steps", "seed"]) == ""


def test_records_of_a_union_go_by_their_tags() -> None:
    assert records(Plan.model_fields["move"].annotation, "kind") == {"step": Step, "jump": Jump}
    for union, key in ((DistillSpec, "method"), (DataSpec, "source")):
        found = records(union, key)
        assert len(found) > 2 and all(record.model_fields[key].annotation for record in found.values())
    assert [record.__name__ for record in records(DataSpec, "source").values()] == [
        "FolderData", "FiguresData", "DeepFashionData", "MarketData"
    ]  # fmt: skip
