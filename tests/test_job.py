"""Keys: what changes them and what does not, and where a job's files lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro_line import micro_recipe

from flowpose.artifact import creating, stage_key
from flowpose.job import (
    FITTED,
    ORDER,
    Job,
    Stage,
    data_digest,
    parent_stage,
    stage_config,
    stage_keys,
    stages_of,
    versions,
)
from flowpose.spec.reading import load_calibration, load_recipe

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
    ("autoencoder.shrink=2", STAGES),
    ("regressor.optim.lr=1e-4", ["regressor", "export"]),
    ("teacher_finish.pairs=9", ["teacher_finish", "export"]),
    ("finish.reopen=false", ["finish", "quantize", "export"]),
    ("distill.pairs=9", ["distill", "finish", "quantize", "export"]),
    ("finish.share=0.2", ["finish", "quantize", "export"]),
    ("quantize.algorithm=entropy", ["quantize", "export"]),
    ("export.tolerance=0.7", ["export"]),
]


def test_settings_that_came_later_are_in_no_key_at_the_values_of_before(tmp_path: Path) -> None:
    plain = stage_config(micro_recipe(tmp_path), "autoencoder")["autoencoder"]
    assert "latents" in plain and not {"shrink", "start"} & set(plain)
    assert (
        stage_config(micro_recipe(tmp_path, "autoencoder.shrink=2"), "autoencoder")["autoencoder"]["shrink"]
        == 2
    )
    assert changed(tmp_path, "autoencoder.shrink=1", "finish.reopen=true", "distill.start=null") == []


@pytest.mark.parametrize(
    ("stage", "override", "of"),
    [("autoencoder", "autoencoder.start=tiny", "autoencoder"), ("distill", "distill.start=tiny", "distill")],
)
def test_what_a_stage_starts_from_is_in_its_key(
    tmp_path: Path, stage: Stage, override: str, of: Stage
) -> None:
    config = stage_config(micro_recipe(tmp_path, override), stage)
    assert config["start"] == stage_keys(load_recipe("tiny"))[of]


UNCHANGED = [
    *(f"{stage}.optim.{setting}=3" for stage in FITTED for setting in ("checkpoint_every", "sample_every")),
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
    assert [stage for stage in ORDER if one[stage] != two[stage]] == ["quantize", "export"]


def test_keys_are_64_hex_digits_and_differ(tmp_path: Path) -> None:
    keys = stage_keys(micro_recipe(tmp_path))
    assert list(keys) == STAGES == list(ORDER)
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


BARE = ("regressor=null", "teacher_finish=null", "finish=null")
PARENTS: list[tuple[tuple[str, ...], dict[Stage, Stage]]] = [
    (
        (),
        {
            "regressor": "train",
            "distill": "train",
            "finish": "distill",
            "quantize": "finish",
            "export": "quantize",
        },
    ),
    (("finish=null",), {"regressor": "train", "distill": "train", "quantize": "distill"}),
    (BARE, {"train": "autoencoder", "distill": "train", "quantize": "distill", "export": "quantize"}),
]


@pytest.mark.parametrize(("overrides", "parents"), PARENTS)
def test_each_stage_starts_from_the_last_that_the_recipe_has(
    tmp_path: Path, overrides: tuple[str, ...], parents: dict[Stage, Stage]
) -> None:
    recipe = micro_recipe(tmp_path, *overrides)
    assert {stage: parent_stage(recipe, stage) for stage in parents} == parents
    assert parent_stage(recipe, "autoencoder") is None
    keys = stage_keys(recipe)
    for stage in ("regressor", "distill", "finish"):
        if stage in keys:
            before = parent_stage(recipe, stage)
            assert before and keys[stage] == stage_key(keys[before], stage, stage_config(recipe, stage))


def test_stages_that_a_recipe_lacks_are_left_out(tmp_path: Path) -> None:
    bare, whole = micro_recipe(tmp_path, *BARE), micro_recipe(tmp_path)
    assert stages_of(whole) == ORDER
    assert stages_of(bare) == ("autoencoder", "train", "distill", "quantize", "export")
    assert list(stage_keys(bare)) == list(stages_of(bare))
    shared = [stage for stage in stages_of(bare) if stage_keys(bare)[stage] == stage_keys(whole)[stage]]
    assert shared == ["autoencoder", "train", "distill"]


@pytest.mark.parametrize(
    ("until", "stages"),
    [
        ("train", ORDER[:2]),
        ("regressor", ORDER[:3]),
        ("distill", ORDER[:6]),  # a student is there when it is finished
        ("finish", ORDER[:6]),
        ("quantize", ORDER[:7]),
    ],
)
def test_up_to_a_stage(tmp_path: Path, until: Stage, stages: tuple[Stage, ...]) -> None:
    assert stages_of(micro_recipe(tmp_path), until) == stages
    lacking = [stage for stage in stages if stage not in ("regressor", "teacher_finish", "finish")]
    assert list(stages_of(micro_recipe(tmp_path, *BARE), until)) == lacking


def test_siblings_are_found_by_their_keys(tmp_path: Path) -> None:
    recipe = micro_recipe(tmp_path)
    calibration = load_calibration(recipe.quantize.calibration).model_dump(mode="json")
    keys = stage_keys(recipe, calibration)
    for stage in ("regressor", "quantize"):
        other = Job(recipe=recipe, stage=stage, key=keys[stage], root=tmp_path / "out")
        with creating(other.path, **other.fields("student")) as draft:
            (draft / "weights").write_text(stage)
    job = Job(recipe=recipe, stage="export", key=keys["export"], root=tmp_path / "out")
    found = {stage: job.sibling(stage) for stage in ORDER}
    assert {stage: each.manifest.key for stage, each in found.items() if each} == {
        stage: keys[stage] for stage in ("regressor", "quantize")
    }
    bare = Job(recipe=micro_recipe(tmp_path, *BARE), stage="export", key="ab" * 32, root=tmp_path / "out")
    assert bare.sibling("regressor") is None
    assert job.fields("graph")["stage"]["regressor_key"] == keys["regressor"]
    assert "regressor_key" not in bare.fields("graph")["stage"]


def crowd(root: Path) -> Path:
    """A folder of pictures and a tar, both of the train split, and others."""
    for part in ("train-0", "train-512", "val"):
        (root / "crowd" / part / "images").mkdir(parents=True)
        (root / "crowd" / part / "images" / "a.png").write_bytes(b"12345")
        (root / "crowd" / part / "annotations.json").write_text("{}")
    (root / "crowd" / "train-1.tar").write_bytes(b"tar")
    return root / "crowd"


@pytest.mark.parametrize(
    ("file", "content", "differs"),
    [
        ("train-0/annotations.json", "[]", True),
        ("train-0/images/a.png", "1234", True),
        ("train-1.tar", "tra", True),
        ("train-2.tar", "new", True),
        ("train.tar.part", "copying", False),
        ("val/annotations.json", "[]", False),
    ],
)
def test_the_digest_of_the_data_is_that_of_its_split(
    tmp_path: Path, file: str, content: str, differs: bool
) -> None:
    before, after = crowd(tmp_path / "before"), crowd(tmp_path / "after")
    (after / file).write_text(content)
    one, two = (
        data_digest(micro_recipe(tmp_path, f"data={{source: folder, path: {each}}}"), "train", ())
        for each in (before, after)
    )
    assert one is not None and (one != two) == differs


def test_the_digest_is_recorded_and_is_no_part_of_the_key(tmp_path: Path) -> None:
    crowd(tmp_path)
    people = micro_recipe(tmp_path, "data={source: folder, path: crowd}")
    job = Job(recipe=people, stage="train", key="ab" * 32, root=tmp_path, data=(tmp_path,))
    assert job.fields("model")["stage"]["data_digest"] == data_digest(people, "train", (tmp_path,))
    assert "data_digest" not in stage_config(people, "train")
    for stage in ("quantize", "export"):
        other = Job(recipe=people, stage=stage, key="ab" * 32, root=tmp_path, data=(tmp_path,))
        assert "data_digest" not in other.fields("graph")["stage"]


def test_drawn_data_and_data_that_are_not_there_have_no_digest(tmp_path: Path) -> None:
    absent = micro_recipe(tmp_path, "data={source: folder, path: nowhere}")
    assert data_digest(absent, "train", (tmp_path,)) is None
    assert data_digest(micro_recipe(tmp_path), "train", (tmp_path,)) is None


def test_the_digest_of_deepfashion_is_that_of_its_tables(tmp_path: Path) -> None:
    recipe = micro_recipe(tmp_path, "data={source: deepfashion}")
    (tmp_path / "deepfashion").mkdir()
    assert data_digest(recipe, "train", (tmp_path,)) is None
    found = []
    for name in (
        "fasion-resize-pairs-train.csv",
        "fasion-resize-annotation-train.csv",
        "fasion-resize-pairs-test.csv",
    ):
        (tmp_path / "deepfashion" / name).write_text(name)
        found.append(data_digest(recipe, "train", (tmp_path,)))
    assert None not in found and found[0] != found[1] == found[2]


def written_vae(folder: Path) -> str:
    """Files as a diffusers autoencoder has them; an override that names it."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    return f"autoencoder={{pretrained: AutoencoderKL, path: {folder}}}"


