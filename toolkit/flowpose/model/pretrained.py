"""Autoencoders of diffusers (SD-VAE, TAESD) in our interface. From a folder on disk only: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flowpose.errors import DataError, MissingDependency
from flowpose.model.autoencoder import STRIDE, Autoencoder, FeatureEncoder
from flowpose.spec.recipe import PretrainedAutoencoderSpec


class PretrainedEncoder(FeatureEncoder):
    """A diffusers encoder; a KL autoencoder gives the mean of its posterior."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.moments = getattr(network, "quant_conv", None)
        self.latents = int(network.config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        found = self.encoder(x)
        found = self.moments(found) if self.moments is not None else found
        return found[:, : self.latents]  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> list[Tensor]:
        """The latents themselves: the two classes share no other layer."""
        return [self(x)]


class PretrainedDecoder(nn.Module):
    """The decoder of the same network."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.moments = getattr(network, "post_quant_conv", None)
        self.decoder = network.decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.moments(z) if self.moments is not None else z)  # type: ignore[no-any-return]


def _classes() -> Mapping[str, Any]:
    try:
        from diffusers import AutoencoderKL, AutoencoderTiny
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "autoencoder.pretrained",
            "a package is not installed",
            got=error.name,
            fix="pip install 'flowpose[train]'",
        ) from error
    return {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL}


def _wrapped(network: Any) -> Autoencoder:
    return Autoencoder(
        PretrainedEncoder(network), PretrainedDecoder(network), int(network.config.latent_channels)
    )


def read_pretrained(spec: PretrainedAutoencoderSpec) -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder in the folder that the spec names, and its configuration.

    Raises:
        DataError: no such folder, no weights in it, another class, or latents that are not f8.
        MissingDependency: diffusers is not installed.
    """
    folder = Path(spec.path)
    how = "download the autoencoder yourself, as `huggingface-cli download madebyollin/taesd --local-dir FOLDER`"
    if not (folder / "config.json").is_file():
        raise DataError(
            folder, "no diffusers autoencoder", expected="a folder with config.json and weights", fix=how
        )
    try:
        network = _classes()[spec.pretrained].from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(folder, f"cannot be read as {spec.pretrained} ({error})", fix=how) from error
    config = {name: value for name, value in network.config.items() if not name.startswith("_")}
    stride = 2 ** (len(config["block_out_channels"]) - 1)
    if stride != STRIDE:
        raise DataError(folder, "latents of another size", got=f"f{stride}", expected=f"f{STRIDE}")
    return _wrapped(network.eval().requires_grad_(False)), config


def build_pretrained(spec: PretrainedAutoencoderSpec) -> Autoencoder:
    """A new autoencoder of the configuration that an artifact recorded; its weights are loaded afterwards."""
    if spec.config is None:
        raise DataError(
            spec.path, "the configuration was not recorded", fix="flowpose train, which records it"
        )
    return _wrapped(_classes()[spec.pretrained].from_config(dict(spec.config)).eval())
