"""Autoencoders of diffusers: read from disk, equal to diffusers' own, and rebuilt from a recorded configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_line import micro_recipe

diffusers = pytest.importorskip("diffusers")

from flowpose.artifact import open_artifact  # noqa: E402
from flowpose.errors import DataError, SpecError  # noqa: E402
from flowpose.model.pretrained import build_pretrained, read_pretrained  # noqa: E402
from flowpose.model.weights import autoencoder_spec  # noqa: E402
from flowpose.pipeline import Run  # noqa: E402
from flowpose.spec.recipe import PretrainedAutoencoderSpec  # noqa: E402
from flowpose.train.autoencoder import load_autoencoder  # noqa: E402

KINDS = ("AutoencoderTiny", "AutoencoderKL")


def network(kind: str, levels: int = 4) -> Any:
    """The smallest network of its class, with random weights."""
    torch.manual_seed(5)
    widths, ones = (8,) * levels, (1,) * levels
    if kind == "AutoencoderTiny":
        return diffusers.AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths,
            num_encoder_blocks=ones, num_decoder_blocks=ones, latent_channels=4,
        ).eval()  # fmt: skip
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=widths, layers_per_block=1, norm_num_groups=4, latent_channels=4,
    ).eval()  # fmt: skip


def saved(folder: Path, kind: str, levels: int = 4) -> PretrainedAutoencoderSpec:
    network(kind, levels).save_pretrained(folder)
    return PretrainedAutoencoderSpec(pretrained=kind, path=str(folder))


def pictures(height: int = 32, width: int = 24) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_diffusers_computes(tmp_path: Path, kind: str) -> None:
    ours, _ = read_pretrained(saved(tmp_path, kind))
    theirs, x = network(kind), pictures()
    coded = theirs.encode(x)
    expected = coded.latents if kind == "AutoencoderTiny" else coded.latent_dist.mean
    found = ours.encode(x)
    assert found.shape == (2, 4, 4, 3) and ours.latents == 4
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.decode(expected), theirs.decode(expected).sample)
    assert not any(p.requires_grad for p in ours.parameters())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_recorded_configuration_rebuilds_it(tmp_path: Path, kind: str) -> None:
    spec = saved(tmp_path, kind)
    read, config = read_pretrained(spec)
    read.normalize_to(read.encoder(pictures()))
    data = json.loads(json.dumps({**spec.model_dump(mode="json"), "config": config}))
    rebuilt = build_pretrained(PretrainedAutoencoderSpec.parse(data, "manifest"))
    rebuilt.load_state_dict(read.state_dict())
    z = read.encode(pictures())
    torch.testing.assert_close(rebuilt.encode(pictures()), z)
    torch.testing.assert_close(rebuilt.decode(z), read.decode(z))


def test_without_a_configuration_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not recorded"):
        build_pretrained(PretrainedAutoencoderSpec(pretrained="AutoencoderTiny", path=str(tmp_path)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_folder(tmp_path: Path, kind: str) -> None:
    spec = PretrainedAutoencoderSpec(pretrained=kind, path=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere: no diffusers autoencoder.*Fix: download"):
        read_pretrained(spec)


def test_no_weights(tmp_path: Path) -> None:
    spec = saved(tmp_path, "AutoencoderTiny")
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(DataError, match="cannot be read as AutoencoderTiny"):
        read_pretrained(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_another_size(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="latents of another size, got f4, expected f8"):
        read_pretrained(saved(tmp_path, kind, levels=3))


def test_another_class_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="pretrained"):
        PretrainedAutoencoderSpec.parse(
            {"pretrained": "AutoencoderDC", "path": str(tmp_path)}, "recipe.autoencoder"
        )


def test_a_recipe_trains_on_it(tmp_path: Path) -> None:
    saved(tmp_path / "taesd", "AutoencoderTiny")
    where = f"{{pretrained: AutoencoderTiny, path: {tmp_path / 'taesd'}}}"
    settings = ("iterations=2", "precision=bf16")
    few = [f"{part}.optim.{setting}" for part in ("train", "distill") for setting in settings]
    recipe = micro_recipe(
        tmp_path, f"autoencoder={where}", *few, "regressor=null", "teacher_finish=null", "finish=null"
    )
    done = Run(recipe=recipe, root=tmp_path / "out").stages("distill")
    assert [each.stage for each in done] == ["autoencoder", "train", "distill"]
    for each in done:
        open_artifact(each.artifact.path)
        spec = autoencoder_spec(each.artifact)
        assert isinstance(spec, PretrainedAutoencoderSpec) and spec.config is not None
        assert spec.config["latent_channels"] == 4
    taken = load_autoencoder(done[0].artifact)
    with torch.no_grad():
        raw = network("AutoencoderTiny").encode(pictures(48, 32)).latents
        z = taken.encode(pictures(48, 32))
    torch.testing.assert_close(
        z * taken.scale[:, None, None] + taken.shift[:, None, None], raw, atol=1e-4, rtol=1e-4
    )
