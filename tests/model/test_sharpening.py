"""Sources sharpened before their pixels are carried: what bilinear sampling takes, and who is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from quantize.tiny_student import generator, make_artifact, recipe
from torch import Tensor

from flowpose.errors import SpecError
from flowpose.export.files import slimmed, traced
from flowpose.export.modules import Source
from flowpose.job import stage_config
from flowpose.model.detail import sampled, sharpened
from flowpose.model.weights import load_generator
from flowpose.spec.check import check_recipe

SHARP = "distill.sharpen=1.0"
INSIDE = (..., slice(2, -2), slice(2, -2))  # away from the repeated edge


def stripes(period: int, size: int = 32) -> Tensor:
    """f32[1, 3, size, size], -1..1 and back over columns."""
    wave = torch.cos(2 * torch.pi * torch.arange(size) / period)
    return wave.expand(1, 3, size, size).contiguous()


def shifted(picture: Tensor, part: float) -> Tensor:
    """The picture sampled `part` of a pixel to the right."""
    size = picture.shape[-1]
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(at, at + 2 * part / size, indexing="ij")
    return sampled(picture, torch.stack([x, y])[None])


@pytest.mark.parametrize(("period", "gain"), [(2, 2.0), (4, 1.5)])
def test_the_finest_stripes_are_doubled_and_wider_ones_less(period: int, gain: float) -> None:
    given = stripes(period)
    torch.testing.assert_close(sharpened(given, 1.0)[INSIDE], gain * given[INSIDE], atol=1e-5, rtol=1e-5)


def test_nothing_is_sharpened_where_there_is_nothing_or_nothing_is_asked() -> None:
    flat, busy = torch.full((1, 3, 8, 8), 0.3), torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(sharpened(flat, 1.0), flat)
    assert sharpened(busy, 0.0) is busy and not torch.allclose(sharpened(busy, 0.5), busy)


def test_amount_one_gives_back_what_sampling_between_pixels_takes_from_the_finest_stripes() -> None:
    given, parts = stripes(2), np.linspace(0, 1, 41)

    def strength(picture: Tensor) -> float:
        return float(np.mean([shifted(picture, part)[INSIDE].abs().mean() for part in parts]))

    assert strength(given) == pytest.approx(0.5, abs=0.02), "bilinear sampling halves them in the mean"
    assert strength(sharpened(given, 1.0)) == pytest.approx(1.0, abs=0.04)


@torch.no_grad()
def test_a_generator_sharpens_the_pixels_that_it_packs_and_nothing_else(tmp_path: Path) -> None:
    sharp = load_generator(make_artifact(tmp_path, "student", recipe(SHARP)))
    assert sharp.detail is not None and sharp.detail.sharpen == 1.0
    pictures = torch.rand(1, 3, 48, 32) * 2 - 1
    z = sharp.autoencoder.encode(pictures)
    layers, shown = sharp.split(sharp.context(z, pictures))
    assert shown is not None and torch.equal(shown, sharpened(pictures, 1.0))
    assert torch.equal(layers, sharp.context(z))
    plain = load_generator(make_artifact(tmp_path / "plain", "student", recipe()))
    assert torch.equal(plain.context(z, pictures)[:, : layers.shape[1]], layers)
    assert torch.equal(plain.context(z, shown), sharp.context(z, pictures))


@torch.no_grad()
def test_the_source_graph_sharpens(tmp_path: Path) -> None:
    made = generator(recipe(SHARP), student=True)
    picture = torch.randint(0, 256, (48, 32, 3), dtype=torch.uint8)
    graph = slimmed(traced(Source(made), {"source": picture}, ["context"], 17))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    (found,) = session.run(["context"], {"source": picture.numpy()})
    shown = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = made.context(made.autoencoder.encode(shown), shown)[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4)
    _, pixels = made.split(torch.from_numpy(found)[None])
    assert pixels is not None and (pixels - shown).abs().mean() > 0.1, "noise is all finest detail"


def test_networks_that_share_a_source_graph_are_sharpened_alike() -> None:
    optim = "optim: {iterations: 20, batch: 4, warmup: 2}"
    with pytest.raises(SpecError) as caught:
        check_recipe(recipe(SHARP, f"regressor={{detail: true, {optim}}}", f"teacher_finish={{{optim}}}"))
    for name in ("regressor", "teacher_finish"):
        assert f"recipe.{name}.sharpen: another than the student's, got 0, expected distill.sharpen 1" in str(
            caught.value
        )
    check_recipe(recipe(SHARP, f"regressor={{detail: true, sharpen: 1.0, {optim}}}"))
    check_recipe(recipe(SHARP, f"regressor={{{optim}}}"))


def test_recipes_that_do_not_sharpen_keep_their_keys() -> None:
    assert "sharpen" not in stage_config(recipe(), "distill")["distill"]
    assert stage_config(recipe(SHARP), "distill")["distill"]["sharpen"] == 1.0
