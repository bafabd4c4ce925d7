"""Where the source's own joints are: a small convolutional network on its latents, trained before the flow.

`infer` gets a photo and no pose of it, and the match of limbs (`flowpose.model.transformer.Match`) is as good as the
limbs it is given. A network that only learns this, from every picture and not from sources alone, finds them far better
than a linear layer on the source branch did. It runs once a person, so it costs no frame anything.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.model.autoencoder import conv
from flowpose.model.limb_field import JOINTS, LIMBS, NECK, PLACES, token_centres
from flowpose.pose import SEEN

FOUND = tuple(sorted({joint for limb in LIMBS for joint in limb if joint < NECK}))
"""The joints that limbs need, by their COCO-WholeBody numbers."""
SPREAD = 0.75  # deviation of a joint's target distribution, in places


class Bottleneck(nn.Module):
    """x + a 3x3 convolution of `inner` channels between two 1x1 ones, then ReLU: wide, far-seeing, and few weights."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.narrow, self.near = nn.Conv2d(width, inner, 1), conv(inner, inner)
        self.widen = nn.Conv2d(inner, width, 1)
        with torch.no_grad():
            self.widen.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.widen(F.relu(self.near(F.relu(self.narrow(x))))))


class JointEstimator(nn.Module):
    """Source latents f32[B, c, h, w] -> keypoints f32[B, 133, 3] (x, y pixels, probability of being in the picture).

    Every joint has a distribution over the token places (quarters of tokens) and over `absent`; its place is the mean
    of the squared distribution, which leans to the highest of several peaks. Joints no limb needs have score 0.
    """

    centres: Tensor
    order: Tensor

    def __init__(
        self, latents: int, patch: int, grid: tuple[int, int], pitch: int, width: int = 160, blocks: int = 8
    ) -> None:
        super().__init__()
        self.pitch = pitch
        self.embed = nn.Conv2d(latents, width, patch, stride=patch)
        self.blocks = nn.Sequential(*(Bottleneck(width, width * 2 // 5) for _ in range(blocks)))
        self.places = nn.Conv2d(width, PLACES * len(FOUND), 1)
        self.absent = nn.Linear(width, len(FOUND))
        self.register_buffer("centres", token_centres(grid, pitch), persistent=False)
        order = torch.full((JOINTS,), len(FOUND))
        order[list(FOUND)] = torch.arange(len(FOUND))
        self.register_buffer("order", order, persistent=False)

    def logits(self, latents: Tensor) -> Tensor:
        """f32[B, joints, places + 1] in the order of FOUND; the last is `absent`."""
        x = self.blocks(self.embed(latents))
        places = self.places(x).flatten(2).unflatten(1, (len(FOUND), PLACES)).transpose(2, 3).flatten(2)
        return torch.cat([places, self.absent(x.mean((2, 3)))[..., None]], dim=-1)

    def loss(self, latents: Tensor, keypoints: Tensor) -> Tensor:
        """Cross-entropy with the true joints f32[B, 133, 3], whose targets are Gaussians of SPREAD places."""
        joints = keypoints[:, list(FOUND)]
        step = self.pitch / PLACES**0.5
        square = (self.centres - joints[:, :, None, :2]).square().sum(-1) / (step * SPREAD) ** 2
        seen = (joints[..., 2] > SEEN)[..., None]
        target = torch.softmax(-0.5 * square, dim=-1) * seen
        target = torch.cat([target, 1.0 - seen.to(target.dtype)], dim=-1)
        return -(target * torch.log_softmax(self.logits(latents).float(), dim=-1)).sum(-1).mean()

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        shares = torch.softmax(self.logits(latents).float(), dim=-1)[..., :-1]
        peaks = shares.square()
        # No matrix product: autocast would round pixels to bf16.
        xy = (peaks[..., None] * self.centres).sum(-2) / (peaks.sum(-1, keepdim=True) + 1e-12)
        found = torch.cat([xy, shares.sum(-1, keepdim=True)], dim=-1)
        return torch.cat([found, torch.zeros_like(found[:, :1])], dim=1)[:, self.order]
