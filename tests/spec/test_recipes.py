"""What the shipped recipes promise beyond being readable."""

from __future__ import annotations

import pytest

from flowpose.spec.check import check_recipe
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_calibration, load_recipe
from flowpose.spec.recipe import AutoencoderSpec, DeepFashionData, PretrainedAutoencoderSpec, Recipe

PAPER = ("rpfm-deepfashion-256", "rpfm-deepfashion-512")


@pytest.mark.parametrize("name", shipped("recipes"))
def test_every_recipe_can_be_carried_out(name: str) -> None:
    check_recipe(load_recipe(name))


@pytest.mark.parametrize("name", shipped("recipes"))
def test_calibration_draws_from_the_recipes_own_data(name: str) -> None:
    recipe = load_recipe(name)
    calibration = load_calibration(recipe.quantize.calibration)
    assert calibration.split == "train"
    kept = {"path", "pairs", "source"}
    assert calibration.data.model_dump(include=kept) == recipe.data.model_dump(include=kept)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_form_holds_none_of_our_additions(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.pose == "skeleton-latent" and recipe.model.patch == 2
    assert isinstance(recipe.autoencoder, PretrainedAutoencoderSpec)
    assert isinstance(recipe.data, DeepFashionData) and recipe.data.pairs == "published"
    train = recipe.train
    assert (train.at_noise, train.targets, train.flip) == (0, 1, False)
    poses = train.poses
    assert poses.parts == poses.limbs == poses.half_body == poses.jitter == 0
    assert 0 < train.sigma_min < 1e-2


@pytest.mark.parametrize(("name", "batch"), zip(PAPER, (32, 10), strict=True))
def test_the_papers_form_is_trained_with_its_peers_batch(name: str, batch: int) -> None:
    optim = load_recipe(name).train.optim
    assert optim.batch * optim.accumulate == batch and optim.precision == "bf16"


@pytest.mark.parametrize("name", PAPER)
def test_owners_say_where_their_files_are_and_which_pairs_they_want(name: str) -> None:
    changes = [
        "autoencoder.path=/vae",
        "data.path=/pictures",
        "evaluate.split=test",
        "evaluate.pairs=8570",
        "model.size=B",
    ]
    recipe = load_recipe(name, changes)
    assert isinstance(recipe.autoencoder, PretrainedAutoencoderSpec) and recipe.autoencoder.path == "/vae"
    assert isinstance(recipe.data, DeepFashionData) and recipe.data.path == "/pictures"
    check_recipe(recipe)


def tokens(recipe: Recipe) -> tuple[int, int]:
    assert isinstance(recipe.autoencoder, AutoencoderSpec)
    pitch = 8 * recipe.autoencoder.shrink * recipe.model.patch
    return recipe.image.height // pitch, recipe.image.width // pitch


def test_people_256_can_start_from_its_smaller_sister() -> None:
    start = load_recipe("people-128")
    taken, recipe = load_recipe("people-256"), load_recipe("people-256-gpu")
    assert isinstance(taken.autoencoder, AutoencoderSpec)
    assert {taken.autoencoder.start, taken.train.start, taken.distill.start} == {start.name}
    assert recipe.train.start == "models/people-128", "which every clone has"
    assert tokens(taken) == tokens(start)
    assert tokens(recipe) == tokens(start), "so that token, limb field and position keep their meaning"
    assert recipe.model.size == start.model.size and recipe.model.pose == start.model.pose
    assert isinstance(recipe.autoencoder, AutoencoderSpec) and isinstance(start.autoencoder, AutoencoderSpec)
    assert recipe.autoencoder.latents == start.autoencoder.latents
