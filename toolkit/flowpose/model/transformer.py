"""The RPFM transformer: velocity of the latent flow, given the source's keys and values and the pose field.

Three rates (docs/design): the source branch sees only the source, so its keys and values are made once a
person; time enters only through modulation vectors (AdaLN), so a fixed grid folds them to constants; each
frame computes the pose embedding and the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.model import limb_field
from flowpose.model.attention import Attention, Scores, unit
from flowpose.model.joints import JointEstimator
from flowpose.model.skeleton import SkeletonLatent
from flowpose.spec.recipe import DEPTHS


@dataclass(frozen=True, kw_only=True)
class Size:
    """Blocks, channels, heads, and blocks of the source branch."""

    depth: int
    width: int
    heads: int
    source_depth: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "micro": Size(depth=DEPTHS["micro"], width=64, heads=1, source_depth=1),
        "tiny": Size(depth=DEPTHS["tiny"], width=128, heads=2, source_depth=2),
        "mini": Size(depth=DEPTHS["mini"], width=192, heads=3, source_depth=2),
        "small": Size(depth=DEPTHS["small"], width=256, heads=4, source_depth=4),
        # DiT's own sizes (arXiv 2212.09748, table 1); the source branch is half as deep.
        "S": Size(depth=DEPTHS["S"], width=384, heads=6, source_depth=6),
        "B": Size(depth=DEPTHS["B"], width=768, heads=12, source_depth=6),
        "L": Size(depth=DEPTHS["L"], width=1024, heads=16, source_depth=12),
    }
)


SHARPNESS = 20.0
"""How much a cosine of the match counts in its softmax, at the start of training."""


ESTIMATED = 0.5
"""The probability above which an estimated joint counts."""


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then scale and shift (AdaLN): x [B, N, C], shift and scale [B or 1, 1, C]."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine table f32[rows * columns, width]: half the channels for y, half for x."""
    quarter = width // 4
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(quarter) / quarter)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (y, x)]
    return torch.cat([table for angle in angles for table in (angle.sin(), angle.cos())], dim=-1)


