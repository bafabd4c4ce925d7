"""The f8 autoencoder: 3x3 convolutions and ReLU, so that its decoder runs well in INT8 everywhere, beside one
linear transform of 8x8 blocks.

The linear path starts as the principal components of the training pictures' blocks and the convolutions start
at zero, so training starts from the best linear code. The convolutions alone were still far from that code after
1700 iterations on people at 128 x 88.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8  # pixels a latent of the picture that is encoded, in each direction
BLOCK = 3 * STRIDE * STRIDE  # numbers in a block of a picture


def shrunk(pictures: Tensor, factor: int) -> Tensor:
    """Pictures f32[B, c, H, W] averaged over factor x factor pixels."""
    return F.avg_pool2d(pictures, factor) if factor > 1 else pictures


def grown(maps: Tensor, factor: int) -> Tensor:
    """Maps f32[B, c, h, w] enlarged by bilinear interpolation."""
    if factor == 1:
        return maps
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps (stride 1) or halves (stride 2) height and width.

    He initialization keeps activations at unit size: there is no norm to do it, and with PyTorch's default the
    first latents drown in the training noise.
    """
    made = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


class Residual(nn.Module):
    """x + two 3x3 convolutions, then ReLU. Starts near the identity, so no normalization is needed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


def _zeroed(made: nn.Conv2d) -> nn.Conv2d:
    """The convolution with zero weights: a path that starts silent."""
    nn.init.zeros_(made.weight)
    return made


class FeatureEncoder(nn.Module):
    """Pictures f32[B, 3, H, W] in -1..1 -> latents f32[B, C, H/8, W/8], not yet normalized; and features."""

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations [B, c, h, w], finest first, for the own-feature loss."""
        raise NotImplementedError


