from __future__ import annotations

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from quantize.tiny_student import calibration, generator, make_artifact, quantize_job, recipe
from safetensors.torch import load_file

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, DataError, MissingDependency, SpecError
from flowpose.model.weights import GENERATOR, load_generator
from flowpose.quantize import SCALES, load_quantized, macs, quantize, quantizers
from flowpose.quantize.samples import draw


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("student"), "student")


@pytest.fixture(scope="module")
def quantized(student: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return quantize(quantize_job(tmp_path_factory.mktemp("one"), student), calibration())


def test_same_spec_gives_the_same_bytes(student: Artifact, quantized: Artifact, tmp_path: Path):
    again = quantize(quantize_job(tmp_path, student), calibration())
    assert again.manifest.files == quantized.manifest.files
    assert again.manifest.measurements == quantized.manifest.measurements


@pytest.mark.slow
def test_other_seed_gives_other_scales(student: Artifact, quantized: Artifact, tmp_path: Path):
    other = quantize(quantize_job(tmp_path, student), calibration(seed=2))
    assert other.manifest.files[SCALES] != quantized.manifest.files[SCALES]
    assert other.manifest.files[GENERATOR] == quantized.manifest.files[GENERATOR]


def test_weights_are_the_students(student: Artifact, quantized: Artifact):
    assert quantized.manifest.files[GENERATOR] == student.manifest.files[GENERATOR]
    assert quantized.manifest.times == (0.0, 1.0)


def test_says_what_it_was_calibrated_on(quantized: Artifact):
    samples = draw(calibration(), recipe().image)
    held = quantized.manifest.stage["calibration"]
    assert held == {**calibration().model_dump(mode="json"), "digest": samples.digest}
    listed = json.loads(quantized.file("calibration.json").read_text())
    assert [tuple(pair.values()) for pair in listed["pairs"]] == list(samples.names)


def test_measures_what_int8_costs_and_covers(quantized: Artifact):
    found = {(m.metric, m.against): m for m in quantized.manifest.measurements}
    assert found["psnr_to_student", "student"].value > 25
    assert found["psnr_to_student", "student"].set == "figures/val"
    assert 0.7 < found["int8_macs", "fp32"].value < 1


def test_rebuilt_without_calibration(quantized: Artifact):
    module = load_quantized(quantized)
    enabled = {n for n, m in module.named_modules() if n.endswith("_quantizer") and m.is_enabled}
    assert enabled == {key.removesuffix(".amax") for key in load_file(quantized.file(SCALES))}
    once = ("flow.source", "flow.time", "autoencoder.encoder")  # but the match is made each frame
    assert {n.rsplit(".", 1)[0] for n in enabled if n.startswith(once)} == {"flow.source.match.scores"}
    products = {n.rsplit(".", 1)[0] for n in enabled if n.endswith("other_quantizer")}
    assert {f"flow.blocks.{i}.attention.scores" for i in range(2)} <= products
    weights = {n.rsplit(".", 1)[0] for n in enabled if n.endswith("weight_quantizer")}
    assert weights == set(quantizers.weighted(load_generator(quantized)))


def test_scales_are_per_channel_for_weights_and_one_for_inputs(quantized: Artifact):
    plain = load_generator(quantized)
    for key, amax in load_file(quantized.file(SCALES)).items():
        name, kind, _ = key.rsplit(".", 2)
        assert amax.numel() == (
            plain.get_submodule(name).weight.shape[0] if kind == "weight_quantizer" else 1
        )
        assert (amax > 0).all()


def test_weight_codes_stay_where_sixteen_bit_sums_do_not_saturate(quantized: Artifact):
    plain, scales = load_generator(quantized), load_file(quantized.file(SCALES))
    name = "flow.blocks.0.mlp.up"
    codes = plain.get_submodule(name).weight / (scales[f"{name}.weight_quantizer.amax"] / 127)
    assert torch.allclose(codes.abs().amax(1), torch.tensor(64.0), atol=1e-3)


@pytest.mark.slow
def test_keep_leaves_layers_in_floating_point(student: Artifact, tmp_path: Path):
    job = quantize_job(tmp_path, student, "quantize.keep=['flow.*', 'detail.*']")
    kept = quantize(job, calibration())
    assert all(key.startswith("autoencoder.decoder") for key in load_file(kept.file(SCALES)))


def test_keep_that_matches_nothing_is_an_error(student: Artifact, tmp_path: Path):
    with pytest.raises(SpecError, match=r"no layer matches, got 'flow\.blok\*'"):
        quantize(quantize_job(tmp_path, student, "quantize.keep=['flow.blok*']"), calibration())


def test_keep_of_everything_is_an_error():
    with pytest.raises(SpecError, match="nothing is left to quantize"):
        quantizers.choose(generator(recipe()), ["*"])


def test_smoothquant_is_rebuilt_from_its_files(student: Artifact, tmp_path: Path):
    smooth = quantize(
        quantize_job(tmp_path, student, "quantize={method: int8-smoothquant, calibration: tiny}"),
        calibration(),
    )
    assert any(key.endswith("pre_quant_scale") for key in load_file(smooth.file(SCALES)))
    found = {m.metric: m.value for m in smooth.manifest.measurements}
    assert found["psnr_to_student"] > 25


def test_too_few_pictures():
    with pytest.raises(DataError, match=r"too few pictures, got \d+ pairs, expected 5000 pairs"):
        draw(calibration(count=5000), recipe().image)


def test_other_digest_names_both():
    found = draw(calibration(), recipe().image).digest
    with pytest.raises(DataError, match=f"got {found}, expected {'0' * 64}"):
        draw(calibration(digest="0" * 64), recipe().image)
    assert draw(calibration(digest=found), recipe().image).digest == found


def test_needs_a_student(tmp_path: Path):
    with pytest.raises(ArtifactError, match="needs a student"):
        quantize(quantize_job(tmp_path, None), calibration())


def test_student_is_not_quantized(student: Artifact):
    with pytest.raises(ArtifactError, match="has no scales of a quantization, got student"):
        load_quantized(student)


def test_missing_modelopt(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("modelopt"):
            raise ModuleNotFoundError("no modelopt", name="modelopt")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependency, match=r"pip install flowpose\[quantize\]"):
        quantizers.modelopt()


def test_macs_of_a_linear_layer():
    spec = recipe()
    module = generator(spec)
    latents = torch.zeros(1, module.flow.latents, *module.flow.grid)
    counts = macs.frame_macs(module, module.context(latents), torch.zeros(1, 133, 3))
    tokens = int(np.prod(module.flow.grid))
    assert counts["flow.blocks.0.mlp.up"] == tokens * 64 * 256
    for product in ("scores", "mix"):
        assert counts[f"flow.blocks.0.attention.{product}"] == tokens * 2 * tokens * 64
        assert counts[f"flow.source.match.{product}"] == (4 * tokens) ** 2 * 16
    assert macs.share(counts, list(counts)) == 1.0