class MLP(nn.Module):
    """Two linear layers, four times as wide between. ReLU: half of INT8's codes would be lost on GELU's tail."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))  # type: ignore[no-any-return]


class Neighbours(nn.Module):
    """Tokens [B, N, C] and what a depthwise 3x3 convolution makes of them on their grid; silent at the start.

    Positions alone leave it to attention to learn which tokens touch. Until it has, neighbouring tokens choose
    different pictures, and since a token is a block of pixels, the seams show.
    """

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        on_grid = x.transpose(1, 2).reshape(len(x), -1, *self.grid)
        return x + self.conv(on_grid).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class SourceBlock(nn.Module):
    """A pre-norm transformer block; it knows nothing of time, noise or pose."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.near = Neighbours(width, grid)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads), MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x)
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A DiT block (AdaLN-zero) that also looks at its neighbours and attends to the source."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.near = Neighbours(width, grid)
        self.attention, self.mlp = Attention(width, heads), MLP(width)

    def forward(self, x: Tensor, source: Tensor, modulation: Tensor) -> Tensor:
        """x [B, N, C], source [B, 2, Ns, C], modulation [B or 1, 6, C] -> [B, N, C]."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.unsqueeze(2).unbind(1)
        x = self.near(x)
        x = x + gate_1 * self.attention(modulate(x, shift_1, scale_1), source)
        return x + gate_2 * self.mlp(modulate(x, shift_2, scale_2))  # type: ignore[no-any-return]


class TimeEmbedding(nn.Module):
    """t f32[B] in 0..1 -> modulation f32[B, 6 * depth + 2, C] of all blocks and of the head. Kept in fp32."""

    def __init__(self, width: int, depth: int, channels: int = 128) -> None:
        super().__init__()
        self.rows, self.channels = 6 * depth + 2, channels
        self.embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.project = nn.Linear(width, self.rows * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        # AdaLN-zero starts with closed gates; half open ones learn faster in the short runs made here.
        with torch.no_grad():
            self.project.bias[: 6 * depth * width].view(depth, 2, 3, width)[:, :, 2] = 0.5

    def forward(self, t: Tensor) -> Tensor:
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / half)
        angles = 1000.0 * t.float()[:, None] * frequencies
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return self.project(embedding).unflatten(-1, (self.rows, -1))  # type: ignore[no-any-return]


class Match(nn.Module):
    """Limb field f32[B, N * PLACES, WIDTH] -> f32[B, N * PLACES, C / PLACES] of unit size: what a place is, by limb.

    Source and target go through the same weights, so a place beside the left forearm finds those beside the left
    forearm of the source from the first iteration on; learning that from dot products alone takes tens of thousands
    of pictures. Away from all limbs only the place is left, which suits a backdrop.

    Tokens are matched in quarters: what the source shows is mostly turned and shifted by less than a token, and
    averages of whole tokens cannot be shifted. Channels are as many fewer, so the context keeps its shape.
    """

    table: Tensor
    seats: Tensor

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.width = width // limb_field.PLACES
        self.project = nn.Linear(limb_field.WIDTH, self.width, bias=False)
        nn.init.normal_(self.project.weight, std=0.35)
        self.scores = Scores()
        rows, columns = (limb_field.SPLIT * side for side in grid)
        places = positions(rows, columns, self.width).reshape(1, rows, columns, self.width)
        self.register_buffer("table", 0.1 * limb_field.token_order(places)[0], persistent=False)
        xy = 2 * limb_field.token_centres(grid, 1) / torch.tensor([grid[1], grid[0]]) - 1
        self.register_buffer(
            "seats", torch.cat([xy, xy.square().sum(-1, keepdim=True)], -1), persistent=False
        )

    def forward(self, field: Tensor) -> Tensor:
        return unit(self.project(field) + self.table)

    def carry(self, field: Tensor, matched: Tensor, log_sharpness: Tensor) -> tuple[Tensor, Tensor]:
        """What the source shows where its limbs are those of `field`, f32[B, N, C]; and where that is.

        `matched` is f32[B, 2, Ns, C]. The second is f32[B, N * PLACES, 3]: the mean place in the source, x and y in
        -1..1, and its variance.
        """
        query = self(field) * (log_sharpness.exp() / self.width)
        keys, values = matched.reshape(len(matched), 2, -1, self.width).unbind(1)
        shares = torch.softmax(self.scores(query, keys), dim=-1)
        with torch.autocast(shares.device.type, enabled=False):  # a place rounded to bf16 is half a pixel off
            moments = shares.float() @ self.seats
        mean = moments[..., :2]
        variance = moments[..., 2:] - mean.square().sum(-1, keepdim=True)
        return by_token(shares @ values), torch.cat([mean, variance], dim=-1)


def by_token(places: Tensor) -> Tensor:
    """f32[B, N, PLACES * C] of f32[B, N * PLACES, C]."""
    return places.reshape(len(places), places.shape[1] // limb_field.PLACES, -1)


class SourceBranch(nn.Module):
    """Source latents f32[B, c, h, w] -> context f32[B, 1 + depth, 2, Ns, C].

    With `limbs` the source's joints are estimated, and `context[:, 0]` is what target tokens are matched with (see
    `Match`); without it the context has the depth layers only.
    """

    table: Tensor

    def __init__(
        self, size: Size, grid: tuple[int, int], latents: int, patch: int, limbs: limb_field.LimbField | None
    ) -> None:
        super().__init__()
        self.depth, self.matched = size.depth, limbs is not None
        self.layers = size.depth + self.matched
        self.heads = size.heads
        self.embed = nn.Conv2d(latents, size.width, patch, stride=patch)
        self.register_buffer("table", positions(*grid, size.width), persistent=False)
        self.null = nn.Parameter(torch.zeros(size.width))
        self.blocks = nn.ModuleList(
            SourceBlock(size.width, size.heads, grid) for _ in range(size.source_depth)
        )
        self.norm = nn.LayerNorm(size.width)
        self.project = nn.Linear(size.width, size.depth * 2 * size.width)
        if limbs is not None:
            self.limbs = limbs
            self.joints = JointEstimator(latents, patch, grid, limbs.pitch).requires_grad_(False)
            self.match, self.carry = Match(grid, size.width), nn.Linear(size.width, size.width)

    def of_blocks(self, context: Tensor) -> tuple[Tensor, ...]:
        """A context's keys and values f32[B, 2, Ns, C] of every block; what may follow them (detail) is left out."""
        return context[:, int(self.matched) : self.layers].unbind(1)

    def forward(self, latents: Tensor, keep: Tensor | None = None) -> Tensor:
        """`keep` bool[B]: False replaces a source by the null token (classifier-free dropout)."""
        x = self.embed(latents).flatten(2).transpose(1, 2) + self.table
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if keep is not None:
            x = torch.where(keep[:, None, None], x, self.null)
        k, v = self.project(x).unflatten(-1, (self.depth, 2, self.heads, -1)).unbind(3)
        context = torch.stack([unit(k).flatten(3), v.flatten(3)], dim=3).permute(0, 2, 3, 1, 4)
        if not self.matched:
            return context
        keys = by_token(self.match(self.limbs(self.joints(latents))))
        if keep is not None:
            keys = keys * keep[:, None, None].to(keys.dtype)  # nothing to be matched: all places alike
        matched = torch.stack([keys, self.carry(x)], dim=1)
        return torch.cat([matched[:, None], context], dim=1)


