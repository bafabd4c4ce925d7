"""Keys: what changes them and what does not, and where a job's files lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro_line import micro_recipe

from flowpose.job import ORDER, Job, stage_config, stage_keys, versions

STAGES = list(ORDER)


def changed(folder: Path, *overrides: str) -> list[str]:
    """The stages whose keys an override changes."""
    before, after = stage_keys(micro_recipe(folder)), stage_keys(micro_recipe(folder, *overrides))
    return [stage for stage in ORDER if before[stage] != after[stage]]


CHANGES = [
    ("image.height=64", STAGES),
    ("data.seed=1", STAGES),
    ("autoencoder.optim.seed=1", STAGES),
    ("model.size=tiny", STAGES[1:]),
    ("train.optim.lr=1e-4", STAGES[1:]),
    ("distill.pairs=9", STAGES[2:]),
    ("quantize.algorithm=smoothquant", STAGES[3:]),
    ("export.tolerance=0.7", STAGES[4:]),
]

UNCHANGED = [
    *(
        f"{stage}.optim.{setting}=3"
        for stage in STAGES[:3]
        for setting in ("checkpoint_every", "sample_every")
    ),
    "evaluate.pairs=5",
    "compile.threads=2",
    "gates=[{stage: train, metric: truth.psnr, min: 1}]",
    "description=other",
]


@pytest.mark.parametrize(("override", "stages"), CHANGES)
def test_a_change_makes_its_stage_and_all_after_it_anew(
    tmp_path: Path, override: str, stages: list[str]
) -> None:
    assert changed(tmp_path, override) == stages


@pytest.mark.parametrize("override", UNCHANGED)
def test_what_only_watches_changes_no_key(tmp_path: Path, override: str) -> None:
    assert changed(tmp_path, override) == []


def test_the_calibration_set_is_part_of_the_quantized_key(tmp_path: Path) -> None:
    recipe = micro_recipe(tmp_path)
    one, two = (stage_keys(recipe, {"count": count}) for count in (6, 7))
    assert [stage for stage in ORDER if one[stage] != two[stage]] == STAGES[3:]


def test_keys_are_64_hex_digits_and_differ(tmp_path: Path) -> None:
    keys = stage_keys(micro_recipe(tmp_path))
    assert list(keys) == STAGES
    assert len(set(keys.values())) == len(STAGES)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys.values())


def test_configurations_are_plain_and_leave_out_what_only_watches(tmp_path: Path) -> None:
    config = stage_config(micro_recipe(tmp_path), "train")
    assert set(config) == {"model", "train"}
    assert "checkpoint_every" not in config["train"]["optim"] and config["train"]["optim"]["batch"] == 6


def test_a_job_knows_its_places(tmp_path: Path) -> None:
    job = Job(recipe=micro_recipe(tmp_path), stage="train", key="ab" * 32, root=tmp_path)
    assert job.path == tmp_path / "tiny" / "train-abababababab"
    assert job.work == tmp_path / "tiny" / "work" / "train-abababababab"
    assert job.set_name == "figures"
    folder = micro_recipe(tmp_path, "data={source: folder, path: ../crowd}")
    people = Job(recipe=folder, stage="train", key="a", root=tmp_path)
    assert people.set_name == "crowd"
    row = job.measured("psnr", 21, n=3, split="val", unit="dB")
    assert (row.set, row.stage, row.against, row.value) == ("figures/val", "train", "truth", 21.0)


def test_fields_say_what_made_it(tmp_path: Path) -> None:
    fields = Job(recipe=micro_recipe(tmp_path), stage="train", key="ab" * 32, root=tmp_path).fields("model")
    assert fields["stage"]["name"] == "train" and fields["parent"] is None and fields["history"] == ()
    assert fields["image"] == {"height": 48, "width": 32}
    assert fields["built_with"] == versions() and {"python", "torch", "numpy"} <= set(versions())
