"""The critic of the adversarial finish: small trained heads on features that are not trained.

In the manner of LADD (arXiv 2403.12015), the main features are the frozen teacher's tokens of a noised picture under
the same source and pose: they know what belongs where. The frozen encoder's maps add texture, and one head sees
the pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from flowpose.flow import interpolate
from flowpose.model.generator import Generator
from flowpose.model.transformer import RPFMTransformer


class Head(nn.Module):
    """Maps f32[B, c, h, w] -> scores f32[B, 1, h', w']: positive is 'real'.

    Spectral norms keep it smooth, group norms let it see small maps as well as large ones: without them the
    critic stayed at chance, and what it told the student was noise.
    """

    def __init__(self, inputs: int, width: int, halvings: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = _layer(nn.Conv2d(inputs, width, 3, padding=1))
        for _ in range(halvings):
            layers += _layer(nn.Conv2d(width, width, 4, stride=2, padding=1))
        layers += _layer(nn.Conv2d(width, width, 3, padding=1))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def _layer(conv: nn.Conv2d) -> list[nn.Module]:
    return [spectral_norm(conv), nn.GroupNorm(4, conv.out_channels), nn.LeakyReLU(0.2)]


class Eyes:
    """The frozen features of pictures; no part of it is trained, gradients pass through to the picture.

    Without `tokens` the teacher is not asked: windows of pictures have no place in its grid.
    """

    def __init__(self, teacher: Generator, tokens: bool = True) -> None:
        if not isinstance(teacher.flow, RPFMTransformer):
            raise TypeError("the teacher of an adversarial finish is a transformer")
        self.teacher, self.flow, self.tokens = teacher, teacher.flow, tokens

    def channels(self, size: tuple[int, int]) -> list[int]:
        """Channels of every map, in the order of `see`."""
        device = next(self.teacher.parameters()).device
        maps = self.teacher.autoencoder.features(torch.zeros(1, 3, *size, device=device))
        width = self.flow.table.shape[-1]
        return [3, *(m.shape[1] for m in maps[:3]), *(width for _ in self.depths)]

    @property
    def depths(self) -> tuple[int, ...]:
        """After which blocks the tokens are looked at: in the middle and at the end."""
        depth = len(self.flow.blocks)
        return (depth // 2, depth) if self.tokens else ()

    def condition(self, source: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """(context, pose tokens) of the teacher, made once for real and made pictures."""
        with torch.no_grad():
            context = self.teacher.to(source.device).context(source)
            return context, self.flow.pose_tokens(keypoints, context)[0]

    def see(self, pictures: Tensor, known: tuple[Tensor, ...], t: Tensor, noise: Tensor) -> list[Tensor]:
        """Maps of pictures f32[B, 3, H, W]: pixels, encoder maps at strides 1, 2 and 4, tokens at time t.

        `known` is what `condition` gave; without tokens it is not looked at.
        """
        maps = self.teacher.to(pictures.device).autoencoder.features(pictures)[:3]
        if not self.tokens:
            return [pictures, *maps]
        context, pose = known
        x = interpolate(noise, self.teacher.autoencoder.encode(pictures), t, 0.0)
        modulation = self.flow.modulation(t, t)
        tokens = self.flow.embed(x).flatten(2).transpose(1, 2) + pose
        layers = self.flow.source.of_blocks(context)
        for index, block in enumerate(self.flow.blocks):
            tokens = block(tokens, layers[index], modulation[:, 6 * index : 6 * index + 6])
            if index + 1 in self.depths:
                seen = F.layer_norm(tokens, tokens.shape[-1:])
                maps.append(seen.transpose(1, 2).reshape(len(seen), -1, *self.flow.grid))
        return [pictures, *maps]


class Heads(nn.Module):
    """One head a map; features and scores in the order of `Eyes.see`."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        # The first maps are as large as the picture: narrower heads, and halved to see a few pixels around.
        self.each = nn.ModuleList(
            Head(inputs, width // 2 if number < 2 else width, halvings=max(0, 2 - number))
            for number, inputs in enumerate(channels)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [head(seen) for head, seen in zip(self.each, maps, strict=True)]