class RPFMTransformer(nn.Module):
    """The velocity network. Latents are f32[B, c, h, w]; the pose comes as keypoints f32[B, 133, 3].

    The pose is drawn and encoded by `skeleton` where one is given (the paper's way), else it is a limb field, by
    which source and target are matched too.
    """

    table: Tensor
    span: TimeEmbedding | None

    def __init__(
        self,
        size: Size,
        *,
        height: int,
        width: int,
        latents: int,
        stride: int,
        patch: int,
        skeleton: SkeletonLatent | None = None,
    ) -> None:
        super().__init__()
        self.patch, self.latents = patch, latents
        pitch = stride * patch
        self.grid = (height // pitch, width // pitch)
        own = None if skeleton else limb_field.LimbField(height, width, pitch, ESTIMATED)
        self.source = SourceBranch(size, self.grid, latents, patch, own)
        self.pose_field = skeleton or limb_field.LimbField(height, width, pitch)
        channels = latents * patch * patch if skeleton else limb_field.PLACES * limb_field.WIDTH
        self.pose = nn.Sequential(
            nn.Linear(channels, size.width), nn.ReLU(), nn.Linear(size.width, size.width)
        )
        self.register_buffer("table", positions(*self.grid, size.width), persistent=False)
        self.embed = nn.Conv2d(latents, size.width, patch, stride=patch)
        if self.source.matched:
            self.carried = nn.Linear(size.width, size.width)
            self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.time = TimeEmbedding(size.width, size.depth)
        self.register_module("span", None)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, self.grid) for _ in range(size.depth))
        self.head = nn.Linear(size.width, latents * patch * patch)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def add_span(self) -> None:
        """Makes the network any-step: it is told the length of its step too, and starts as if it were not."""
        self.span = TimeEmbedding(self.table.shape[-1], len(self.blocks))
        nn.init.zeros_(self.span.project.bias)

    def modulation(self, t: Tensor, r: Tensor) -> Tensor:
        """f32[B, rows, C] of steps from t to r, both f32[B]; only an any-step network (`add_span`) looks at r."""
        own = self.time(t)
        return own if self.span is None else own + self.span(r - t)  # type: ignore[no-any-return]

    def pose_tokens(self, keypoints: Tensor, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the tokens are before any noise, f32[B, N, C]; made once a frame, whatever the number of steps.

        The pose, the place, and what the source shows at the matching places of its own limbs. The second is where
        these are, see `Match.carry`; None where nothing is matched.
        """
        field = self.pose_field(keypoints)
        if not self.source.matched:
            return self.pose(field) + self.table, None
        seen, where = self.source.match.carry(field, context[:, 0], self.log_sharpness)
        return self.pose(by_token(field)) + self.table + self.carried(seen), where

    def velocity(self, x_t: Tensor, modulation: Tensor, context: Tensor, pose: Tensor) -> Tensor:
        """v f32[B, c, h, w] at x_t, from modulation [B or 1, rows, C], context [B, 1 + L, 2, Ns, C], pose [B, N, C]."""
        x = self.embed(x_t).flatten(2).transpose(1, 2) + pose
        layers = self.source.of_blocks(context)
        for index, block in enumerate(self.blocks):
            x = block(x, layers[index], modulation[:, 6 * index : 6 * index + 6])
        shift, scale = modulation[:, -2:].unsqueeze(2).unbind(1)
        return self.unpatch(self.head(modulate(x, shift, scale)))

    def unpatch(self, x: Tensor) -> Tensor:
        """Tokens f32[B, N, c * patch^2] -> latents f32[B, c, h, w]."""
        x = x.transpose(1, 2).reshape(len(x), -1, *self.grid)
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x

    def forward(
        self, x_t: Tensor, t: Tensor, source: Tensor, keypoints: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """v f32[B, c, h, w] for training.

        `source` latents are f32[S, c, h, w] with B = S * m: each source serves the m consecutive targets,
        so the source branch runs once for them. `keep` is bool[S].
        """
        context = self.source(source, keep)
        repeat = x_t.shape[0] // source.shape[0]
        if keep is not None:
            shown = keypoints[..., 2:] * keep.repeat_interleave(repeat)[:, None, None].to(keypoints.dtype)
            keypoints = torch.cat([keypoints[..., :2], shown], dim=-1)
        context = context.repeat_interleave(repeat, dim=0)
        tokens, _ = self.pose_tokens(keypoints, context)
        return self.velocity(x_t, self.time(t), context, tokens)
