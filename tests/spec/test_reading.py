from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowpose.errors import SpecError
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_calibration, load_recipe, load_target
from flowpose.spec.recipe import AutoencoderSpec


@pytest.fixture
def recipe_file(tmp_path: Path, recipe_data: dict[str, Any]) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe_data))
    return path


def fault(load: Callable[[], object]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load()
    return caught.value


def test_every_shipped_file_loads_under_its_own_name() -> None:
    for name in shipped("recipes"):
        assert load_recipe(name).name == name
    for name in shipped("targets"):
        assert load_target(name).name == name
    for name in shipped("calib"):
        assert load_calibration(name).name == name
    assert {"cpu", "cpu-arm64"} <= shipped("targets").keys()
    assert {"tiny", "people-128"} <= shipped("calib").keys()


@pytest.mark.parametrize("folder", ["targets", "calib"])
def test_the_catalogue_names_every_shipped_file(folder: Any) -> None:
    for path in shipped(folder).values():
        assert f"[{path.stem}]({path.name})" in (path.parent / "README.md").read_text()


def test_a_recipe_is_read(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe.image.height == 64
    assert isinstance(recipe.autoencoder, AutoencoderSpec)
    assert recipe.autoencoder.widths == (8, 8, 16, 16)


def test_a_mistake_names_file_and_path(recipe_file: Path, recipe_data: dict[str, Any]) -> None:
    recipe_data["distill"]["interval"] = 4
    recipe_data["image"]["height"] = 65
    recipe_file.write_text(yaml.safe_dump(recipe_data))
    error = fault(lambda: load_recipe(recipe_file))
    assert str(error).startswith(f"{recipe_file}: 2 problems\n  recipe.image.height: not a multiple, got 65")
    assert "recipe.distill.interval: unknown key" in str(error)
    assert "(did you mean 'intervals'?)" in str(error)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_version_is_refused(
    recipe_file: Path, recipe_data: dict[str, Any], version: Any
) -> None:
    recipe_file.write_text(yaml.safe_dump({**recipe_data, "format": version}))
    assert f"recipe.format: unknown value, got {version!r}, expected 1" in str(
        fault(lambda: load_recipe(recipe_file))
    )


def test_numbers_and_truth_values_are_those_of_yaml_1_2(recipe_file: Path) -> None:
    text = recipe_file.read_text()
    recipe_file.write_text(
        text.replace("name: small", "name: no").replace("batch: 4", "batch: 4\n    lr: 1e-4")
    )
    recipe = load_recipe(recipe_file)
    assert recipe.name == "no"
    assert recipe.train.optim.lr == 1e-4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("format: 1\nformat: 1\n", "the key 'format' stands twice"),
        ("a: [1,", "not YAML: while parsing a flow node"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("", "recipe: wrong type, got None, expected a table"),
        ("- 1", "recipe: wrong type, got [1], expected a table"),
    ],
)
def test_a_file_that_is_no_recipe(recipe_file: Path, text: str, expected: str) -> None:
    recipe_file.write_text(text)
    error = fault(lambda: load_recipe(recipe_file))
    assert error.where == str(recipe_file)
    assert expected in str(error)


def test_a_file_that_is_no_text(recipe_file: Path) -> None:
    recipe_file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in str(fault(lambda: load_recipe(recipe_file)))


def test_overrides_set_values_tables_and_list_items(recipe_file: Path) -> None:
    overrides = ["train.optim.lr=1e-4", "evaluate.pairs = 3", "autoencoder.widths.1=12", "model={size: tiny}"]
    recipe = load_recipe(recipe_file, overrides)
    assert recipe.train.optim.lr == 1e-4
    assert recipe.evaluate.pairs == 3
    assert isinstance(recipe.autoencoder, AutoencoderSpec)
    assert recipe.autoencoder.widths == (8, 12, 16, 16)
    assert recipe.model.size == "tiny"


def test_the_last_override_of_a_key_holds(recipe_file: Path) -> None:
    assert load_recipe(recipe_file, ["evaluate.pairs=3", "evaluate.pairs=4"]).evaluate.pairs == 4


def test_a_typo_in_an_override_is_a_typo_in_the_recipe(recipe_file: Path) -> None:
    error = fault(lambda: load_recipe(recipe_file, ["distil.intervals=3"]))
    assert "recipe.distil: unknown key" in str(error)
    assert "(did you mean 'distill'?)" in str(error)


def test_all_overrides_that_cannot_be_set_are_told(recipe_file: Path) -> None:
    bad = ["train.optim.lr", "=3", "a..b=1", "name.first=x", "autoencoder.widths.9=1", "name=[1,"]
    error = fault(lambda: load_recipe(recipe_file, bad))
    assert len(error.problems) == len(bad)
    assert (
        error.problems[0] == "override 'train.optim.lr': wrong form, expected such as 'train.optim.lr=1e-4'"
    )
    assert error.problems[3] == "override 'name.first=x': name holds no 'first'"
    assert error.problems[4] == "override 'autoencoder.widths.9=1': autoencoder.widths holds no '9'"
    assert "not YAML" in error.problems[5]


def test_a_calibration_set_never_uses_the_test_split(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "{format: 1, name: c, data: {source: figures}, split: test, count: 0, seed: 1, digest: abc}"
    )
    error = fault(lambda: load_calibration(path))
    assert [text.split(":")[0] for text in error.problems] == [
        "calibration.split",
        "calibration.count",
        "calibration.digest",
    ]
