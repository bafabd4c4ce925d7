"""The paper's recipes run their first steps on DeepFashion's layout: made small, with a stand-in for the SD-VAE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_sets import make_deepfashion

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from flowpose.artifact import open_artifact  # noqa: E402
from flowpose.data_check import check_data  # noqa: E402
from flowpose.data_roots import DEFAULT_ROOTS  # noqa: E402
from flowpose.pipeline import Run  # noqa: E402
from flowpose.spec.reading import load_recipe  # noqa: E402
from flowpose.spec.recipe import Recipe  # noqa: E402

SHARED = next((r for root in DEFAULT_ROOTS if (r := root / "people" / "deepfashion-format").is_dir()), None)
RECIPES = ("rpfm-deepfashion-256", "rpfm-deepfashion-512")
FEW = ("iterations=2", "batch=2", "accumulate=1", "warmup=1", "checkpoint_every=2", "sample_every=99")
TABLE, PAIRS = "fasion-resize-annotation-{}.csv", "fasion-resize-pairs-{}.csv"
PEOPLE = (2, 4)  # of the small real layout, for test and train


def vae(folder: Path) -> Path:
    """An AutoencoderKL of SD's form, as small as they get, with random weights."""
    torch.manual_seed(5)
    diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, latent_channels=4,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def small(name: str, root: Path) -> Recipe:
    optims = [f"{part}.optim.{each}" for part in ("train", "distill", "features") for each in FEW]
    calibration = root / "calibration.yaml"
    data = {"source": "deepfashion", "path": "deepfashion", "pairs": "published"}
    calibration.write_text(
        yaml.safe_dump({"format": 1, "name": "small", "data": data, "split": "train", "count": 2, "seed": 1})
    )
    return load_recipe(
        name,
        [
            *(
                "image.height=64",
                "image.width=48",
                "model.size=tiny",
                f"autoencoder.path={vae(root / 'vae')}",
            ),
            *optims,
            *("features.crop=32", "distill.pairs=2", "distill.intervals=2"),
            *(
                "evaluate.pairs=2",
                "evaluate.sheet=2",
                "evaluate.teacher_steps=[1]",
                "evaluate.latency_runs=3",
            ),
            f"quantize.calibration={calibration}",
        ],
    )


def steps(name: str, root: Path) -> list[Any]:
    return Run(recipe=small(name, root), root=root / "out", data=(root,)).stages("train")


def parted(root: Path) -> None:
    """The first people of the small real layout, some as test and some as train; pictures are linked to."""
    assert SHARED is not None
    root.mkdir()
    (root / "img_highres").symlink_to((SHARED / "img_highres").resolve())
    tables = {name: (SHARED / name.format("test")).read_text().splitlines() for name in (TABLE, PAIRS)}
    people = sorted({line[: re.match(r".*id\d{8}", line).end()] for line in tables[TABLE][1:]})  # type: ignore[union-attr]
    chosen = {"test": people[: PEOPLE[0]], "train": people[PEOPLE[0] : sum(PEOPLE)]}
    for part, own in chosen.items():
        for name, (head, *lines) in tables.items():
            kept = [line for line in lines if line.startswith(tuple(own))]
            (root / name.format(part)).write_text("\n".join([head, *kept, ""]))


def assert_trained(done: list[Any]) -> None:
    assert [each.stage for each in done] == ["autoencoder", "train"]
    model = open_artifact(done[-1].artifact.path).manifest
    assert model.kind == "model" and model.stage["data_digest"]
    assert {row.set for row in model.measurements} == {"deepfashion/val"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_first_steps_run_on_a_drawn_set(tmp_path: Path, name: str) -> None:
    make_deepfashion(tmp_path / "deepfashion")
    assert_trained(steps(name, tmp_path))


@pytest.mark.skipif(SHARED is None, reason="no people/deepfashion-format in the data roots")
def test_the_recipes_first_steps_run_on_the_small_real_layout(tmp_path: Path) -> None:
    parted(tmp_path / "deepfashion")
    checked = check_data(tmp_path / "deepfashion")
    assert not checked.problems and [numbers["people"] for numbers in checked.counts.values()] == [4, 2]
    assert_trained(steps(RECIPES[0], tmp_path))