def test_a_pretrained_autoencoder_counts_by_its_content(tmp_path: Path) -> None:
    own, moved = written_vae(tmp_path / "one"), written_vae(tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("where it came from")
    recipe = micro_recipe(tmp_path, own)
    before = stage_keys(recipe)
    assert before == stage_keys(micro_recipe(tmp_path, moved)), "it was moved"
    job = Job(recipe=recipe, stage="autoencoder", key="ab" * 32, root=tmp_path)
    made = job.fields("autoencoder")["stage"]
    assert made["autoencoder"]["path"] == str(tmp_path / "one") and len(made["pretrained_digest"]) == 64
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / "one" / name).write_bytes(b"others!")
        after = stage_keys(recipe)
        assert not set(after.values()) & set(before.values()), f"{name} was changed"
        before = after


def test_a_pretrained_autoencoder_that_is_not_there_counts_by_its_path(tmp_path: Path) -> None:
    keys = [
        stage_keys(micro_recipe(tmp_path, f"autoencoder={{pretrained: AutoencoderKL, path: {name}}}"))
        for name in ("models/a", "models/a", "models/b")
    ]
    assert keys[0] == keys[1] and keys[0]["export"] != keys[2]["export"]


def test_graphs_depend_on_the_steps_that_a_teacher_is_kept_at(tmp_path: Path) -> None:
    usual = ("evaluate.teacher_steps=[1, 2, 16]", "evaluate.latency_steps=[16, 50]")
    plain = stage_keys(micro_recipe(tmp_path, *usual))
    assert "steps" not in stage_config(micro_recipe(tmp_path, *usual), "export"), "keys of before stay"
    same = stage_keys(
        micro_recipe(tmp_path, "evaluate.teacher_steps=[50, 1]", "evaluate.latency_steps=[2, 16]")
    )
    assert same == plain, "the same grids"
    other = stage_keys(micro_recipe(tmp_path, usual[0], "evaluate.latency_steps=[8]"))
    assert [stage for stage in ORDER if other[stage] != plain[stage]] == ["export"]
    alone = ("export.references=false", "evaluate.latency_steps=[8]")
    assert "steps" not in stage_config(micro_recipe(tmp_path, *alone), "export"), "no teacher is kept"
