"""The pose as a field: at four places of every token, where each limb is relative to it. No skeleton is drawn.

A limb is a segment a-b between two joints. At the token centre p, with q the point of the segment nearest to
p, u in 0..1 its place on the segment, delta = (p - q) / unit and d = |delta|, a limb gives five numbers:

    exp(-2 d^2)   exp(-d / 2)   g delta_x   g delta_y   g u          g = exp(-d^2 / 4.5)

`unit` is a sixteenth of the picture's height, so the field does not depend on the resolution. A limb with a
missing joint gives five zeros. Everything is differentiable and inside the exported graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowpose.pose import SEEN

JOINTS = 133
FEATURES = 5
NECK, PELVIS = JOINTS, JOINTS + 1  # two joints made here: the middles of shoulders and hips

_NOSE, _L_EYE, _R_EYE, _L_EAR, _R_EAR = 0, 1, 2, 3, 4
_BODY = (
    (_NOSE, NECK), (_NOSE, _L_EYE), (_NOSE, _R_EYE), (_L_EYE, _L_EAR), (_R_EYE, _R_EAR),
    (NECK, PELVIS), (5, 6), (11, 12), (5, 11), (6, 12),
    (5, 7), (7, 9), (6, 8), (8, 10),
    (11, 13), (13, 15), (12, 14), (14, 16),
    (15, 17), (15, 19), (16, 20), (16, 22),
)  # fmt: skip
_LEFT_HAND = tuple((9, 91 + tip) for tip in (4, 8, 12, 16, 20))
_RIGHT_HAND = tuple((10, 112 + tip) for tip in (4, 8, 12, 16, 20))
LIMBS = _BODY + _LEFT_HAND + _RIGHT_HAND
"""Pairs of joints (COCO-WholeBody numbers, and NECK and PELVIS)."""

WIDTH = FEATURES * len(LIMBS)

SPLIT = 2
PLACES = SPLIT * SPLIT
"""Every token is looked at in SPLIT x SPLIT places, the centres of its quarters, in row order."""


def with_middles(keypoints: Tensor) -> Tensor:
    """f32[B, 135, 3]: the 133 joints, then neck and pelvis; a middle is missing where an end is."""
    pairs = torch.stack(
        [keypoints[:, 5:7], keypoints[:, 11:13]], dim=1
    )  # slices: a list would be copied to a GPU
    xy = pairs[..., :2].mean(dim=2)
    score = pairs[..., 2].amin(dim=2, keepdim=False)[..., None]
    return torch.cat([keypoints, torch.cat([xy, score], dim=-1)], dim=1)


def token_order(grid: Tensor) -> Tensor:
    """f32[B, SPLIT * rows, SPLIT * columns, C] -> [B, rows * columns * PLACES, C]: token by token, then by place."""
    rows, columns = (side // SPLIT for side in grid.shape[1:3])
    cut = grid.reshape(len(grid), rows, SPLIT, columns, SPLIT, -1)
    return cut.transpose(2, 3).flatten(1, 4)


def token_centres(grid: tuple[int, int], pitch: int) -> Tensor:
    """f32[tokens * PLACES, 2]: x and y in pixels of the places' centres, in their order."""
    rows, columns = ((torch.arange(SPLIT * side) + 0.5) * pitch / SPLIT for side in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return token_order(torch.stack([x, y], -1)[None])[0]


class LimbField(nn.Module):
    """Keypoints f32[B, 133, 3] (x, y pixels, score) -> field f32[B, tokens * PLACES, WIDTH].

    Tokens of `pitch` pixels are in row order; the places of one token follow each other.
    """

    centres: Tensor
    ends: Tensor

    def __init__(self, height: int, width: int, pitch: int, threshold: float = SEEN) -> None:
        super().__init__()
        self.pitch, self.unit, self.threshold = pitch, height / 16.0, threshold
        centres = token_centres((height // pitch, width // pitch), pitch)
        self.register_buffer("centres", centres[None, :, None], persistent=False)
        self.register_buffer("ends", torch.tensor(LIMBS), persistent=False)

    def forward(self, keypoints: Tensor) -> Tensor:
        joints = with_middles(keypoints)
        a, b = joints[:, self.ends[:, 0]], joints[:, self.ends[:, 1]]
        seen = ((a[..., 2] > self.threshold) & (b[..., 2] > self.threshold)).to(joints.dtype)[:, None]
        # x and y apart, without a last dimension of 1 or 2: onnxruntime's element-wise kernels take 28 times as long
        # over f32[1, 704, 32, 1] as over f32[1, 704, 32] (docs/performance-log.md).
        along_x, along_y = ((b - a)[:, None, :, axis] for axis in (0, 1))
        from_x, from_y = (self.centres[..., axis] - a[:, None, :, axis] for axis in (0, 1))
        u = (from_x * along_x + from_y * along_y) / (along_x * along_x + along_y * along_y + 1e-4)
        u = u.clamp(0, 1)
        x, y = (from_x - u * along_x) / self.unit, (from_y - u * along_y) / self.unit
        square = x * x + y * y
        near, distance = torch.exp(-square / 4.5), torch.sqrt(square + 1e-6)
        parts = [torch.exp(-2 * square), torch.exp(-distance / 2), near * x, near * y, near * u]
        return torch.stack([part * seen for part in parts], dim=-1).flatten(2)
