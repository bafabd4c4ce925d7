"""The pose as the paper has it: a drawn skeleton, encoded like a picture (RPFM, arXiv 2505.03562, section 3.2).

The drawing is arithmetic on distances, so it runs inside the exported graph. Each limb has its own hue, as in
OpenPose drawings; where limbs cross, the brighter channel wins.
"""

from __future__ import annotations

import colorsys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.model.autoencoder import Autoencoder
from flowpose.model.limb_field import LIMBS, with_middles
from flowpose.pose import SEEN

RADIUS = 1.0 / 96  # of a limb, in picture heights


def hues(count: int) -> Tensor:
    """f32[count, 3] colours in 0..1, evenly spread over the colour wheel."""
    return torch.tensor([colorsys.hsv_to_rgb(i / count, 1.0, 1.0) for i in range(count)])


class SkeletonPicture(nn.Module):
    """Keypoints f32[B, 133, 3] (x, y pixels, score) -> drawn skeletons f32[B, 3, H, W] in -1..1, -1 where empty."""

    rows: Tensor
    columns: Tensor
    colours: Tensor

    def __init__(self, height: int, width: int, threshold: float = SEEN) -> None:
        super().__init__()
        self.radius, self.threshold = max(1.0, RADIUS * height), threshold
        self.register_buffer("rows", (torch.arange(height) + 0.5)[:, None], persistent=False)
        self.register_buffer("columns", (torch.arange(width) + 0.5)[None], persistent=False)
        self.register_buffer("colours", hues(len(LIMBS)), persistent=False)

    def forward(self, keypoints: Tensor) -> Tensor:
        joints = with_middles(keypoints)
        shape = (len(joints), 3, self.rows.shape[0], self.columns.shape[1])
        picture = torch.zeros(shape, device=joints.device)
        for (a, b), colour in zip(LIMBS, self.colours, strict=True):  # one by one: all at once is 32 pictures
            covered = self._covered(joints[:, a], joints[:, b])
            picture = torch.maximum(picture, covered[:, None] * colour[:, None, None])
        return 2 * picture - 1

    def _covered(self, a: Tensor, b: Tensor) -> Tensor:
        """f32[B, H, W]: how much of each pixel the limb between joints a and b f32[B, 3] covers."""
        ax, ay, bx, by = (value[:, None, None] for value in (a[:, 0], a[:, 1], b[:, 0], b[:, 1]))
        along_x, along_y, x, y = bx - ax, by - ay, self.columns - ax, self.rows - ay
        u = ((x * along_x + y * along_y) / (along_x * along_x + along_y * along_y + 1e-4)).clamp(0, 1)
        distance = torch.sqrt((x - u * along_x) ** 2 + (y - u * along_y) ** 2 + 1e-6)
        seen = (a[:, 2] > self.threshold) & (b[:, 2] > self.threshold)
        return (self.radius + 0.5 - distance).clamp(0, 1) * seen[:, None, None].to(distance.dtype)


class SkeletonLatent(nn.Module):
    """Keypoints f32[B, 133, 3] -> f32[B, tokens, c * patch^2]: the latents of the drawn skeleton.

    The autoencoder is frozen and is not a part of this module: its weights are saved once, by the generator.
    """

    def __init__(self, height: int, width: int, patch: int, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.draw, self.patch = SkeletonPicture(height, width), patch
        self.autoencoder = [autoencoder]  # in a list, so that it is neither trained nor saved here

    def forward(self, keypoints: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self.autoencoder[0].to(keypoints.device).encode(self.draw(keypoints))
        return F.pixel_unshuffle(latents, self.patch).flatten(2).transpose(1, 2)
