"""How large the peers are: as they are published, and micro sizes that run in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Config = Mapping[str, Any]

SD_TURBO: Config = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True,
}  # fmt: skip
"""SD 2.1's UNet, which is SD-Turbo's; what is not named is diffusers' default. 866M parameters."""

SD_15: Config = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
    "attention_head_dim": 8,
}  # fmt: skip
"""SD 1.5's UNet, which is CFLD's. 860M parameters."""

SD_VAE: Config = {
    "sample_size": 512, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
"""The autoencoder of SD 1 and 2, such as sd-vae-ft-mse. 84M parameters."""


@dataclass(frozen=True)
class Dit:
    """A diffusion transformer: channels, blocks, heads, and the numbers of its two conditions."""

    width: int
    depth: int
    heads: int
    source: int
    pose: int


@dataclass(frozen=True)
class Shapes:
    """Sizes of one run.

    Attributes:
        height, width: of a frame, pixels.
        steps: evaluations of the long samplers; with guidance two forwards each.
        teacher: settings of the recipe rpfm-deepfashion-256.
        turbo, cfld: of diffusers' UNet2DConditionModel.
        tokens: text embeddings of a prompt, and CFLD's conditioning tokens.
        vae, tiny: of diffusers' AutoencoderKL and AutoencoderTiny (TAESD).
        mdpt: X-MDPT's.
        recipe: flowpose's, where no trained model is given.
    """

    height: int
    width: int
    steps: int
    teacher: tuple[str, ...]
    turbo: Config
    cfld: Config
    tokens: int
    vae: Config
    tiny: Config
    mdpt: Dit
    recipe: str


FULL = Shapes(
    height=256, width=176, steps=50, teacher=(), turbo=SD_TURBO, cfld=SD_15, tokens=77, vae=SD_VAE, tiny={},
    # 1536 and 768 numbers: DINOv2-g of the source, DINOv2-B of the pose.
    mdpt=Dit(width=384, depth=12, heads=6, source=1536, pose=768), recipe="people-256",
)  # fmt: skip

_UNET = {"sample_size": 8, "block_out_channels": (16,) * 4, "norm_num_groups": 8, "layers_per_block": 1}
MICRO = Shapes(
    height=64, width=48, steps=2, teacher=("model.size=micro", "image.height=64", "image.width=48"),
    turbo={**_UNET, "cross_attention_dim": 24, "attention_head_dim": 4, "use_linear_projection": True},
    cfld={**_UNET, "cross_attention_dim": 16, "attention_head_dim": 4}, tokens=5,
    vae={**SD_VAE, "block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4},
    tiny={"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4},
    mdpt=Dit(width=32, depth=2, heads=2, source=24, pose=12), recipe="tiny",
)  # fmt: skip

SHAPES: Mapping[str, Shapes] = MappingProxyType({"full": FULL, "micro": MICRO})