class Encoder(FeatureEncoder):
    """Our own encoder: convolutions beside the linear block transform."""

    def __init__(self, widths: tuple[int, ...], latents: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, widths[0]), nn.ReLU()]
        for narrow, wide in pairwise(widths):
            layers += [Residual(narrow), conv(narrow, wide, stride=2), nn.ReLU()]
        layers += [Residual(widths[-1]), _zeroed(conv(widths[-1], latents))]
        self.layers = nn.Sequential(*layers)
        self.block = nn.Conv2d(BLOCK, latents, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.block(F.pixel_unshuffle(x, STRIDE))  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after each stage (strides 1, 2, 4, 8)."""
        found = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, Residual):
                found.append(x)
        return found


class Upsample(nn.Module):
    """Twice the height and width: nearest neighbour, then a 3x3 convolution and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


class Decoder(nn.Module):
    """Latents f32[B, C, H/8, W/8] -> pictures f32[B, 3, H, W], about -1..1 (not clamped)."""

    def __init__(self, widths: tuple[int, ...], latents: int, blocks: int) -> None:
        super().__init__()
        self.latents, self.blocks = latents, blocks
        layers: list[nn.Module] = [conv(latents, widths[-1]), nn.ReLU()]
        layers += [Residual(widths[-1]) for _ in range(blocks)]
        for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [Upsample(wide, narrow)]
            # At full resolution one block: a convolution there costs as much as a wider one lower down.
            layers += [Residual(narrow) for _ in range(blocks if narrow != widths[0] else 1)]
        layers += [_zeroed(conv(widths[0], 3))]
        self.layers = nn.Sequential(*layers)
        self.block = nn.Conv2d(latents, BLOCK, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z) + F.pixel_shuffle(self.block(z), STRIDE)  # type: ignore[no-any-return]


class Autoencoder(nn.Module):
    """Pictures <-> latents. Latents leave `encode` with mean 0 and, over all channels, mean square 1.

    `shift` and `scale` f32[C] are measured on the training set at the end of training (`normalize_to`). A channel
    that shows more in the picture gets a larger deviation, so that noise of size 1 hides fine detail first and the
    flow makes pictures from coarse to fine. With deviation 1 in every channel a small error of the flow in the mean
    colour of an 8 x 8 block was as likely as one in its finest detail, and many-step pictures were made of blocks.
    The encoder is an `Encoder`, or what `flowpose.model.pretrained` makes of a diffusers autoencoder.

    With `shrink` 2 the picture that is encoded and drawn is half as high and wide as what goes in and comes out, and
    `encode` and `decode` halve and enlarge it: what the source's own pixels bring (flowpose.model.detail) is then all
    that is sharper than that.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, encoder: FeatureEncoder, decoder: nn.Module, latents: int, shrink: int = 1) -> None:
        super().__init__()
        self.latents, self.shrink, self.stride = latents, shrink, STRIDE * shrink
        self.encoder, self.decoder = encoder, decoder
        self.register_buffer("shift", torch.zeros(latents))
        self.register_buffer("scale", torch.ones(latents))

    def encode(self, x: Tensor) -> Tensor:
        """Normalized latents f32[B, C, H/stride, W/stride] of pictures f32[B, 3, H, W] in -1..1."""
        return (self.raw(x) - self.shift[:, None, None]) / self.scale[:, None, None]

    def raw(self, x: Tensor) -> Tensor:
        """The encoder's outputs f32[B, C, H/stride, W/stride], not normalized."""
        return self.encoder(shrunk(x, self.shrink))  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """Pictures f32[B, 3, H, W] (about -1..1) of normalized latents."""
        return grown(self.drawn(z), self.shrink)

    def drawn(self, z: Tensor) -> Tensor:
        """Pictures f32[B, 3, H/shrink, W/shrink] as the decoder draws them."""
        return self.decoder(z * self.scale[:, None, None] + self.shift[:, None, None])  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> list[Tensor]:
        """Encoder activations of pictures in -1..1, finest first."""
        return self.encoder.features(x)

    @torch.no_grad()
    def normalize_to(self, raw: Tensor, emphasis: float = 0.75) -> None:
        """Set shift and scale from raw encoder outputs f32[N, C, h, w].

        The deviation of a channel is its `visibility` to the power `emphasis`: 0 makes all equal, 1 makes noise
        equally visible in every channel.
        """
        self.shift.copy_(raw.mean((0, 2, 3)))
        self.scale.copy_(raw.std((0, 2, 3)).clamp_min(1e-3))
        few = raw[:: max(1, len(raw) // 16)]
        size = self.visibility((few - self.shift[:, None, None]) / self.scale[:, None, None]) ** emphasis
        self.scale.div_(size / size.square().mean().sqrt())

    @torch.no_grad()
    def visibility(self, latents: Tensor) -> Tensor:
        """f32[C]: how much a change by 1 of each channel of latents f32[N, C, h, w] changes the picture (RMS)."""
        plain = self.decode(latents)
        sizes = []
        for channel in range(latents.shape[1]):
            moved = latents.clone()
            moved[:, channel] += 1
            sizes.append((self.decode(moved) - plain).square().mean().sqrt())
        return torch.stack(sizes).clamp_min(1e-6)


@torch.no_grad()
def start_from(encoder: Encoder, decoder: Decoder, pictures: Tensor) -> None:
    """Set the linear paths to the principal components of the 8x8 blocks of pictures f32[N, 3, H, W] in -1..1."""
    latents = encoder.block.out_channels
    blocks = F.pixel_unshuffle(pictures, STRIDE).permute(0, 2, 3, 1).reshape(-1, BLOCK).double()
    mean = blocks.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((blocks - mean).T))
    basis = vectors[:, -latents:].flip(1)
    size = values[-latents:].flip(0).clamp_min(1e-8).sqrt()
    analysis, synthesis = encoder.block, decoder.block
    analysis.weight.copy_((basis / size).T[:, :, None, None])
    synthesis.weight.copy_((basis * size)[:, :, None, None])
    assert analysis.bias is not None and synthesis.bias is not None  # made with biases above
    analysis.bias.copy_(-(mean @ (basis / size)))
    synthesis.bias.copy_(mean)
